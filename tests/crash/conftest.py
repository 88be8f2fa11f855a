"""Fixtures: a database that waits, and directories on file systems with little room."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from crash.world import World

import sqlembed
from sqlembed.engine.local import LocalEngine

ROWS = 300


@pytest.fixture(params=["delete", "wal"])
def waits(request: pytest.FixtureRequest, tmp_path: Path, engine: LocalEngine) -> World:
    """A database of rows that all wait, in both journal modes."""
    return make(World(str(tmp_path), journal=request.param, rows=ROWS), engine)


def make(here: World, engine: LocalEngine) -> World:
    """Make a database of rows that all wait; each has a text of a few words."""
    db = sqlembed.connect(here.path, engine=engine)
    db.execute(f"PRAGMA journal_mode = {here.journal}")
    db.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, code INTEGER UNIQUE, body)")
    rows = [(n, n, f"tag{n} row number {n}") for n in range(1, here.rows + 1)]
    with db:
        db.executemany("INSERT INTO t VALUES (?, ?, ?)", rows)
    db.execute("""SELECT sqlembed_index('t', 'body', '{"backlog": "later"}')""").fetchall()
    db.close()
    return here


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A directory on a file system of a megabyte."""
    place = tmp_path / "small"
    place.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)], capture_output=True
    )
    if made.returncode:
        pytest.skip("this user may mount no file system")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)
