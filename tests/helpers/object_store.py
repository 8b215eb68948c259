"""An object store that speaks enough of S3 to put, get and look at objects; no signatures."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class ObjectStore:
    """A server on a free port of this machine.

    Attributes:
        objects: Contents by /bucket/key.
        written: Keys in the order in which they came.
    """

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.written: list[str] = []
        store = self

        class Handler(_Handler):
            objects = store.objects
            written = store.written

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> "ObjectStore":
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    objects: dict[str, bytes]
    written: list[str]

    def do_PUT(self) -> None:
        key = self.path.split("?")[0]
        self.objects[key] = self.rfile.read(int(self.headers["Content-Length"]))
        self.written.append(key)
        self._answer(200, b"")

    def do_HEAD(self) -> None:
        self._give(with_body=False)

    def do_GET(self) -> None:
        self._give(with_body=True)

    def _give(self, *, with_body: bool) -> None:
        data = self.objects.get(self.path.split("?")[0])
        if data is None:
            body = b"<Error><Code>NoSuchKey</Code><Message>no such key</Message></Error>"
            self._answer(404, body if with_body else b"", kind="application/xml")
            return
        wanted = self.headers.get("Range")
        if wanted is None:
            self._answer(200, data, with_body=with_body)
            return
        first, last = wanted.removeprefix("bytes=").split("-")
        part = data[int(first) : int(last) + 1 if last else len(data)]
        span = f"bytes {first}-{int(first) + len(part) - 1}/{len(data)}"
        self._answer(206, part, with_body=with_body, span=span)

    def _answer(
        self,
        status: int,
        data: bytes,
        *,
        with_body: bool = True,
        kind: str = "application/octet-stream",
        span: str | None = None,
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Content-Type", kind)
        self.send_header("ETag", f'"{len(data)}"')
        self.send_header("Last-Modified", "Sat, 01 Jan 2000 00:00:00 GMT")
        if span:
            self.send_header("Content-Range", span)
        self.end_headers()
        if with_body:
            self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""
