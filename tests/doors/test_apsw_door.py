"""The APSW door: connect, register, connections that end, threads, and who owns what."""

import gc
import subprocess
import sys
import threading
import weakref
from pathlib import Path

import apsw
import pytest
from harness import FakeModel, Sql

import sqlembed
from sqlembed.doors.plans import run
from sqlembed.engine.local import LocalEngine
from sqlembed.functions import ALL
from sqlembed.index import catalog


def test_register_adds_everything_to_a_connection_of_yours(engine: LocalEngine) -> None:
    mine = apsw.Connection(":memory:")
    sqlembed.register(mine, engine=engine)
    sql = Sql(mine)
    names = set(
        sql("SELECT name FROM pragma_function_list UNION SELECT name FROM pragma_module_list")
    )
    assert {function.name for function in ALL} <= names
    assert sql.one("SELECT vec_length(embed('x'))") == 64
    sqlembed.register(mine, engine=engine)
    assert sql.one("SELECT vec_length(embed('x'))") == 64


def test_a_database_that_somebody_has_locked_is_opened(engine: LocalEngine, tmp_path: Path) -> None:
    path = str(tmp_path / "app.db")
    other = apsw.Connection(path)
    other.execute("CREATE TABLE t(x); BEGIN EXCLUSIVE")
    mine = apsw.Connection(path)  # without a busy timeout
    sqlembed.register(mine, engine=engine)
    assert Sql(mine).error("SELECT * FROM sqlembed_status").startswith("BusyError")
    other.execute("COMMIT")
    assert Sql(mine)("SELECT * FROM sqlembed_status") == []
    other.close()
    mine.close()


def test_a_lock_is_waited_for_by_a_connection_that_knows_no_schema_yet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(tmp_path / "app.db")
    other = apsw.Connection(path)
    other.execute("CREATE TABLE t(x); BEGIN EXCLUSIVE")
    waits = iter(range(3))

    def wait(seconds: float) -> None:
        if next(waits) == 2:
            other.execute("COMMIT")

    monkeypatch.setattr("sqlembed.doors.plans.sleep", wait)
    mine = apsw.Connection(path)  # without a busy timeout
    assert run(mine, catalog.has_catalog()) is False
    assert list(waits) == []
    other.close()
    mine.close()


@pytest.mark.doors("apsw", "service")
def test_loading_extensions_is_off_afterwards(sql: Sql) -> None:
    assert "not authorized" in sql.error("SELECT load_extension('nothing')")


def test_connections_share_the_engine_of_the_process(fake_data: Path) -> None:
    for _ in range(3):
        connection = sqlembed.connect(":memory:")
        connection.execute("SELECT embed('x')").fetchall()
        connection.close()
    assert FakeModel.texts == ["x"]


def test_a_forgotten_connection_is_freed(engine: LocalEngine) -> None:
    connection = sqlembed.connect(":memory:", engine=engine)
    Sql(connection)("SELECT * FROM sqlembed_status")
    gone = weakref.ref(connection)
    del connection
    gc.collect()
    assert gone() is None


def test_threads_with_connections_of_their_own(fake_data: Path, tmp_path: Path) -> None:
    path = str(tmp_path / "threads.db")
    first = Sql(sqlembed.connect(path))
    first("PRAGMA journal_mode = WAL")
    first("CREATE TABLE t(id INTEGER PRIMARY KEY, body)")
    first("SELECT sqlembed_index('t', 'body')")
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            sql = Sql(sqlembed.connect(path))
            for n in range(20):
                sql("INSERT INTO t(body) VALUES (?)", f"thread {number} row {n}")
                assert sql(
                    "SELECT distance < 1e-6 FROM knn('t', ?, 1)", f"thread {number} row {n}"
                ) == [1]
                if n % 5 == 0:
                    sql("SELECT sqlembed_flush()")
            sql.db.close()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    first("SELECT sqlembed_flush()")
    assert first("SELECT indexed, waiting FROM sqlembed_status") == [(80, 0)]
    first.db.close()


@pytest.mark.doors("apsw", "service")
def test_an_error_names_the_class_a_program_can_catch(sql: Sql) -> None:
    from sqlembed.errors import InputError, SqlembedError

    with pytest.raises(InputError) as caught:
        sql("SELECT embed(5)")
    assert isinstance(caught.value, SqlembedError)


def test_opening_what_is_not_a_database_is_an_error(tmp_path: Path, engine: LocalEngine) -> None:
    path = tmp_path / "text.db"
    path.write_text("this is not a database, it is a text " * 50)
    with pytest.raises(apsw.NotADBError):
        sqlembed.connect(str(path), engine=engine)


LEFT_OPEN = """
import json
import sqlembed

def mine():
    return db

db = sqlembed.connect(":memory:")
json.kept = lambda: mine  # another module's: it outlives APSW
db.execute("SELECT * FROM sqlembed_status").fetchall()
"""


def test_a_program_that_leaves_a_connection_open_ends_well() -> None:
    done = subprocess.run([sys.executable, "-c", LEFT_OPEN], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


FORKED = """
import os, sys, threading
import sqlembed

path, begun, ended = sys.argv[1], threading.Event(), threading.Event()

def write():
    db = sqlembed.connect(path)
    db.execute("PRAGMA journal_mode = DELETE; PRAGMA cache_size = 5; CREATE TABLE t(body)").fetchall()
    db.execute("BEGIN")
    for _ in range(500):  # more than the cache holds: some are in the file already
        db.execute("INSERT INTO t VALUES (hex(randomblob(500)))")
    begun.set()
    ended.wait()
    db.execute("COMMIT")

writer = threading.Thread(target=write)
writer.start()
begun.wait()
if child := os.fork():
    os.waitpid(child, 0)
    ended.set()
    writer.join()
    db = sqlembed.connect(path)
    print(db.execute("SELECT count(*) FROM t").get, db.execute("PRAGMA integrity_check").get)
"""


def test_a_forked_child_that_ends_leaves_its_parents_transaction_alone(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORKED, str(tmp_path / "app.db")],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "500 ok\n", "")
