"""Several processes write, search and flush one file at once: none ever hears that it is locked."""

import subprocess
import sys
from pathlib import Path

import apsw
import numpy as np
import pytest
from doors_harness import PYTHON, serving
from harness import Sql

import sqlembed
from sqlembed import extension
from sqlembed.engine.local import LocalEngine

PROGRAM = Path(__file__).with_name("traffic.py")
WRITERS, TRANSACTIONS = 3, 250
TIMEOUT = 5000
"""Milliseconds that a program waits for a lock."""
PATIENCE_SECONDS = 120


class Program:
    """A process of the traffic."""

    def __init__(self, python: str, role: str, *arguments: object) -> None:
        self.role = role
        command = [python, str(PROGRAM), role, *map(str, arguments)]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)

    def begun(self) -> None:
        """Wait until it has opened the database."""
        assert self._process.stdout and self._process.stdout.readline() == "begun\n", self.role

    def end(self) -> int:
        """Have it end, or wait for its end: what it has done; it must not have failed."""
        told, complaint = self._process.communicate(timeout=PATIENCE_SECONDS)
        assert (self._process.returncode, complaint) == (0, ""), f"{self.role}: {complaint}"
        return int(told.split()[-1])


@pytest.mark.parametrize("journal", ["wal", "delete"])
@pytest.mark.doors("apsw", "extension")
def test_nobody_is_told_that_the_database_is_locked(
    journal: str,
    door: str,
    engine: LocalEngine,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = tmp_path / "app.db"
    sql = Sql(sqlembed.connect(str(path), engine=engine))
    sql(f"PRAGMA journal_mode = {journal}")
    sql("CREATE TABLE t(id INTEGER PRIMARY KEY AUTOINCREMENT, body TEXT)")
    sql("SELECT sqlembed_index('t', 'body')")
    python = sys.executable if door == "apsw" else PYTHON
    loaded = door if door == "apsw" else extension.path()
    with serving(engine) as socket:
        monkeypatch.setenv("SQLEMBED_SOCKET", str(socket))
        served = [Program(python, "search", path, TIMEOUT, loaded) for _ in range(2)]
        # Who has no patience of its own is given some by us, while it works for us.
        served += [Program(python, "flush", path, timeout, loaded) for timeout in (TIMEOUT, 0)]
        for each in served:
            each.begun()
        writers = [
            Program(sys.executable, "write", path, TIMEOUT, "", number, TRANSACTIONS)
            for number in range(WRITERS)
        ]
        assert [writer.end() for writer in writers] == [TRANSACTIONS] * WRITERS
        done = [(each.role, each.end()) for each in served]
    # One flush may have left nothing to the other.
    assert {role for role, number in done if number} == {"search", "flush"}, done
    rows = dict(sql("SELECT id, body FROM t"))
    assert sum(sql("SELECT indexed + waiting FROM sqlembed_status")) >= len(rows)
    sql("SELECT sqlembed_flush()")
    assert sql("SELECT indexed, waiting, failed, problem FROM sqlembed_status") == [
        (len(rows), 0, 0, None)
    ]
    # Not in a connection that knows FTS5's table from before others wrote to it: SQLite 3.53 takes
    # what they wrote for damage.
    assert Sql(apsw.Connection(str(path)))("PRAGMA integrity_check") == ["ok"]
    for question in ("writer 1 step 7 word 8", "word"):
        found = dict(sql("SELECT id, distance FROM knn('t', ?, ?)", question, len(rows) + 10))
        (query,) = np.frombuffer(engine.embed([question], None, "query")[0], "<f4")[None]
        vectors = engine.embed(list(rows.values()), None, "document")
        assert found == {
            key: pytest.approx(1 - float(query @ np.frombuffer(vector, "<f4")), abs=1e-5)
            for key, vector in zip(rows, vectors, strict=True)
        }
    sql.close()
