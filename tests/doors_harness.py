"""The doors through which the SQL suite runs, and the service behind two of them.

The service is a thread of the test's process, so that a test can reach the engine and the
plans inside it; the host of the extension is a process of its own.
"""

import os
import pickle
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from harness import Sql

from sqlembed import extension
from sqlembed.engine.local import LocalEngine
from sqlembed.service import conversation
from sqlembed.service.server import Server

DOORS = ("apsw", "service", "extension")
"""In this process; APSW as a client of the service; a real host with the extension loaded."""
PYTHON = "/usr/bin/python3"
"""Debian's Python, whose sqlite3 module can load extensions."""
TIMEOUT = "10"
PROGRAM = Path(__file__).with_name("host_program.py")


@contextmanager
def serving(engine: LocalEngine) -> Iterator[Path]:
    """A service on *engine* while the block runs; gives its socket, whose path is short."""
    directory = Path(tempfile.mkdtemp(prefix="sqe", dir="/tmp"))
    path = directory / "s"
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    listener.listen(128)
    server = Server(listener, engine, None)
    thread = Thread(target=server.run)
    thread.start()
    try:
        yield path
    finally:
        server.stop()
        thread.join()
        server.drain(0)
        shutil.rmtree(directory)


class Told:
    """The kinds of error that services of this process told lately."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.kinds: list[str] = []
        refuse = conversation.Conversation._refuse

        def watched(one: conversation.Conversation, kind: str, words: str) -> None:
            self.kinds.append(kind)
            refuse(one, kind, words)

        monkeypatch.setattr(conversation.Conversation, "_refuse", watched)


class Host:
    """A real program with the extension loaded, that runs one database at a time."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def __call__(self, request: Any) -> tuple[Any, ...]:
        """Answer a request of ``host_program.py``."""
        if self._process is None or self._process.poll() is not None:
            command = [PYTHON, str(PROGRAM), str(extension.path())]
            pipe = subprocess.PIPE
            plain = {k: v for k, v in os.environ.items() if not k.startswith("SQLEMBED_")}
            self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, env=plain)
        assert self._process.stdin and self._process.stdout
        pickle.dump(request, self._process.stdin)
        self._process.stdin.flush()
        answer: tuple[Any, ...] = pickle.load(self._process.stdout)
        return answer

    def end(self) -> None:
        """End the program."""
        if self._process is not None:
            with suppress(OSError):
                self._process.stdin.close()  # type: ignore[union-attr]
            self._process.stdout.close()  # type: ignore[union-attr]
            self._process.wait(10)


class HostError(Exception):
    """What the host's SQLite said."""


class HostSql(Sql):
    """SQL in a host program; its errors have the name that they have in the service."""

    def __init__(
        self, host: Host, path: str, engine: LocalEngine, told: Told, socket: Path
    ) -> None:
        self._host = host
        self._told = told
        self.db_path = path
        self.engine = engine
        self._in_transaction = False
        kind, *rest, _ = host((path, str(socket), TIMEOUT))
        assert kind == "rows", rest

    def __call__(self, sql: str, *bindings: Any) -> Any:
        self._told.kinds.clear()
        kind, *rest, self._in_transaction = self._host((sql, bindings))
        if kind == "error":
            name, message = rest
            raise HostError(f"{self._told.kinds[-1] if self._told.kinds else name}: {message}")
        (rows,) = rest
        return [row[0] for row in rows] if rows and len(rows[0]) == 1 else rows

    def error(self, sql: str, *bindings: Any) -> str:
        with pytest.raises(HostError) as caught:
            self(sql, *bindings)
        return str(caught.value)

    @property
    def in_transaction(self) -> bool:
        return self._in_transaction

    def close(self) -> None:
        self._host(None)
