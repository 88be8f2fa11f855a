"""sqlembed_index, sqlembed_flush, sqlembed_drop, sqlembed_status: SQL on fake models."""

from pathlib import Path
from threading import Timer

import apsw
import pytest
from harness import FAILING, FakeModel, Sql

import sqlembed
from sqlembed.engine.local import LocalEngine


def objects(sql: Sql) -> list[str]:
    """The names of our objects in the schema."""
    return sql("SELECT name FROM sqlite_schema WHERE name LIKE 'sqlembed%' ORDER BY name")


def test_it_returns_when_the_rows_that_exist_are_indexed(sms: Sql) -> None:
    assert sms("SELECT name, source, expression, model, dimension, mode, indexed, chunks, waiting FROM sqlembed_status") == [
        ("sms", "sms", "body", "fake", 64, "deferred", 4, 4, 0)
    ]  # fmt: skip
    assert sms("SELECT number, name FROM sqlembed_migration") == [
        (1, "first"),
        (2, "options"),
        (3, "backlog"),
        (4, "blocks"),
        (5, "corpus"),
    ]
    assert sms.one("PRAGMA user_version") == 0


def test_later_leaves_the_rows_waiting_and_flush_stores_them(sql: Sql) -> None:
    sql("CREATE TABLE t(id INTEGER PRIMARY KEY, body)")
    sql("INSERT INTO t VALUES (1, 'a'), (2, 'b'), (3, 'c')")
    assert sql.one("""SELECT sqlembed_index('t', 'body', '{"backlog": "later"}')""") == 0
    assert FakeModel.texts == []
    assert sql("SELECT indexed, waiting FROM sqlembed_status") == [(0, 3)]
    assert sql.one("SELECT sqlembed_flush('t', 2)") == 2
    assert sql("SELECT indexed, waiting FROM sqlembed_status") == [(2, 1)]
    assert sql.one("SELECT sqlembed_flush()") == 1
    assert sql.one("SELECT sqlembed_flush()") == 0


def test_reindexing_an_unchanged_table_computes_nothing(sms: Sql) -> None:
    sms("SELECT sqlembed_drop('sms')")
    FakeModel.texts.clear()
    assert sms.one("SELECT sqlembed_index('sms', 'body')") == 4
    assert FakeModel.texts == []


def test_retry_frees_what_failed(sms: Sql) -> None:
    sms("UPDATE sms SET body = ? WHERE id < 3", FAILING)
    assert "2 rows, first key 1 cannot be stored" in sms.error("SELECT sqlembed_flush()")
    assert sms.one("SELECT sqlembed_flush()") == 0
    assert sms.one("SELECT sqlembed_retry('sms')") == 2
    assert "2 rows, first key 1 cannot be stored" in sms.error("SELECT sqlembed_flush()")
    assert sms.one("SELECT sqlembed_retry(NULL)") == 2
    assert sms("SELECT waiting, failed, last_error FROM sqlembed_status") == [(2, 0, None)]
    assert "no index is called 'x'" in sms.error("SELECT sqlembed_retry('x')")


