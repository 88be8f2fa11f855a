"""What people and machines do to an index: odd columns, bad rows, interrupts, races, traces."""

from typing import Any

import apsw
import pytest
from harness import FakeModel, Sql

import sqlembed
from sqlembed.engine.local import LocalEngine
from sqlembed.index import flush


@pytest.mark.parametrize("key", ["INTEGER PRIMARY KEY", "TEXT PRIMARY KEY"])
def test_columns_named_like_ours(sql: Sql, key: str) -> None:
    sql(
        f"CREATE TABLE t(id {key}, key TEXT, k1 TEXT, chunk, vector, distance, generation, sqlembed_text, body)"
    )
    sql(
        "INSERT INTO t(id, key, k1, body) VALUES (1, 'a', 'b', 'first text'), (2, 'c', 'd', 'second text')"
    )
    assert sql.one("SELECT sqlembed_index('t', 'body')") == 2
    sql("ALTER TABLE t ADD COLUMN sqlembed_ours")
    sql("SELECT sqlembed_flush()")
    assert sql("SELECT indexed, waiting FROM sqlembed_status") == [(2, 0)]
    assert sql("SELECT CAST(id AS INTEGER) FROM knn('t', 'second text', 1)") == [2]


def test_a_key_column_named_key(sql: Sql) -> None:
    sql("CREATE TABLE t(key INTEGER PRIMARY KEY, code UNIQUE, body)")
    sql("INSERT INTO t VALUES (1, 'a', 'first text'), (2, 'b', 'second text')")
    sql("SELECT sqlembed_index('t', 'body')")
    sql("INSERT OR REPLACE INTO t VALUES (3, 'a', 'third text')")
    sql("SELECT sqlembed_flush()")
    assert sql("SELECT indexed FROM sqlembed_status") == [2]


@pytest.mark.parametrize(
    "kind", ["[nvarchar](50)", '"order"', "VARCHAR(10, 5)", "", "no type we know"]
)
def test_odd_types(sql: Sql, kind: str) -> None:
    sql(f"CREATE TABLE t(id INTEGER PRIMARY KEY, body {kind})")
    sql("INSERT INTO t VALUES (1, 'a text')")
    assert sql.one("SELECT sqlembed_index('t', 'body')") == 1


@pytest.mark.parametrize("key", [-(2**63), 2**63 - 1, 0, -5])
def test_keys_at_the_limits(sql: Sql, key: int) -> None:
    sql("CREATE TABLE t(id INTEGER PRIMARY KEY, body)")
    sql("INSERT INTO t VALUES (?, 'a text')", key)
    assert sql.one("SELECT sqlembed_index('t', 'body')") == 1
    assert sql("SELECT waiting FROM sqlembed_status") == [0]
    assert sql("SELECT id FROM knn('t', 'a text') WHERE id IN (?, 77)", key) == [key]


@pytest.mark.parametrize(
    "value", ["1e999", "-1e999", "1e19", "9223372036854775808", "1.5", "'1'", "x'31'"]
)
def test_ids_that_no_row_has_match_nothing(sms: Sql, value: str) -> None:
    assert sms(f"SELECT id FROM knn('sms', 'dinner', 5) WHERE id = {value}") == []
    assert sms(f"SELECT id FROM knn('sms', 'dinner', 5) WHERE id IN ({value}, 2)") == [2]


def test_several_restrictions_all_hold_before_k(sms: Sql) -> None:
    assert sms(
        "SELECT id FROM knn('sms', 'dinner at eight', 1) WHERE id IN (1, 2, 4) AND id = 4"
    ) == [4]
    assert sms(
        "SELECT id FROM knn('sms', 'dinner at eight', 1) WHERE id IN (1, 4) AND id IN (4, 3)"
    ) == [4]
    assert sms(
        "SELECT (SELECT distance FROM knn('sms', 'x') WHERE id = 1) > 0, (SELECT distance FROM knn('sms', 'x') WHERE id = 2) > 0"
    ) == [(1, 1)]


def test_a_key_that_is_not_valid_text(sql: Sql) -> None:
    sql("CREATE TABLE t(id TEXT PRIMARY KEY, body)")
    sql("SELECT sqlembed_index('t', 'body', '{\"mode\": \"immediate\"}')")
    sql("INSERT INTO t VALUES (CAST(x'ff61' AS TEXT), 'bad key'), ('good', 'good key')")
    assert sql("SELECT id FROM knn('t', 'bad key', 1)") == ["\ufffda"]
    assert sql("SELECT id FROM knn('t', 'good key', 1)") == ["good"]


def test_a_blob_in_a_composite_key_is_shown_as_hex(sql: Sql) -> None:
    sql("CREATE TABLE t(a, b, body, PRIMARY KEY(a, b))")
    sql("INSERT INTO t VALUES (1, x'00ff', 'a text')")
    sql("SELECT sqlembed_index('t', 'body')")
    assert sql("SELECT id FROM knn('t', 'a text')") == ['[1,"00FF"]']
    assert sql("""SELECT id FROM knn('t', 'a text') WHERE id IN ('[1,"00FF"]')""") == ['[1,"00FF"]']


