"""What docs/storage.md claims of bytes and dumps, where an example cannot show it."""

import shutil
import subprocess
from pathlib import Path

import pytest
from harness import Sql, install_fake

import sqlembed
from sqlembed.engine.local import LocalEngine

ROWS = 2048
BYTES = "SELECT sum(pgsize) FROM dbstat WHERE name GLOB ?"


def test_a_row_costs_the_bytes_that_the_page_says(
    sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_fake("usual", dimension=384)
    sql("CREATE TABLE t(id INTEGER PRIMARY KEY, body)")
    sql("""SELECT sqlembed_index('t', 'body', '{"model": "usual"}')""")
    sql("BEGIN")
    for n in range(ROWS):
        sql("INSERT INTO t(body) VALUES (?)", f"short text number {n}")
    sql("COMMIT")
    assert sql.one(BYTES, "sqlembed_queue") / ROWS == pytest.approx(20, abs=8)
    assert sql.one("SELECT sqlembed_flush()") == ROWS
    assert sql.one(BYTES, "*sqlembed_chunk_1*") / ROWS == pytest.approx(2050, abs=50)
    assert sql("SELECT * FROM sqlembed_block") == []
    monkeypatch.setattr("sqlembed.index.blocks.SMALL", 100)
    sql("SELECT sqlembed_flush()")
    assert sql.one(BYTES, "sqlembed_block*") / ROWS == pytest.approx(260, abs=10)
    sql(
        """SELECT sqlembed_index('t', 'body', '{"name": "u", "model": "usual", "backlog": "later"}')"""
    )
    assert sql.one(BYTES, "sqlembed_backlog*") / ROWS == pytest.approx(40, abs=8)


@pytest.mark.skipif(shutil.which("sqlite3") is None, reason="the sqlite3 shell is not installed")
def test_a_dump_of_the_sqlite3_shell_restores_the_index(
    sms: Sql, engine: LocalEngine, tmp_path: Path
) -> None:
    sms("INSERT INTO sms(body) VALUES ('still waiting')")
    shell = ["sqlite3", "-batch"]
    dump = subprocess.run([*shell, sms.db_path, ".dump"], check=True, capture_output=True)
    restored = str(tmp_path / "restored.db")
    subprocess.run([*shell, restored], input=dump.stdout, check=True, capture_output=True)
    connection = sqlembed.connect(restored, engine=engine)
    copy = Sql(connection)
    assert copy("SELECT id FROM knn('sms', 'dinner at eight', 1)") == [1]
    assert copy("SELECT id FROM knn('sms', 'still waiting', 1)") == [5]
    assert copy("SELECT indexed, waiting, problem FROM sqlembed_status") == [(4, 1, None)]
    assert copy("SELECT sqlembed_flush()") == [1]
    connection.close()