def test_pages_commit_where_no_transaction_is_open(
    sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sqlembed.index.flush.PAGE_ROWS", 2)
    sql("CREATE TABLE t(id INTEGER PRIMARY KEY, body)")
    for n in range(6):
        sql("INSERT INTO t VALUES (?, ?)", n, FAILING if n == 5 else f"row {n}")
    assert "told to fail" in sql.error("SELECT sqlembed_index('t', 'body')")
    assert sql("SELECT indexed, waiting, failed FROM sqlembed_status") == [(5, 1, 1)]
    sql("DELETE FROM t WHERE id = 5")
    assert sql.one("SELECT sqlembed_flush('t')") == 1
    assert sql("SELECT indexed, waiting FROM sqlembed_status") == [(5, 0)]


def test_in_a_transaction_everything_belongs_to_it(sql: Sql) -> None:
    sql("CREATE TABLE t(id INTEGER PRIMARY KEY, body)")
    sql("INSERT INTO t VALUES (1, 'a text')")
    before = objects(sql)
    sql("BEGIN")
    assert sql.one("SELECT sqlembed_index('t', 'body')") == 1
    assert sql("SELECT id FROM knn('t', 'a text')") == [1]
    sql("ROLLBACK")
    assert objects(sql) == before == []
    assert sql.one("SELECT sqlembed_index('t', 'body')") == 1


def test_a_failure_leaves_nothing_half_made(sql: Sql, monkeypatch: pytest.MonkeyPatch) -> None:
    sql("CREATE TABLE t(id INTEGER PRIMARY KEY, body)")
    monkeypatch.setattr(
        "sqlembed.index.store.TABLES",
        "CREATE TABLE main.sqlembed_chunk_{id}(x); SELECT nonsense",
    )
    assert "no such column" in sql.error("SELECT sqlembed_index('t', 'body')")
    assert objects(sql) == []
    sql("BEGIN")
    sql("INSERT INTO t VALUES (1, 'kept')")
    assert "no such column" in sql.error("SELECT sqlembed_index('t', 'body')")
    sql("COMMIT")
    assert objects(sql) == []
    assert sql("SELECT body FROM t") == ["kept"]


def test_a_model_that_is_missing_fails_before_anything_is_made(sql: Sql) -> None:
    sql("CREATE TABLE t(id INTEGER PRIMARY KEY, body)")
    error = sql.error("""SELECT sqlembed_index('t', 'body', '{"model": "all-MiniLM-L6-v2"}')""")
    assert "sqlembed pull all-MiniLM-L6-v2" in error
    assert objects(sql) == []


def test_drop_removes_everything_but_the_table(sms: Sql) -> None:
    sms("SELECT sqlembed_drop('SMS')")
    assert objects(sms) == [
        "sqlembed_backlog",
        "sqlembed_backlog_order",
        "sqlembed_block",
        "sqlembed_block_order",
        "sqlembed_catalog",
        "sqlembed_catalog_replaces",
        "sqlembed_corpus",
        "sqlembed_migration",
        "sqlembed_pace",
        "sqlembed_queue",
        "sqlembed_rate",
        "sqlembed_rate_refused",
    ]
    assert sms.one("SELECT count(*) FROM sqlembed_queue WHERE index_id <> 0") == 0
    assert sms.one("SELECT count(*) FROM sqlembed_pace") == 0
    assert sms.one("SELECT count(*) FROM sms") == 4
    sms("INSERT INTO sms(body) VALUES ('unwatched')")
    assert "no index is called 'sms'" in sms.error("SELECT sqlembed_drop('sms')")


def test_drop_while_the_connection_reads_fails_cleanly(sms: Sql) -> None:
    error = sms.error("SELECT sqlembed_drop(name) FROM sqlembed_status JOIN sms")
    assert "cannot be dropped while this connection reads" in error
    assert sms.one("SELECT id FROM knn('sms', 'dinner at eight', 1)") == 1
    sms("SELECT sqlembed_drop('sms')")


def test_several_indexes_of_one_table(sms: Sql) -> None:
    sms("""SELECT sqlembed_index('sms', 'body', '{"name": "wide", "model": "wide"}')""")
    sms("INSERT INTO sms(body) VALUES ('for both')")
    assert sms("SELECT id FROM knn('sms', 'for both', 1)") == [5]
    assert sms("SELECT id FROM knn('wide', 'for both', 1)") == [5]
    assert sms.one("SELECT sqlembed_flush()") == 2


def test_if_not_exists(sms: Sql) -> None:
    assert "index sms exists already" in sms.error("SELECT sqlembed_index('sms', 'body')")
    assert sms.one("""SELECT sqlembed_index('sms', 'body', '{"if_not_exists": true}')""") == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("'nosuch', 'body'", "NotFoundError: the main database has no table 'nosuch'; its tables are keyless, t (a table"),
        ("'side.t', 'body'", "NotFoundError: the main database has no table 'side.t'"),
        ("NULL, 'body'", "InputError: the table is a text; got NULL"),
        ("'t', 'bdoy'", "NotFoundError: the expression bdoy cannot be indexed: no such column: bdoy"),
        ("'t', '\"bdoy\"'", "NotFoundError: no such column: bdoy in t"),
        ("'t', '''literal'''", "InputError: the expression 'literal' reads no column of t"),
        ("'t', '(SELECT body)'", "InputError: the expression (SELECT body) cannot be indexed: subqueries"),
        ("'t', 'body || random()'", "InputError: the expression body || random() cannot be indexed: non-deterministic"),
        ("'t', 'body, id'", "InputError: the expression body, id cannot be indexed:"),
        ("'t', 'body), (id'", "InputError: the expression body), (id cannot be indexed:"),
        ("'t', 'count(body)'", "InputError: the expression count(body) cannot be indexed:"),
        ("'t', 'body || ?'", "InputError: the expression body || ? cannot be indexed:"),
        ("'t', ''", "InputError: the expression"),
        ("'keyless', 'body'", "SchemaError: table keyless has no primary key, and its rowids change at VACUUM"),
        ("'v', 'body'", "SchemaError: v is a view, which triggers cannot watch"),
        ("'vt', 'body'", "SchemaError: vt is not an ordinary table"),
        ("'temporary', 'body'", "NotFoundError: the main database has no table 'temporary'"),
        ("'t', 'body', 'no json'", "OptionError: options are a JSON object"),
        ("'t', 'body', '[1]'", "OptionError: options are a JSON object"),
        ("'t', 'body', '{\"modle\": \"x\"}'", "OptionError: no option is called 'modle'; the options are name, model"),
        ("'t', 'body', '{\"mode\": \"slow\"}'", 'OptionError: option mode is "deferred" or "immediate"; got "slow"'),
        ("'t', 'body', '{\"model\": 5}'", "OptionError: option model is a text that is not empty; got 5"),
        ("'t', 'body', '{\"model\": \"nobody\"}'", "NotFoundError: no model is called 'nobody'"),
    ],
)  # fmt: skip
def test_bad_input_is_an_error_in_words(sql: Sql, arguments: str, message: str) -> None:
    sql("CREATE TABLE t(id INTEGER PRIMARY KEY, body)")
    sql("CREATE TABLE keyless(body)")
    sql("CREATE VIEW v AS SELECT * FROM t")
    sql("CREATE VIRTUAL TABLE vt USING fts5(body)")
    sql("CREATE TEMP TABLE temporary(id INTEGER PRIMARY KEY, body)")
    sql("ATTACH ':memory:' AS side")
    sql("CREATE TABLE side.t2(id INTEGER PRIMARY KEY, body)")
    error = sql.error(f"SELECT sqlembed_index({arguments})")
    assert error.startswith(message)
    assert objects(sql) == []