def test_a_row_on_which_the_expression_fails_stops_no_other(sql: Sql) -> None:
    sql("CREATE TABLE t(id INTEGER PRIMARY KEY, body)")
    for n in range(20):
        sql("INSERT INTO t VALUES (?, ?)", n, f'{{"x": "row {n}"}}' if n != 7 else "no json")
    error = sql.error("SELECT sqlembed_index('t', 'json_extract(body, ''$.x'')')")
    reason = "the expression json_extract(body, '$.x') fails: malformed JSON"
    assert f"the row of key 7 cannot be stored: {reason}; the other rows are" in error
    assert sql("SELECT indexed, waiting FROM sqlembed_status") == [(19, 1)]
    assert sql("SELECT id, coverage < 1 FROM knn('t', 'row 3', 1)") == [(3, 1)]
    sql("""UPDATE t SET body = '{"x": "mended"}' WHERE id = 7""")
    assert sql("SELECT id, coverage FROM knn('t', 'mended', 1)") == [(7, 1.0)]
    assert sql.one("SELECT sqlembed_flush()") == 1


@pytest.mark.parametrize(
    "expression",
    [
        "body || datetime('now')",
        "body || date()",
        "strftime('%Y') || body",
        "body || current_timestamp",
    ],
)
def test_the_current_time_is_no_part_of_a_text(sql: Sql, expression: str) -> None:
    sql("CREATE TABLE t(id INTEGER PRIMARY KEY, body)")
    assert sql.error("SELECT sqlembed_index('t', ?)", expression).startswith("InputError")


