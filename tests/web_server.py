"""A real server of campaigns for the tests, on loopback, as xcorr serve starts it."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import subprocess
import sys
from urllib.parse import quote

TOKEN = "a-token-for-the-tests"


class Answer:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    @property
    def text(self):
        return self.body.decode()

    def json(self):
        return json.loads(self.body)


class Server:
    def __init__(self, port):
        self.port, self.base = port, f"http://127.0.0.1:{port}"

    def ask(self, address, method="GET", token=TOKEN, host=None, **headers):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        sent = {k.replace("_", "-"): v for k, v in headers.items()}
        if token:
            sent["Authorization"] = f"Bearer {token}"
        if host:
            sent["Host"] = host
        with contextlib.closing(connection):
            connection.request(method, address, headers=sent)
            with contextlib.closing(connection.getresponse()) as answer:
                return Answer(answer.status, dict(answer.headers.items()), answer.read())

    def api(self, place, campaign="demo", **parameters):
        end = "&".join(f"{name}={quote(str(value))}" for name, value in parameters.items())
        return self.ask(f"/api/v1/campaigns/{campaign}{place}{'?' + end if end else ''}")


@contextlib.contextmanager
def serving(*folders, options=()):
    """Start ``xcorr serve`` on a free port; give the server; end it with SIGTERM."""
    command = [sys.executable, "-m", "xcorr", "serve", *map(str, folders), "--port", "0", *options]
    environment = {**os.environ, "XCORR_TOKEN": TOKEN}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            line = process.stdout.readline()
            assert "?token=" in line, line + process.stderr.read()
            yield Server(int(line.rpartition(":")[2].partition("/")[0]))
        finally:
            process.terminate()
            assert process.wait(20) in (0, -15, 143), process.stderr.read()