@pytest.mark.parametrize("most", ["0", "-1", "'x'", "1.5"])
def test_flush_takes_a_whole_number(sms: Sql, most: str) -> None:
    assert "whole number of 1 or more" in sms.error(f"SELECT sqlembed_flush('sms', {most})")
    assert "no index is called 'x'; the indexes are sms" in sms.error("SELECT sqlembed_flush('x')")


def test_a_locked_database_is_busy_and_loses_nothing(
    sms: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sqlembed.doors.plans.BUSY_SECONDS", 0.1)  # the extension waits ten
    sms("INSERT INTO sms(body) VALUES ('waiting')")
    sms("PRAGMA busy_timeout = 10")
    other = apsw.Connection(sms.db_path)
    other.execute("BEGIN IMMEDIATE")
    assert sms.error("SELECT sqlembed_flush()").startswith("BusyError: database is locked")
    assert sms.one("SELECT id FROM knn('sms', 'waiting', 1)") == 5
    other.execute("ROLLBACK")
    assert sms.one("SELECT sqlembed_flush()") == 1
    other.close()


def test_another_that_writes_is_waited_for(sms: Sql) -> None:
    sms("INSERT INTO sms(body) VALUES ('waiting')")
    sms("PRAGMA busy_timeout = 0")
    other = apsw.Connection(sms.db_path)
    other.execute("BEGIN IMMEDIATE")
    end = Timer(0.3, other.execute, ["ROLLBACK"])
    end.start()
    assert sms.one("SELECT sqlembed_flush()") == 1
    end.join()
    other.close()


@pytest.mark.parametrize("lock", ["BEGIN EXCLUSIVE", "BEGIN; SELECT count(*) FROM sms"])
def test_so_are_those_who_shut_readers_out_and_those_who_read(sms: Sql, lock: str) -> None:
    # With a rollback journal the first one is met by whatever a plan reads, the other by its COMMIT.
    sms("INSERT INTO sms(body) VALUES ('waiting')")
    sms("PRAGMA busy_timeout = 0")
    other = apsw.Connection(sms.db_path)
    other.execute(lock).fetchall()
    end = Timer(0.3, other.execute, ["COMMIT"])
    end.start()
    assert sms.one("SELECT sqlembed_flush()") == 1
    end.join()
    other.close()


def test_who_reads_while_another_writes_is_not_waited_for(sms: Sql) -> None:
    # With a rollback journal that one waits for the end of the reading.
    sms("INSERT INTO sms(body) VALUES ('waiting')")
    other = apsw.Connection(sms.db_path)
    sms("BEGIN")
    sms("SELECT count(*) FROM sms")
    other.execute("BEGIN IMMEDIATE; INSERT INTO sms(body) VALUES ('newer')")
    error = sms.error("SELECT sqlembed_flush()")
    sms("ROLLBACK")
    other.execute("COMMIT")
    assert error.startswith("BusyError: database is locked: another writes while this connection")
    assert sms.one("SELECT sqlembed_flush()") == 2
    other.close()


@pytest.mark.doors("apsw", "service")
def test_nor_is_who_reads_in_a_statement(sms: Sql) -> None:
    sms("INSERT INTO sms(body) VALUES ('waiting')")
    other = apsw.Connection(sms.db_path)
    reading = sms.db.execute("SELECT body FROM sms")
    assert next(reading)
    other.execute("BEGIN IMMEDIATE; INSERT INTO sms(body) VALUES ('newer')")
    assert "another writes while this connection reads" in sms.error("SELECT sqlembed_flush()")
    reading.close()
    other.execute("COMMIT")
    assert sms.one("SELECT sqlembed_flush()") == 2
    other.close()


def test_who_reads_an_older_state_is_told_what_to_do(sms: Sql) -> None:
    sms("PRAGMA journal_mode = WAL")
    sms("INSERT INTO sms(body) VALUES ('waiting')")
    other = apsw.Connection(sms.db_path)
    sms("BEGIN")
    sms("SELECT count(*) FROM sms")
    other.execute("INSERT INTO sms(body) VALUES ('newer')")
    error = sms.error("SELECT sqlembed_flush()")
    sms("ROLLBACK")
    assert error.startswith("BusyError: database is locked: this connection reads the database as")
    assert "finish the statements or the transaction that read, then call it alone" in error
    assert sms.one("SELECT sqlembed_flush()") == 2
    other.close()


@pytest.mark.doors("apsw", "service")
def test_so_is_who_reads_it_in_a_statement(sms: Sql) -> None:
    sms("PRAGMA journal_mode = WAL")
    sms("INSERT INTO sms(body) VALUES ('waiting')")
    other = apsw.Connection(sms.db_path)
    reading = sms.db.execute("SELECT body FROM sms")
    assert next(reading)
    other.execute("INSERT INTO sms(body) VALUES ('newer')")
    assert "reads the database as it was before" in sms.error("SELECT sqlembed_flush()")
    reading.close()
    assert sms.one("SELECT sqlembed_flush()") == 2
    other.close()


def test_flush_inside_a_writing_statement(sms: Sql) -> None:
    sms("CREATE TABLE log(n)")
    sms("INSERT INTO sms(body) VALUES ('waiting')")
    sms("INSERT INTO log VALUES (sqlembed_flush())")
    sms("INSERT INTO sms(body) VALUES ('more waiting')")
    sms("BEGIN")
    sms("UPDATE log SET n = n + sqlembed_flush()")
    sms("COMMIT")
    assert sms("SELECT n FROM log") == [2]
    assert sms.in_transaction is False
    assert sms("SELECT indexed, waiting FROM sqlembed_status") == [(6, 0)]


def test_a_row_changed_while_it_is_embedded_stays_on_the_queue(
    sms: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = sqlembed.connect(sms.db_path)
    embed = FakeModel.embed

    def embed_slowly(self: FakeModel, texts: list[str], role: str) -> object:
        other.execute("UPDATE sms SET body = 'newest text' WHERE id = 1")
        return embed(self, texts, role)

    sms("UPDATE sms SET body = 'newer text' WHERE id = 1")
    monkeypatch.setattr(FakeModel, "embed", embed_slowly)
    sms("SELECT sqlembed_flush()")
    monkeypatch.setattr(FakeModel, "embed", embed)
    assert sms("SELECT waiting FROM sqlembed_status") == [1]
    assert sms.one("SELECT id FROM knn('sms', 'newest text', 1)") == 1
    assert sms.one("SELECT sqlembed_flush()") == 1
    other.close()


def test_a_newer_format_is_refused(sms: Sql) -> None:
    sms("INSERT INTO sqlembed_migration(number, name) VALUES (99, 'future')")
    for statement in (
        "SELECT * FROM knn('sms', 'x')",
        "SELECT sqlembed_flush()",
        "SELECT sqlembed_index('sms', 'id')",
    ):
        assert "has format 99 of sqlembed's tables" in sms.error(statement)


def test_another_model_under_the_same_name_is_refused(sms: Sql, fake_data: Path) -> None:
    (fake_data / "models" / "fake.toml").write_text(
        (fake_data / "models" / "fake.toml")
        .read_text()
        .replace('query = ""', 'query = "now with a prompt: "')
    )
    again = sqlembed.connect(sms.db_path, engine=LocalEngine())
    sql = Sql(again)
    sql("INSERT INTO sms(body) VALUES ('another')")
    for statement in ("SELECT * FROM knn('sms', 'x')", "SELECT sqlembed_flush()"):
        assert sql.error(statement).startswith(
            "SpaceError: index sms holds vectors of fake as it was"
        )
    assert sql.one("SELECT count(*) FROM sms") == 5
    again.close()


def test_status_of_a_database_without_indexes(sql: Sql) -> None:
    assert sql("SELECT * FROM sqlembed_status") == []
    assert sql.one("SELECT sqlembed_flush()") == 0


def test_a_flush_overtaken_by_another_stores_no_older_text(
    sms: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Sql(sqlembed.connect(sms.db_path, engine=sms.engine))
    embed = FakeModel.embed

    def overtaken(self: FakeModel, texts: list[str], role: str) -> object:
        monkeypatch.setattr(FakeModel, "embed", embed)
        other("UPDATE sms SET body = 'newest text' WHERE id = 1")
        other("SELECT sqlembed_flush()")
        return embed(self, texts, role)

    sms("UPDATE sms SET body = 'newer text' WHERE id = 1")
    monkeypatch.setattr(FakeModel, "embed", overtaken)
    assert sms.one("SELECT sqlembed_flush()") == 0
    assert sms("SELECT indexed, waiting FROM sqlembed_status") == [(4, 0)]
    assert sms("SELECT id, distance < 1e-6 FROM knn('sms', 'newest text', 1)") == [(1, 1)]
    other.db.close()
