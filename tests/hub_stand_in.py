"""A stand-in for the model hub on loopback: it speaks what huggingface_hub asks, or has a fault.

As at the real one, large files lie with somebody else (a second port): the hub answers a HEAD with
where, and that place knows ranges and no tokens.
"""

import hashlib
import json
import re
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread

COMMIT = "5" * 40
REPOSITORY = "somebody/tiny"
LARGE = 10_000
"""Bytes from which on a file is kept apart, by its sha256."""

Fault = Callable[["Handler", bytes, int], None]
"""Answers a request for bytes in its own way: all of the file's, and from where on it is asked."""


class Handler(BaseHTTPRequestHandler):
    """One request."""

    server: "Part"
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        hub = self.server.hub
        if self.server is hub.store:
            self.bytes_of(hub.large[self.path.removeprefix("/store/")])
        elif not self.allowed():
            return
        elif asked := re.fullmatch(r"/api/models/(.+)/revision/(.+)", self.path):
            if asked[1] not in hub.repositories:
                self.refuse(404, "RepoNotFound")
            elif asked[2] != hub.revision:
                self.refuse(404, "RevisionNotFound")
            else:
                names = [{"rfilename": name} for name in hub.repositories[asked[1]]]
                told = {"id": asked[1], "sha": COMMIT, "siblings": names}
                self.answer(json.dumps(told).encode())
        else:
            self.bytes_of(self.named()[1] or b"")

    def do_HEAD(self) -> None:
        hub = self.server.hub
        if not self.allowed():
            return
        name, has = self.named()
        if has is None:
            self.refuse(404, "EntryNotFound")
            return
        data = hub.announced.get(name, has)
        headers = {"X-Repo-Commit": COMMIT}
        if len(data) < LARGE:
            headers["ETag"] = '"' + hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest() + '"'
            self.answer(b"", headers=headers | {"Content-Length": str(len(data))})
            return
        digest = hashlib.sha256(data).hexdigest()
        hub.large[digest] = has
        headers |= {"X-Linked-Etag": f'"{digest}"', "X-Linked-Size": str(len(data))}
        self.answer(b"", 302, headers | {"Location": f"{hub.store.url}/store/{digest}"})

    def named(self) -> tuple[str, bytes | None]:
        """The file that is asked for, and what it has, if it is there."""
        repository, _, name = self.path[1:].partition(f"/resolve/{COMMIT}/")
        return name, self.server.hub.repositories[repository].get(name)

    def allowed(self) -> bool:
        """Whether the token is right, where one is needed; and refuse whoever the hub refuses."""
        hub = self.server.hub
        hub.tokens.append(self.headers.get("Authorization"))
        hub.paths.append(self.path)
        if hub.refusals:
            self.refuse(*hub.refusals.popleft())
            return False
        if hub.token and self.headers.get("Authorization") != f"Bearer {hub.token}":
            self.refuse(401, "GatedRepo" if hub.gated else "RepoNotFound")
            return False
        return True

    def bytes_of(self, data: bytes) -> None:
        """Send a file, from where on it is asked."""
        hub = self.server.hub
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(asked[1]) if asked else 0
        if self.server is hub.store:
            hub.asked.append((start, len(data)))
            assert "Authorization" not in self.headers, "the hub's token went to somebody else"
            if hub.faults:
                hub.faults.popleft()(self, data, start)
                return
        self.part(data, start)

    def part(self, data: bytes, start: int) -> None:
        """Send what a server with ranges sends."""
        if start >= len(data) > 0:
            self.answer(b"", 416, {"Content-Range": f"bytes */{len(data)}"})
        elif start:
            told = f"bytes {start}-{len(data) - 1}/{len(data)}"
            self.answer(data[start:], 206, {"Content-Range": told})
        else:
            self.answer(data)

    def refuse(self, status: int, code: str = "") -> None:
        self.answer(b"{}", status, {"X-Error-Code": code} if code else {})

    def answer(
        self, data: bytes, status: int = 200, headers: Mapping[str, str] | None = None
    ) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def cut(self) -> None:
        """End the connection in the middle of an answer."""
        self.wfile.flush()
        self.close_connection = True

    def log_message(self, *words: object) -> None: ...


class Part(ThreadingHTTPServer):
    """The hub, or where it keeps large files."""

    daemon_threads = True

    def __init__(self, hub: "HubStandIn") -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.hub = hub

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, *_: object) -> None:
        """A client that went away is no news."""


class HubStandIn:
    """The hub with a repository, or several, and what it was asked."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self.repositories = {REPOSITORY: dict(files)}
        self.announced: dict[str, bytes] = {}
        """What it says that it has, where it has something else."""
        self.revision = "main"
        self.token: str | None = None
        self.gated = False
        self.refusals: deque[tuple[int, str]] = deque()
        self.faults: deque[Fault] = deque()
        self.asked: list[tuple[int, int]] = []
        """Of each request for a large file: from where on, and the file's size."""
        self.tokens: list[str | None] = []
        self.paths: list[str] = []
        self.large: dict[str, bytes] = {}
        """By the sha256 that was announced."""
        self.front, self.store = Part(self), Part(self)

    @property
    def files(self) -> dict[str, bytes]:
        """What the one repository has."""
        return self.repositories[REPOSITORY]


def break_off(after: int) -> Fault:
    """Send *after* bytes of what was promised, and end."""

    def fault(handler: Handler, data: bytes, start: int) -> None:
        rest = data[start:]
        handler.send_response(206 if start else 200)
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        handler.send_header("Content-Length", str(len(rest)))
        handler.end_headers()
        handler.wfile.write(rest[:after])
        handler.cut()

    return fault


def hold(after: int, reached: Event, go_on: Event) -> Fault:
    """Send *after* bytes, say so, and wait for leave to break off."""

    def fault(handler: Handler, data: bytes, start: int) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data[:after])
        handler.wfile.flush()
        reached.set()
        go_on.wait(30)
        handler.cut()

    return fault


def status(number: int) -> Fault:
    """Answer with an error."""
    return lambda handler, data, start: handler.refuse(number)


def whole(handler: Handler, data: bytes, start: int) -> None:
    """Know no ranges: send all, whatever was asked."""
    handler.answer(data)


def other(handler: Handler, data: bytes, start: int) -> None:
    """Send another file of the same length."""
    handler.part(bytes(byte ^ 1 for byte in data), start)


def longer(handler: Handler, data: bytes, start: int) -> None:
    """Say a length that is not the one announced, and send it."""
    handler.part(data + b"more", start)


def unending(handler: Handler, data: bytes, start: int) -> None:
    """Say no length, and send more than there is."""
    handler.send_response(200)
    handler.end_headers()
    handler.wfile.write(data * 3)
    handler.cut()


def shorter(handler: Handler, data: bytes, start: int) -> None:
    """Send less than announced, and say so."""
    handler.part(data[:-1000], start)


@contextmanager
def hub_standing_in(directory: Path) -> Iterator[HubStandIn]:
    """A hub with the files of *directory*, while the block runs."""
    paths = [path for path in sorted(directory.rglob("*")) if path.is_file()]
    hub = HubStandIn({path.relative_to(directory).as_posix(): path.read_bytes() for path in paths})
    threads = [Thread(target=part.serve_forever, args=(0.01,)) for part in (hub.front, hub.store)]
    for thread in threads:
        thread.start()
    try:
        yield hub
    finally:
        for part, thread in zip((hub.front, hub.store), threads, strict=True):
            part.shutdown()
            thread.join()
            part.server_close()
