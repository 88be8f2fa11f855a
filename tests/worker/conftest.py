"""Fixtures: databases, and workers on them in threads of this process, with fake models."""

import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import apsw
import pytest
from harness import FakeModel

import sqlembed
from sqlembed.cli.working import open_with
from sqlembed.engine import clients
from sqlembed.engine.local import LocalEngine
from sqlembed.errors import ClientGoneError
from sqlembed.worker.conditions import Condition, condition
from sqlembed.worker.loop import Worker
from sqlembed.worker.report import Report
from sqlembed.worker.stop import Stop

PATIENCE_SECONDS = 30.0


def until(found: Callable[[], Any], what: str) -> None:
    """Wait until something is so."""
    end = time.monotonic() + PATIENCE_SECONDS
    while not found():
        assert time.monotonic() < end, f"{what}: not within {PATIENCE_SECONDS} seconds"
        time.sleep(0.005)


class Working:
    """A worker in a thread, and what it says."""

    def __init__(self, engine: LocalEngine, chosen: Condition, *paths: str, once: bool) -> None:
        self.told: list[str] = []
        self.warned: list[str] = []
        self.stop = Stop()
        self.well: bool | None = None
        report = Report(self.told.append, self.warned.append, "the moon is up")
        opened = partial(open_with, engine=engine)
        self._worker = Worker(paths, opened, self.stop, report, chosen)
        self._once = once
        self._ended = False
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        clients.gone.set(self.stop.asked)
        self.well = self._worker.run(once=self._once)

    def wait(self) -> bool:
        """Whether all went well, when it has ended."""
        self._thread.join(PATIENCE_SECONDS)
        assert not self._thread.is_alive(), "the worker goes on"
        assert self.well is not None, "the worker failed"
        return self.well

    def end(self) -> None:
        """Stop it, if it has not ended."""
        if self._ended:
            return
        self._ended = True
        self.stop.ask()
        self._thread.join(PATIENCE_SECONDS)
        self.stop.close()


class Place:
    """Makes databases and workers."""

    def __init__(self, directory: Path, engine: LocalEngine) -> None:
        self._directory = directory
        self.engine = engine
        self.workers: list[Working] = []

    def path(self, name: str) -> str:
        """A file's path."""
        return str(self._directory / f"{name}.db")

    def make(self, name: str, rows: int = 10, options: str = "") -> str:
        """A database whose table t has so many rows that wait; its path."""
        db = sqlembed.connect(self.path(name), engine=self.engine)
        db.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, body)")
        texts = [(f"{name} number {n}",) for n in range(1, rows + 1)]
        db.execute("BEGIN")
        db.executemany("INSERT INTO t(body) VALUES (?)", texts)
        db.execute("COMMIT")
        db.execute(f"""SELECT sqlembed_index('t', 'body', '{{"backlog": "later"{options}}}')""")
        db.close()
        return self.path(name)

    def sql(self, path: str, sql: str, *bindings: Any) -> list[Any]:
        """Run SQL in a connection of its own."""
        db = sqlembed.connect(path, engine=self.engine)
        try:
            return db.execute(sql, bindings or None).fetchall()
        finally:
            db.close()

    def waiting(self, path: str) -> int:
        """How many rows wait, of all indexes."""
        return int(self.sql(path, "SELECT coalesce(sum(waiting), 0) FROM sqlembed_status")[0][0])

    def work(
        self,
        *paths: str,
        once: bool = False,
        chosen: Condition | None = None,
        engine: LocalEngine | None = None,
    ) -> Working:
        """Start a worker."""
        made = Working(engine or self.engine, chosen or condition("always"), *paths, once=once)
        self.workers.append(made)
        return made

    def once(self, *paths: str) -> Working:
        """A worker that has ended."""
        made = self.work(*paths, once=True)
        made.wait()
        return made


@pytest.fixture
def place(tmp_path: Path, engine: LocalEngine, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """A directory for databases and workers; the fake model leaves what nobody waits for."""
    embed = FakeModel.embed

    def leaving(self: FakeModel, texts: list[str], role: str) -> object:
        vectors = embed(self, texts, role)
        if clients.gone.get()():
            raise ClientGoneError("nobody waits any more")
        return vectors

    monkeypatch.setattr(FakeModel, "embed", leaving)
    made = Place(tmp_path, engine)
    yield made
    for each in made.workers:
        each.end()


@pytest.fixture
def plain(place: Place) -> Iterator[Callable[[str], apsw.Connection]]:
    """Connections that never heard of sqlembed."""
    opened: list[apsw.Connection] = []

    def connect(path: str) -> apsw.Connection:
        opened.append(apsw.Connection(path))
        opened[-1].set_busy_timeout(20_000)
        return opened[-1]

    yield connect
    for each in opened:
        each.close()
