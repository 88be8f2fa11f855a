"""``examples/backlog.py``: what waits is computed by workers, and imported."""

import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path

import backlog
import pytest
from harness import FakeModel, Sql
from service.scene import until

import sqlembed

LATER = """SELECT sqlembed_index('sms', 'body', '{"backlog": "later"}')"""
PATIENCE_SECONDS = 120
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


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[str]:
    """The address of a scheduler of Dask that has one worker, each a process of its own."""
    told = tmp_path / "scheduler.json"
    common = ["--scheduler-file", str(told), "--no-dashboard"]
    command = [sys.executable, "-m", "distributed.cli.dask_"]
    with ExitStack() as stack:
        for name, more in (("scheduler", ["--host", "127.0.0.1", "--port", "0"]), ("worker", [])):
            made = [*command[:-1], command[-1] + name, *common, *more]
            log = stack.enter_context((tmp_path / name).open("w"))
            process = stack.enter_context(subprocess.Popen(made, cwd=tmp_path, stderr=log))
            stack.callback(process.terminate)
        until(lambda: told.is_file() and told.read_text(), "the scheduler's address")
        yield json.loads(told.read_text())["address"]


@pytest.mark.model
def test_dask_computes_with_the_real_model(tmp_path: Path, cluster: str) -> None:
    with closing(sqlembed.connect(str(tmp_path / "app.db"))) as db:
        db.execute("CREATE TABLE sms(id INTEGER PRIMARY KEY, body TEXT)")
        db.execute("INSERT INTO sms(body) VALUES ('A warm coat'), ('Rubber boots'), (?)", (LONG,))
        db.execute("INSERT INTO sms(body) VALUES ('An umbrella')")
        db.execute(LATER)
        command = [sys.executable, backlog.__file__, db.filename, "sms", "--dask", cluster]
        ran = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS)
        assert (ran.stdout, ran.stderr) == ("4 vectors were taken\n", "")
        assert db.execute("SELECT id FROM knn('sms', 'it rains', 1)").get == 4
