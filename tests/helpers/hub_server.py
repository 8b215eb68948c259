"""A hub on this machine that keeps one repository in memory, as far as its library asks."""

import base64
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

COMMIT = "0" * 40


class Handler(BaseHTTPRequestHandler):
    files: dict[str, bytes]
    repository: str
    protocol_version = "HTTP/1.1"

    def log_message(self, *words: Any) -> None:
        return

    def answer(self, status: int, content: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def answer_json(self, value: Any) -> None:
        self.answer(200, json.dumps(value).encode(), Content_Type="application/json")

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if "/resolve/" not in path:
            siblings = [{"rfilename": name} for name in self.files]
            self.answer_json(
                {
                    "id": self.repository,
                    "sha": COMMIT,
                    "siblings": siblings,
                    "tags": [],
                    "private": False,
                }
            )
            return
        if not path.startswith(f"/{self.repository}/"):
            self.answer(404, X_Error_Code="RepoNotFound")
            return
        content = self.files.get(path.partition("/resolve/")[2].partition("/")[2])
        if content is None:
            self.answer(404, X_Error_Code="EntryNotFound")
            return
        tag = hashlib.sha1(content, usedforsecurity=False).hexdigest()
        self.answer(200, content, ETag=f'"{tag}"', X_Repo_Commit=COMMIT)

    def do_HEAD(self) -> None:
        self.do_GET()

    def address(self) -> str:
        return f"http://{self.headers['Host']}/{self.repository}"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if "/preupload/" in self.path:
            asked = json.loads(body)["files"]
            self.answer_json(
                {
                    "files": [
                        {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False}
                        for f in asked
                    ]
                }
            )
        elif "/commit/" in self.path:
            for line in body.splitlines():
                entry = json.loads(line)
                if entry["key"] == "file":
                    value = entry["value"]
                    self.files[value["path"]] = base64.b64decode(value["content"])
            url = f"{self.address()}/commit/{COMMIT}"
            self.answer_json({"commitUrl": url, "commitOid": COMMIT, "success": True})
        else:
            self.answer_json({"url": self.address(), "valid": True, "warnings": []})


@contextmanager
def hub_server(repository: str = "me/mine") -> Iterator[tuple[str, dict[str, bytes]]]:
    """The address of a hub and the files of its repository."""
    files: dict[str, bytes] = {}
    handler = type("Kept", (Handler,), {"files": files, "repository": repository})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", files
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
