"""A server on this machine that gives a folder as a model hub does: hashes in headers, large files by redirection."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from engine.models.public import PublicFile, PublicModel, public_model

LARGE = ".safetensors"
COMMIT = "0" * 40


class Hub(ThreadingHTTPServer):
    """Files of `folder`. requests: method and path of each; broken: names of files that break off after half, once.

    tells: whether it names hashes; wrong: files of which it names another hash.
    """

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder, self.tells = folder, True
        self.requests: list[tuple[str, str]] = []
        self.ranges: list[str] = []
        self.broken: set[str] = set()
        self.wrong: set[str] = set()
        self.status: dict[str, int] = {}

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/"

    def fetched(self) -> list[str]:
        """The files that were sent."""
        return [path.removeprefix("/cdn/").removeprefix("/") for method, path in self.requests if method == "GET"]

    def handle_error(self, *_: object) -> None:
        """A client that goes away is what some tests are about."""


class _Handler(BaseHTTPRequestHandler):
    server: Hub

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self, *, with_body: bool) -> None:
        is_behind = self.path.startswith("/cdn/")
        name = self.path.removeprefix("/cdn/" if is_behind else "/")
        path = self.server.folder / name
        is_large = name.endswith(LARGE)
        if not (with_body and is_large and not is_behind):
            self.server.requests.append((self.command, self.path))
        status = self.server.status.get(name, 200 if path.is_file() else 404)
        if status != 200:
            self._begin(status, 0)
            return
        data = path.read_bytes()
        if is_large and not is_behind:
            digest = hashlib.sha256(data + b"!" * (name in self.server.wrong)).hexdigest()
            told = {"X-Linked-Etag": f'"{digest}"', "X-Linked-Size": str(len(data)), "X-Repo-Commit": COMMIT}
            self._begin(302, 0, Location=f"/cdn/{name}", **(told if self.server.tells else {}))
            return
        git = hashlib.sha1(b"blob %d\0" % len(data) + data + b"!" * (name in self.server.wrong)).hexdigest()
        told = (
            {"ETag": f'"{git}"', "X-Repo-Commit": COMMIT} if self.server.tells and not is_behind else {"ETag": '"v1"'}
        )
        self._send(name, data, told, with_body=with_body)

    def _send(self, name: str, data: bytes, told: dict[str, str], *, with_body: bool) -> None:
        asked = self.headers.get("Range", "")
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        if start:
            self.server.ranges.append(name)
            told |= {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"}
        self._begin(206 if start else 200, len(data) - start, **told)
        if with_body and name in self.server.broken and not start:
            self.wfile.write(data[: len(data) // 2])
            self.wfile.flush()
            self.connection.close()
        elif with_body:
            self.wfile.write(data[start:])

    def _begin(self, status: int, length: int, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()


@contextmanager
def serving(folder: Path) -> Iterator[Hub]:
    server = Hub(folder)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def row_of(hub: Hub, name: str = "tiny-turbo") -> PublicModel:
    """sd-turbo's row over that server."""
    row = public_model("sd-turbo")
    start = row.files[0].url.removesuffix(row.files[0].name)

    def moved(file: PublicFile) -> PublicFile:
        instead = moved(file.instead) if file.instead else None
        return replace(file, url=file.url.replace(start, hub.address), instead=instead)

    return replace(row, name=name, resolution=16, files=tuple(map(moved, row.files)))
