"""A disk, or a database, with no room left: an error in words, charged to no row; then all goes on."""

import os
import resource
import signal
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest
from crash import truth
from crash.conftest import ROWS, make
from crash.world import World

import sqlembed
from sqlembed.engine.cache import Cache
from sqlembed.engine.local import LocalEngine
from sqlembed.errors import SchemaError
from sqlembed.index import backlog

FULL = "database or disk is full|the disk or the database is full: make room"
FLUSH = "SELECT sqlembed_flush()"
CHARGED = """
SELECT count(*) FROM sqlembed_backlog WHERE tries > 0 OR error IS NOT NULL OR due IS NULL"""
OFTEN = backlog.MOST_TAKES + 2
"""Flushes that fail: more than the deaths of a process for which a row is set aside."""


def fails_and_charges_nobody(db: apsw.Connection, here: World, engine: LocalEngine) -> None:
    """Flush until there is no room, again and again."""
    before = db.execute("SELECT count(*), sum(length(body)) FROM t").fetchall()
    for _ in range(OFTEN):
        with pytest.raises((apsw.FullError, SchemaError), match=FULL):
            db.execute(FLUSH).fetchall()
        assert not db.in_transaction
        assert db.execute(CHARGED).get == 0
        assert db.execute("SELECT failed, last_error FROM sqlembed_status").get == (0, None)
    assert db.execute("SELECT count(*), sum(length(body)) FROM t").fetchall() == before
    assert 0 < db.execute("SELECT waiting FROM sqlembed_status").get <= ROWS
    truth.snapshot(db, engine, here, "row number 7", stored=True)


def test_a_database_that_may_not_grow(waits: World, engine: LocalEngine) -> None:
    db = sqlembed.connect(waits.path, engine=engine)
    pages = db.execute("PRAGMA page_count").get
    db.execute(f"PRAGMA max_page_count = {pages + 20}")
    fails_and_charges_nobody(db, waits, engine)
    db.execute("PRAGMA max_page_count = 100000")
    truth.whole(db, engine, waits, "row number 7")
    db.close()


@pytest.mark.parametrize("journal", ["delete", "wal"])
def test_a_file_system_that_is_full(small: Path, journal: str, engine: LocalEngine) -> None:
    here = make(World(str(small), journal=journal, rows=ROWS), engine)
    ballast = small / "ballast"
    free = os.statvfs(small).f_bavail * os.statvfs(small).f_frsize
    ballast.write_bytes(bytes(free - 150_000))
    db = sqlembed.connect(here.path, engine=engine)
    fails_and_charges_nobody(db, here, engine)
    with pytest.raises(apsw.FullError):
        db.execute("INSERT INTO t SELECT id + 1000, id + 1000, hex(zeroblob(2000)) FROM t")
    ballast.unlink()
    assert db.execute("SELECT count(*) FROM t").get == ROWS
    truth.whole(db, engine, here, "row number 7")
    db.close()


def in_a_child(work: Callable[[], None]) -> int:
    """The exit code of *work* in a process of its own."""
    child = os.fork()
    if not child:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_process_that_may_write_no_larger_files(waits: World, engine: LocalEngine) -> None:
    def limited() -> None:
        db = sqlembed.connect(waits.path, engine=LocalEngine(Cache(":memory:", 1 << 24)))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        size = os.path.getsize(waits.path) + 100_000
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
        for _ in range(OFTEN):
            with pytest.raises((apsw.Error, SchemaError), match=f"{FULL}|disk I/O error"):
                db.execute(FLUSH).fetchall()
            assert db.execute(CHARGED).get == 0

    assert in_a_child(limited) == 0
    db = sqlembed.connect(waits.path, engine=engine)
    assert db.execute("SELECT waiting > 0 FROM sqlembed_status").get == 1
    truth.whole(db, engine, waits, "row number 7")
    db.close()


def test_a_cache_on_a_file_system_that_is_full(small: Path, waits: World) -> None:
    (small / "ballast").write_bytes(bytes(900_000))
    cached = LocalEngine(Cache(str(small / "cache.db"), 1 << 26))
    db = sqlembed.connect(waits.path, engine=cached)
    assert db.execute(FLUSH).get == ROWS
    assert "full" in db.execute("SELECT problem FROM sqlembed_cache").get
    truth.whole(db, cached, waits, "row number 7")
    (small / "ballast").unlink()
    db.execute("UPDATE t SET body = body || ' changed'")
    assert db.execute(FLUSH).get == ROWS
    assert db.execute("SELECT DISTINCT problem FROM sqlembed_cache").get is None
    truth.whole(db, cached, waits, "row number 7")
    db.close()
    cached.close()
