"""A real S3 server (moto) on the loopback, behind a proxy that counts requests and makes faults."""

import contextlib
import http.client
import http.server
import logging
import threading
import time

BUCKET = "noise"


class Store:
    """A running store. ``requests`` lists (method, path); ``faults`` has by a part of a path what goes wrong there.

    ``signatures`` are the headers that sign the requests; ``most_at_once`` is how many were answered at a time.
    """

    def __init__(self, backend, proxy):
        import boto3

        self.requests, self.faults = [], {}
        self.signatures, self.at_once, self.most_at_once = [], 0, 0
        self.counting = threading.Lock()
        self.address = f"http://127.0.0.1:{proxy.server_port}"
        self.client = boto3.client(
            "s3", endpoint_url=f"http://127.0.0.1:{backend}", region_name="us-east-1",
            aws_access_key_id="any", aws_secret_access_key="any",
        )  # fmt: skip

    def make(self, bucket=BUCKET):
        self.client.create_bucket(Bucket=bucket, ACL="public-read")

    def put(self, key, content, bucket=BUCKET):
        self.client.put_object(Bucket=bucket, Key=key, Body=content, ACL="public-read")

    def gets(self):
        """The paths of the objects that were asked for."""
        return [path for method, path in self.requests if method == "GET" and "list-type" not in path]

    def lists(self):
        return [path for method, path in self.requests if "list-type" in path]


class Proxy(http.server.BaseHTTPRequestHandler):
    """Passes requests on to the server, ``backend``, and notes them in ``store``, or makes its faults."""

    store, backend = None, 0
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        store = self.store
        store.requests.append((self.command, self.path))
        store.signatures.append(self.headers.get("Authorization", ""))
        with store.counting:
            store.at_once += 1
            store.most_at_once = max(store.most_at_once, store.at_once)
        try:
            self._do()
        finally:
            with store.counting:
                store.at_once -= 1

    def _do(self):
        fault = next((f for part, f in self.store.faults.items() if part in self.path), None)
        if isinstance(fault, list):  # once each
            fault = fault.pop(0) if fault else None
        if isinstance(fault, int):
            return self._answer(fault, b"<Error><Code>Fault</Code><Message>made by a test</Message></Error>")
        if fault == "slow":
            time.sleep(5)
        if fault == "late":
            time.sleep(0.3)
        connection = http.client.HTTPConnection("127.0.0.1", self.backend)
        connection.request(self.command, self.path, headers=dict(self.headers))
        answer = connection.getresponse()
        content = answer.read()
        headers = {k: v for k, v in answer.getheaders() if k.lower() in ("etag", "last-modified", "content-type")}
        connection.close()
        if fault == "half":
            self.send_response(200)
            for name, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content[: len(content) // 2])
            self.close_connection = True
            return None
        return self._answer(answer.status, content, headers)

    do_HEAD = do_GET

    def _answer(self, status, content, headers=None):
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        with contextlib.suppress(ConnectionError):
            self.wfile.write(content)

    def log_message(self, *args):
        pass


@contextlib.contextmanager
def storing():
    """Run a store on free ports of the loopback."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    moto.start()
    _, backend = moto.get_host_and_port()

    proxy = http.server.ThreadingHTTPServer(("127.0.0.1", 0), type("", (Proxy,), {"backend": backend}))
    proxy.RequestHandlerClass.store = store = Store(backend, proxy)
    threading.Thread(target=proxy.serve_forever, daemon=True).start()
    try:
        yield store
    finally:
        proxy.shutdown()
        proxy.server_close()
        moto.stop()
