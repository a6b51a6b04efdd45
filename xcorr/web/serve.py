"""Serves campaigns until it is stopped."""

from __future__ import annotations

import logging
import os
import secrets
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from xcorr.core import XcorrError

TOKEN = "XCORR_TOKEN"
LEAST_TOKEN = 16  # letters
GRACE_S = 2  # for open streams, at the end


class ServeError(XcorrError, OSError):
    """The server cannot be started."""


def serve(
    folders: Sequence[Path],
    host: str = "127.0.0.1",
    port: int = 0,
    hosts: Sequence[str] = (),
    root_path: str = "",
    say: Callable[[str], object] = print,
) -> None:
    """Serve campaigns at an address that is said first, until a signal ends it.

    The token is that of the environment's ``XCORR_TOKEN``, else a new one. Other hosts than this one reach the server
    only if ``hosts`` names how they call it. Raises ServeError, CampaignError.
    """
    try:
        import uvicorn

        from xcorr.web.app import create_app
        from xcorr.web.guard import LOOPBACK
    except ImportError as error:
        raise ServeError(
            f"xcorr serve needs packages that are not installed: pip install 'xcorr[web]' ({error})"
        ) from None
    if host not in LOOPBACK and not hosts:
        raise ServeError(
            f"--host {host}: other hosts would reach the server; name how they call it with --allow-host NAME, or "
            "leave --host out"
        )
    if root_path and not root_path.startswith("/"):
        raise ServeError(f"--root-path {root_path}: write it with a slash first, as /{root_path}")
    for given in hosts:
        if given.partition("://")[2] or (given.rpartition(":")[2].isdigit() and given.count(":") == 1):
            raise ServeError(f"--allow-host {given}: write the name alone, without scheme and port")
    token = os.environ.get(TOKEN) or secrets.token_urlsafe(24)
    if len(token) < LEAST_TOKEN:
        raise ServeError(f"{TOKEN}: a token of {len(token)} letters can be guessed; it needs at least {LEAST_TOKEN}")
    app = create_app([folder.absolute() for folder in folders], token, hosts)
    logging.getLogger("uvicorn.error").addHandler(logging.StreamHandler())
    bound = _bound(host, port)
    name = f"[{host}]" if ":" in host else (hosts[0] if host not in LOOPBACK else host)
    say(f"http://{name}:{bound.getsockname()[1]}/?token={quote(token)}")
    if root_path:
        say(f"behind the proxy: https://{hosts[0] if hosts else 'HOST'}{root_path}/?token={quote(token)}")
    how: dict[str, Any] = {"log_level": "warning", "access_log": False, "server_header": False, "root_path": root_path}
    config = uvicorn.Config(app, timeout_graceful_shutdown=GRACE_S, **how)
    uvicorn.Server(config).run(sockets=[bound])


def _bound(host: str, port: int) -> socket.socket:
    kind = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(kind)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
        bound.listen(128)  # so that whoever reads the address can connect at once
    except OSError as error:
        bound.close()
        raise ServeError(f"cannot listen at {host} port {port}: {error.strerror}; choose another with --port") from None
    return bound
