"""Who may ask, and what answers say to browsers: host names, token, methods, paths, and headers of security.

The token works as that of Jupyter: the printed address holds it, the first visit puts it in a cookie and takes it out
of the address. Scripts send it as ``Authorization: Bearer``.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import re
from collections.abc import Collection
from typing import Any
from urllib.parse import parse_qsl, urlencode

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from xcorr.web.problems import answer

LOOPBACK = ("127.0.0.1", "localhost", "::1")
CSP = (
    "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'"
)
REPORT_CSP = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; frame-ancestors 'none'"  # has no scripts
HEADERS = {
    "Content-Security-Policy": CSP,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
SHORT = {  # FDSN web services have both
    "network": "net", "station": "sta", "location": "loc", "channel": "cha", "starttime": "start", "endtime": "end",
}  # fmt: skip


def _inner_path(scope: Any) -> str:
    """Return the path of a request, decoded, without that under which a reverse proxy shows the server."""
    path: str = scope["path"]
    root = scope.get("root_path", "")
    return path.removeprefix(root) if path == root or path.startswith(f"{root}/") else path


class _Enough(Exception):
    """The answer to a HEAD has begun, and its body is not wanted."""


class Guard:
    """Wraps an application. ``hosts`` are the names by which the server may be called, without ports."""

    def __init__(self, app: Any, token: str, hosts: Collection[str]) -> None:
        self.app, self.token = app, token
        self.hosts = {host.lower() for host in (*LOOPBACK, *hosts)}
        self.cookie = f"xcorr-{hashlib.sha256(token.encode()).hexdigest()[:8]}"  # servers on one host have their own
        self.secret = hmac.new(token.encode(), b"xcorr cookie", "sha256").hexdigest()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        is_head = scope["method"] == "HEAD"
        refused = self._refused(Request(scope))
        scope = self._plain(scope)

        async def guarded(message: Any) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault("Cache-Control", "private, no-cache")
                await send(message)
                if is_head:
                    await send({"type": "http.response.body", "body": b""})
                    raise _Enough
            else:
                await send(message)

        try:
            with contextlib.suppress(_Enough):  # in 3.12 and later, also in the groups that tasks of a stream raise
                await (refused or self.app)(scope, receive, guarded)
        except BaseExceptionGroup as group:
            if group.split(_Enough)[1] is not None:
                raise

    def _plain(self, scope: Any) -> Any:
        """Return the request as the routes see it: a HEAD is a GET, and parameters have their short names."""
        names = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        if not _inner_path(scope).startswith("/api/"):  # forms send what was not filled in, too
            names = [(name, value) for name, value in names if value]
        kept = [(SHORT.get(name, name), value) for name, value in names if name != "token"]
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        return {**scope, "method": method, "query_string": urlencode(kept).encode()}

    def _refused(self, request: Request) -> Response | None:
        """Return the answer to a request that goes no further."""
        host = re.sub(r":\d+$", "", request.headers.get("host", "")).strip("[]").lower()
        if host not in self.hosts:
            return answer(
                request, 403, f"Host {host!r}: this server is not called so; xcorr serve --allow-host allows it"
            )
        if request.method not in ("GET", "HEAD"):
            return answer(request, 405, f"{request.method}: only GET and HEAD; nothing here can be changed",
                          {"Allow": "GET, HEAD"})  # fmt: skip
        path = _inner_path(request.scope)
        if ".." in re.split(r"[/\\]", path) or "\0" in path or "\\" in path:
            return answer(request, 404, f"{path!r}: there is no such page")
        given = [value for name, value in request.query_params.multi_items() if name == "token"]
        if given and self._is_token(given[0]):
            return None if path.startswith("/api/") else self._welcome(request)
        if self._has_token(request):
            return None
        why = "the token is wrong" if given or "authorization" in request.headers else "no token"
        text = f"{why}: open the address that xcorr serve has printed, or send the header Authorization: Bearer TOKEN"
        return answer(request, 401, text, {"WWW-Authenticate": "Bearer"})

    def _welcome(self, request: Request) -> Response:
        """Return the answer that puts the token in a cookie, and takes it out of the address."""
        rest = urlencode([(k, v) for k, v in request.query_params.multi_items() if k != "token"])
        root = request.scope.get("root_path", "")
        path = "/" + request.url.path.lstrip("/\\")  # two slashes at the beginning would name another host
        found = RedirectResponse(f"{path}{'?' if rest else ''}{rest}", 303)
        found.set_cookie(
            self.cookie, self.secret, httponly=True, samesite="strict", path=root or "/",
            secure=request.url.scheme == "https",
        )  # fmt: skip
        return found

    def _is_token(self, given: str) -> bool:
        return hmac.compare_digest(given.encode("utf-8", "replace"), self.token.encode())

    def _has_token(self, request: Request) -> bool:
        kind, _, given = request.headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and self._is_token(given.strip()):
            return True
        found = request.cookies.get(self.cookie, "")
        return hmac.compare_digest(found.encode("utf-8", "replace"), self.secret.encode())
