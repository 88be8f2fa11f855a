"""``examples/backlog.py``: what waits is computed by workers, and imported."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import backlog
import pytest
from harness import FakeModel, Sql

import sqlembed

LATER = """SELECT sqlembed_index('sms', 'body', '{"backlog": "later"}')"""
LONG = "a text of many words " * 10


@pytest.fixture
def waits(sql: Sql) -> Sql:
    """A table of 601 rows that wait, the last of them too long for one chunk."""
    sql("CREATE TABLE sms(id INTEGER PRIMARY KEY, body TEXT)")
    for n in range(1, 601):
        sql("INSERT INTO sms(body) VALUES (?)", f"message {n}")
    sql("INSERT INTO sms(body) VALUES (?), (NULL), ('')", LONG)
    sql(LATER)
    return sql


@pytest.mark.doors("apsw")
def test_every_row_has_its_vector(waits: Sql) -> None:
    with ThreadPoolExecutor(3) as pool:
        assert backlog.compute(waits.db, "sms", pool, 3) == 600
    assert waits("SELECT indexed, waiting FROM sqlembed_status") == [(602, 0)]  # a NULL has none
    assert waits("SELECT id, distance < 1e-6 FROM knn('sms', 'message 77', 1)") == [(77, 1)]
    assert waits("SELECT count(*) FROM sqlembed_check()") == [0]
    assert waits("SELECT count(*) FROM sqlite_schema WHERE name = 'backlog_vectors'") == [0]


@pytest.mark.doors("apsw")
def test_what_is_there_already_is_not_computed_again(waits: Sql) -> None:
    parts = backlog.computed

    def interrupted(*arguments: object):
        yield next(parts(*arguments))
        raise KeyboardInterrupt

    with ThreadPoolExecutor(2) as pool:
        with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(backlog, "computed", interrupted)
            backlog.compute(waits.db, "sms", pool, 1)
        assert waits.one("SELECT count(*) FROM backlog_vectors") == backlog.PART
        FakeModel.texts.clear()
        assert backlog.compute(waits.db, "sms", pool, 1) == 600
    assert len(FakeModel.texts) < 601


@pytest.mark.model
def test_processes_compute_with_the_real_model(tmp_path: Path) -> None:
    path = str(tmp_path / "app.db")
    db = sqlembed.connect(path)
    db.execute("CREATE TABLE sms(id INTEGER PRIMARY KEY, body TEXT)")
    db.execute("INSERT INTO sms(body) VALUES ('A warm coat'), ('Rubber boots'), ('An umbrella')")
    db.execute(LATER)
    script = Path(backlog.__file__)
    command = [sys.executable, str(script), path, "sms", "--processes", "1"]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert (ran.stdout, ran.stderr) == ("3 vectors were taken\n", "")
    assert db.execute("SELECT id FROM knn('sms', 'it rains', 1)").get == 3
    db.close()
