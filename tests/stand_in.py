"""A stand-in for a model's server on loopback: it answers as one does, or with a fault."""

import json
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Barrier, Lock, Thread
from typing import Any

from harness import word_vector

from sqlembed.engine.probing import to_base64
from sqlembed.weights import receipt

Fault = Callable[["Handler", dict[str, Any]], None]
"""Answers a request in its own way."""

DIMENSION = 64
PROBE = "is anybody there"


class Handler(BaseHTTPRequestHandler):
    """One request."""

    server: "StandIn"
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.asked.append((self.path, dict(self.headers), body))
            fault = self.server.faults.popleft() if self.server.faults else None
            self.server.running += 1
            self.server.most_running = max(self.server.running, self.server.most_running)
        try:
            if self.server.barrier is not None:
                self.server.barrier.wait(20)
            if fault is not None:
                fault(self, body)
            else:
                self.right(body)
        finally:
            with self.server.lock:
                self.server.running -= 1

    def right(self, body: dict[str, Any]) -> None:
        """Answer as a server does."""
        if self.path.endswith("/embeddings"):
            self.embeddings(body["input"])
        else:
            self.scores(body)

    def embeddings(self, texts: Sequence[str]) -> None:
        if len(texts) > self.server.most_texts:
            self.refuse(413, f"batch size {len(texts)} > maximum allowed batch size")
            return
        longest = max(len(text.split()) for text in texts)
        if longest > self.server.most_words:
            self.refuse(
                413,
                f"`inputs` must have less than {self.server.most_words} tokens. Given: {longest}",
            )
            return
        vectors = [word_vector(self.server.model, text, DIMENSION).tolist() for text in texts]
        rows = [{"index": n, "embedding": vector} for n, vector in enumerate(vectors)]
        self.json({"data": rows[::-1], "model": "whatever"})  # an order that is not the texts'

    def scores(self, body: dict[str, Any]) -> None:
        asked = set(body["query"].split())
        texts = body.get("documents") or body["texts"]
        scores = [len(asked & set(text.split())) / len(asked) for text in texts]
        order = sorted(range(len(texts)), key=lambda n: -scores[n])
        name = "score" if "texts" in body else "relevance_score"
        rows = [{"index": n, name: scores[n]} for n in order]
        self.json(rows if "texts" in body else {"results": rows})

    def refuse(self, status: int, words: str, headers: dict[str, str] | None = None) -> None:
        self.json({"error": {"message": words}}, status, headers)

    def json(self, answer: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self.raw(json.dumps(answer).encode(), status, headers)

    def raw(self, data: bytes, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def cut(self) -> None:
        """End the connection without an answer."""
        self.close_connection = True
        self.connection.close()

    def log_message(self, *words: object) -> None: ...


class StandIn(ThreadingHTTPServer):
    """The server; what it was asked is in ``asked``."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.model = "one"
        self.most_texts = 32
        self.most_words = 1000
        self.faults: deque[Fault] = deque()
        self.asked: list[tuple[str, dict[str, str], dict[str, Any]]] = []
        self.running = self.most_running = 0
        self.barrier: Barrier | None = None
        self.lock = Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    @property
    def texts(self) -> list[str]:
        """The texts that it was asked for, but for the probe."""
        sent = [text for _, _, body in self.asked for text in body.get("input", [])]
        return [text for text in sent if not text.endswith(PROBE)]

    def handle_error(self, *_: object) -> None:
        """A client that went away is no news."""


@contextmanager
def standing_in() -> Iterator[StandIn]:
    """A stand-in that runs while the block does."""
    server = StandIn()
    thread = Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def install_remote(name: str, url: str, keys: str = "", kind: str = "embedder", **top: Any) -> Path:
    """Write the manifest of a model on a server into the data directory."""
    path = receipt.directory() / f"{name}.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    lines: dict[str, Any] = {"context": 64, "dimension": DIMENSION, **top}
    if kind == "embedder":
        vector = to_base64(word_vector("one", PROBE, DIMENSION)[: lines["dimension"]])
        probe = f'[[probe]]\ntext = "{PROBE}"\nvector = "{vector}"'
    else:
        probe = '[[probe]]\ntext = "a b"\ndocument = "a c"\nscore = 0.5'
    path.write_text(
        f'name = "{name}"\nsummary = "For tests"\nkind = "{kind}"\nlicence = "none"\n'
        'homepage = "none"\n'
        + "".join(f"{key} = {json.dumps(value)}\n" for key, value in lines.items())
        + f'[server]\nurl = "{url}"\nmodel = "at the server"\n{keys}\n{probe}\n'
    )
    return path
