"""Immediate mode: the writing connection stores what it writes; others lose nothing."""

import sqlite3
from contextlib import suppress

import apsw
import pytest
from harness import FAILING, FakeModel, Sql

import sqlembed
from sqlembed.engine.local import LocalEngine
from sqlembed.errors import SchemaError


@pytest.fixture
def immediate(sql: Sql) -> Sql:
    sql("CREATE TABLE t(id INTEGER PRIMARY KEY, body)")
    sql("INSERT INTO t VALUES (1, 'first text')")
    sql("""SELECT sqlembed_index('t', 'body', '{"mode": "immediate"}')""")
    return sql


def status(sql: Sql) -> tuple[int, int]:
    return sql("SELECT indexed, waiting FROM sqlembed_status")[0]


def test_every_kind_of_write_is_stored_at_once(immediate: Sql) -> None:
    sql = immediate
    sql("INSERT INTO t(body) VALUES ('second text'), ('third text')")
    assert status(sql) == (3, 0)
    sql("INSERT INTO t(body) SELECT body || ' again' FROM t")
    assert status(sql) == (6, 0)
    sql("UPDATE t SET body = 'changed ' || id")
    assert status(sql) == (6, 0)
    assert sql("SELECT id FROM knn('t', 'changed 4', 1)") == [4]
    sql("INSERT OR REPLACE INTO t VALUES (4, 'replaced')")
    assert sql("SELECT id FROM knn('t', 'replaced', 1)") == [4]
    sql("DELETE FROM t WHERE id > 1")
    assert status(sql) == (1, 0)
    assert sql.one("SELECT count(*) FROM sqlembed_chunk_1") == 1


def test_it_follows_transactions(immediate: Sql) -> None:
    sql = immediate
    sql("BEGIN")
    sql("INSERT INTO t(body) VALUES ('second text')")
    sql("SAVEPOINT inner")
    sql("INSERT INTO t(body) VALUES ('third text')")
    sql("ROLLBACK TO inner")
    assert status(sql) == (2, 0)
    sql("COMMIT")
    assert sorted(sql("SELECT id FROM knn('t', 'text')")) == [1, 2]
    sql("BEGIN")
    sql("DELETE FROM t")
    sql("ROLLBACK")
    assert status(sql) == (2, 0)


def test_a_model_that_fails_stops_no_write(immediate: Sql) -> None:
    sql = immediate
    sql("INSERT INTO t(body) VALUES (?)", FAILING)
    assert sql("SELECT body FROM t WHERE id = 2") == [FAILING]
    assert status(sql) == (1, 1)
    sql("UPDATE t SET body = 'harmless' WHERE id = 2")
    assert sql("SELECT id FROM knn('t', 'harmless', 1)") == [2]
    sql("SELECT sqlembed_flush()")
    assert status(sql) == (2, 0)


def test_other_programs_leave_their_rows_waiting(immediate: Sql, engine: LocalEngine) -> None:
    sql = immediate
    plain = sqlite3.connect(sql.db_path, isolation_level=None)
    plain.execute("INSERT INTO t(body) VALUES ('from outside')")
    plain.close()
    assert status(sql) == (1, 1)
    another = sqlembed.connect(sql.db_path, engine=engine)
    another.execute("INSERT INTO t(body) VALUES ('from another connection')")
    assert status(sql) == (2, 1)
    another.close()
    assert sql("SELECT sqlembed_flush()") == [1]


def test_a_flush_under_way_stores_no_text_older_than_what_was_written_at_once(
    immediate: Sql, engine: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = sqlite3.connect(immediate.db_path, isolation_level=None)
    plain.execute("UPDATE t SET body = 'an older text' WHERE id = 1")
    plain.close()
    flushing = Sql(sqlembed.connect(immediate.db_path, engine=engine))
    embed = FakeModel.embed

    def overtaken(self: FakeModel, texts: list[str], role: str) -> object:
        monkeypatch.setattr(FakeModel, "embed", embed)
        immediate("UPDATE t SET body = 'the newest one' WHERE id = 1")
        return embed(self, texts, role)

    monkeypatch.setattr(FakeModel, "embed", overtaken)
    assert flushing.one("SELECT sqlembed_flush()") == 0
    flushing.close()
    assert status(immediate) == (1, 0)
    nearest = "SELECT id, distance < 1e-6 FROM knn('t', 'the newest one', 1)"
    assert immediate(nearest) == [(1, 1)]


def test_deferred_indexes_are_left_alone(immediate: Sql) -> None:
    immediate("CREATE TABLE u(id INTEGER PRIMARY KEY, body)")
    immediate("SELECT sqlembed_index('u', 'body')")
    FakeModel.texts.clear()
    immediate("INSERT INTO u(body) VALUES ('not now')")
    assert FakeModel.texts == []


def test_dropping_it_ends_it(immediate: Sql) -> None:
    immediate("SELECT sqlembed_drop('t')")
    immediate("INSERT INTO t(body) VALUES ('plain')")
    assert immediate("SELECT * FROM sqlembed_status") == []


@pytest.mark.doors("apsw")
def test_a_statement_that_is_undone_while_its_row_is_stored_is_said_to_be(
    sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen in SQLite where REPLACE fires triggers, when another had changed the schema."""
    sql("CREATE TABLE t(id INT PRIMARY KEY, body TEXT)")
    sql("PRAGMA recursive_triggers = on")
    sql("""SELECT sqlembed_index('t', 'body', '{"mode": "immediate"}')""")
    sql("INSERT INTO t VALUES (6, 'alpha')")
    sql("INSERT INTO t VALUES (2, 'beta')")
    sql("UPDATE t SET body = upper(body)")
    other = apsw.Connection(sql.db_path)
    other.execute("CREATE TABLE more(x)")
    other.close()
    with suppress(SchemaError):  # its words say so
        sql("UPDATE OR REPLACE t SET id = 2 WHERE id = 6")
    sql("UPDATE OR REPLACE t SET id = 2 WHERE id = 6")
    assert sql("SELECT id, text FROM knn('t', 'alpha', 9)") == [(2, "ALPHA")]
    assert sql("SELECT * FROM sqlembed_check") == []