def test_a_long_backlog_of_equal_texts_is_covered_in_the_end(
    sms: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sqlembed.index.fresh.MOST_CHUNKS", 4)
    for n in range(9):
        sms("INSERT INTO sms(body) VALUES (?)", f"a long text number {n}. " * 8)
    coverages = [sms("SELECT min(coverage) FROM knn('sms', 'x', 20)")[0] for _ in range(12)]
    assert coverages[-1] == 1.0 and coverages == sorted(coverages)


@pytest.mark.doors("apsw", "service")
def test_the_hosts_row_trace_is_not_ours(sms: Sql) -> None:
    sms("INSERT INTO sms(body) VALUES ('traced row')")

    def as_dict(cursor: apsw.Cursor, row: tuple[Any, ...]) -> dict[str, Any]:
        return dict(zip((d[0] for d in cursor.get_description()), row, strict=True))

    sms.db.row_trace = as_dict
    found = sms.db.execute("SELECT id FROM knn('sms', 'traced row', 1)").fetchall()
    assert found == [{"id": 5}]
    assert sms.db.execute("SELECT sqlembed_flush() AS n").fetchall() == [{"n": 1}]


def test_flush_writing_into_another_database(sms: Sql) -> None:
    sms("CREATE TEMP TABLE log(n)")
    sms("INSERT INTO sms(body) VALUES ('waiting')")
    sms("INSERT INTO temp.log SELECT sqlembed_flush()")
    assert sms("SELECT n FROM log") == [1]
    assert sms.in_transaction is False


@pytest.mark.doors("apsw", "service")
@pytest.mark.parametrize(
    "at",
    [
        "SELECT 1 FROM main.sqlembed_queue",
        "DELETE FROM",
        "INSERT INTO main.sqlembed_chunk",
        "COMMIT",
    ],
)
@pytest.mark.parametrize("inside", [False, True], ids=["alone", "in a transaction"])
def test_an_interrupt_leaves_no_transaction_open_and_loses_no_row(
    sms: Sql, at: str, inside: bool
) -> None:
    for n in range(5):
        sms("INSERT INTO sms(body) VALUES (?)", f"waiting {n}")
    sms("UPDATE sms SET body = 'changed' WHERE id = 1")
    if inside:
        sms("BEGIN")

    def interrupt(cursor: apsw.Cursor, statement: str, bindings: object) -> bool:
        if statement.strip().startswith(at):
            sms.db.interrupt()
        return True

    sms.db.exec_trace = interrupt
    if inside and at == "COMMIT":
        sms("SELECT sqlembed_flush()")
    else:
        assert sms.error("SELECT sqlembed_flush()").startswith("InterruptError")
    sms.db.exec_trace = None
    if sms.db.in_transaction:
        assert inside
        sms("COMMIT")
    sms("INSERT INTO sms(body) VALUES ('written afterwards')")
    sms.db.close()
    again = Sql(sqlembed.connect(sms.db_path, engine=sms.engine))
    assert again.one("SELECT count(*) FROM sms") == 10
    assert again.one("SELECT id FROM knn('sms', 'written afterwards', 1)") == 10
    for n in range(5):
        assert again.one("SELECT id FROM knn('sms', ?, 1)", f"waiting {n}") == 5 + n
    again("SELECT sqlembed_flush()")
    assert again("SELECT indexed, waiting FROM sqlembed_status") == [(10, 0)]
    again.db.close()


@pytest.mark.doors("apsw", "service")
def test_a_row_that_comes_back_while_orphans_are_forgotten_stays(
    sql: Sql, engine: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    sql("CREATE TABLE t(id TEXT PRIMARY KEY, code UNIQUE, body)")
    sql("INSERT INTO t VALUES ('a', 1, 'first text')")
    sql("SELECT sqlembed_index('t', 'body')")
    sql("INSERT OR REPLACE INTO t VALUES ('b', 1, 'second text')")
    sql("SELECT sqlembed_flush('t', 100)")
    other = sqlembed.connect(sql.db_path, engine=engine)
    query = flush.sources.orphans
    asked: list[int] = []

    def come_back(*arguments: Any) -> str:
        asked.append(1)
        return query(*arguments)

    def trace(cursor: apsw.Cursor, statement: str, bindings: object) -> bool:
        if statement == "BEGIN IMMEDIATE" and asked:
            asked.clear()
            other.execute("INSERT INTO t VALUES ('a', 2, 'back again')")
        return True

    monkeypatch.setattr(flush.sources, "orphans", come_back)
    sql.db.exec_trace = trace
    sql("SELECT sqlembed_flush()")
    sql.db.exec_trace = None
    sql("SELECT sqlembed_flush()")
    assert sql("SELECT id FROM knn('t', 'back again', 1)") == ["a"]
    other.close()


def test_elements_that_are_no_text_cost_the_others_nothing(sql: Sql) -> None:
    rows = sql("""SELECT embedding IS NULL, error FROM embed_each('["ok", "\\ud800", "fine"]')""")
    assert rows == [
        (0, None),
        (1, "an element has half of a surrogate pair, which is no character"),
        (0, None),
    ]
    assert "JSON array" in sql.error("SELECT * FROM embed_each(?)", "[" * 200_000)
    assert sql.error("SELECT sqlembed_index('t', 'x', ?)", "[" * 200_000).startswith("OptionError")


def test_a_damaged_cache_value_is_never_a_vector(sql: Sql, engine: LocalEngine) -> None:
    sql("SELECT embed('a')")
    cache = apsw.Connection(engine.cache.path)
    cache.execute("UPDATE entry SET value = x'0000'")
    cache.close()
    fresh = LocalEngine()
    assert len(Sql(sqlembed.connect(":memory:", engine=fresh)).one("SELECT embed('a')")) == 256
    assert FakeModel.texts == ["a", "a"]
    fresh.close()


def test_no_generation_is_used_twice(sms: Sql) -> None:
    seen: set[int] = set()
    for n in range(5):
        sms("UPDATE sms SET body = 'again ' || ?", n)
        new = set(sms("SELECT generation FROM sqlembed_queue WHERE index_id <> 0"))
        assert len(new) == 4 and not new & seen
        seen |= new
        sms("SELECT sqlembed_flush()")
        assert sms.one("SELECT count(*) FROM sqlembed_queue") == 1


@pytest.mark.doors("apsw", "service")
def test_a_row_deleted_and_inserted_again_during_a_flush_is_not_lost(
    sql: Sql, engine: LocalEngine
) -> None:
    sql("CREATE TABLE t(id TEXT PRIMARY KEY, body)")
    sql("INSERT INTO t VALUES ('a', 'first text')")
    sql("SELECT sqlembed_index('t', 'body')")
    sql("DELETE FROM t")
    other = sqlembed.connect(sql.db_path, engine=engine)

    leased = "SELECT 1 FROM sqlembed_backlog WHERE lease > 0"

    def come_back(cursor: apsw.Cursor, statement: str, bindings: object) -> bool:
        if statement == "BEGIN IMMEDIATE" and other.execute(leased).fetchall():
            other.execute("INSERT INTO t VALUES ('a', 'back again') ON CONFLICT DO NOTHING")
        return True

    sql.db.exec_trace = come_back
    sql("SELECT sqlembed_flush()")
    sql.db.exec_trace = None
    assert sql("SELECT id FROM knn('t', 'back again')") == ["a"]
    sql("SELECT sqlembed_flush()")
    assert sql("SELECT id FROM knn('t', 'back again')") == ["a"]
    other.close()


def test_a_row_changed_often_counts_once_and_hides_no_other(
    sms: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sqlembed.index.fresh.MOST_ROWS", 3)
    monkeypatch.setattr("sqlembed.index.backlog.SLICE_ENTRIES", 7)
    sms("INSERT INTO sms(body) VALUES ('quiet row')")
    for n in range(20):
        sms("UPDATE sms SET body = 'busy row ' || ? WHERE id = 1", n)
    assert sms("SELECT waiting FROM sqlembed_status") == [2]
    assert sms("SELECT id FROM knn('sms', 'quiet row', 1)") == [5]
    assert sms.one("SELECT sqlembed_flush('sms', 1)") == 1
    assert sms.one("SELECT sqlembed_flush()") >= 1
    assert sms("SELECT indexed, waiting FROM sqlembed_status") == [(5, 0)]
    assert sms.one("SELECT count(*) FROM sqlembed_queue") == 1
