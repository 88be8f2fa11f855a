"""Texts that end the process, as by kill -9: worked on alone, then set aside; the others are stored."""

import os
import signal
from pathlib import Path

import apsw
import pytest
from crash import model, truth
from crash.world import World

import sqlembed
from sqlembed.engine.cache import Cache
from sqlembed.engine.local import LocalEngine
from sqlembed.index import backlog

DEADLY = 7, 200
"""The keys of these rows."""


def dies(here: World, times: int) -> int:
    """How often a process that flushes dies, until one does not."""
    for deaths in range(times + 1):
        child = os.fork()
        if not child:
            code = 1
            try:
                # Nothing is remembered between the deaths.
                engine = LocalEngine(Cache(":memory:", 1 << 24))
                sqlembed.connect(here.path, engine=engine).execute("SELECT sqlembed_flush()")
                code = 0
            finally:
                os._exit(code)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if code != -signal.SIGKILL:
            assert code == 0
            return deaths
    raise AssertionError("it dies again and again")


@pytest.fixture
def deadly(monkeypatch: pytest.MonkeyPatch, fake_data: Path) -> None:
    """Have the model die of a text."""
    monkeypatch.setattr("sqlembed.engine.library.Model", model.CrashModel)
    monkeypatch.setattr(model, "SLOWEST_SECONDS", 0)


def test_rows_that_end_the_process_are_set_aside(deadly: None, waits: World) -> None:
    plain = apsw.Connection(waits.path)
    for key in DEADLY:
        plain.execute("UPDATE t SET body = 'a deadly text' WHERE id = ?", (key,))
    # Together until somebody is suspect, then each of them alone.
    each = backlog.MOST_TAKES - backlog.ALONE_TAKES
    assert dies(waits, 20) == backlog.ALONE_TAKES + len(DEADLY) * each
    aside = "SELECT key, due, error FROM sqlembed_backlog ORDER BY key"
    assert plain.execute(aside).fetchall() == [(key, None, backlog.ENDED) for key in DEADLY]
    stored = "SELECT DISTINCT key FROM sqlembed_chunk_1 ORDER BY key"
    keys = [key for (key,) in plain.execute(stored)]
    assert keys == [key for key in range(1, waits.rows + 1) if key not in DEADLY]
    assert dies(waits, 0) == 0
    plain.close()

    engine = LocalEngine(Cache(":memory:", 1 << 24))
    db = sqlembed.connect(waits.path, engine=engine)
    shown = "SELECT waiting, failed, last_error, coverage < 1 FROM sqlembed_status"
    assert db.execute(shown).get == (len(DEADLY), len(DEADLY), backlog.ENDED, 1)
    truth.snapshot(db, engine, waits, "row number 7", stored=True)  # a search does not try them
    db.execute("UPDATE t SET body = 'harmless now ' || id WHERE body LIKE '%deadly%'")
    truth.whole(db, engine, waits, "row number 7")
    db.close()
    engine.close()
