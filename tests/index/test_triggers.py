"""Rows written by programs that never heard of sqlembed are not lost, whatever the table's key."""

import sqlite3
from pathlib import Path

import apsw
import pytest
from harness import Sql

import sqlembed

TABLES = {
    "integer key": "CREATE TABLE t(id INTEGER PRIMARY KEY, body TEXT, other TEXT)",
    "text key": "CREATE TABLE t(id TEXT PRIMARY KEY, body TEXT, other TEXT)",
    "descending integer key": "CREATE TABLE t(id INTEGER PRIMARY KEY DESC, body TEXT, other TEXT)",
    "without rowid": "CREATE TABLE t(id TEXT PRIMARY KEY, body TEXT, other TEXT) WITHOUT ROWID",
    "key without case": "CREATE TABLE t(id TEXT PRIMARY KEY COLLATE NOCASE, body TEXT, other TEXT)",
}


@pytest.fixture(params=TABLES.values(), ids=TABLES.keys())
def watched(request: pytest.FixtureRequest, sql: Sql) -> Sql:
    """A watched table with each kind of key, and one row."""
    sql(request.param)
    sql("INSERT INTO t VALUES (1, 'first row', 'x')")
    assert sql.one("SELECT sqlembed_index('t', 'body')") == 1
    return sql


@pytest.fixture
def plain(watched: Sql) -> sqlite3.Connection:
    """The same file in Python's own sqlite3, which knows nothing of us."""
    return sqlite3.connect(watched.db_path, isolation_level=None)


def ids(sql: Sql, query: str, k: int = 10) -> list[str]:
    """The ids found, as texts, those of distance near 0."""
    found = sql("SELECT CAST(id AS TEXT), distance FROM knn('t', ?, ?)", query, k)
    return [id_ for id_, distance in found if distance < 1e-6]


def test_a_plain_program_inserts_updates_and_deletes(
    watched: Sql, plain: sqlite3.Connection
) -> None:
    plain.execute("INSERT INTO t VALUES (2, 'second row', 'x')")
    assert ids(watched, "second row") == ["2"]
    plain.execute("UPDATE t SET body = 'changed row' WHERE id = 1")
    assert ids(watched, "changed row") == ["1"]
    assert ids(watched, "first row") == []
    plain.execute("DELETE FROM t WHERE id = 1")
    assert ids(watched, "changed row") == []
    assert watched.one("SELECT sqlembed_flush('t')") == 2
    assert ids(watched, "second row") == ["2"]
    assert watched("SELECT indexed, waiting FROM sqlembed_status") == [(1, 0)]
    plain.close()


def test_replace_and_upsert(watched: Sql, plain: sqlite3.Connection) -> None:
    for recursive in ("ON", "OFF"):
        plain.execute(f"PRAGMA recursive_triggers = {recursive}")
        plain.execute(f"INSERT OR REPLACE INTO t VALUES (1, 'replaced {recursive}', 'x')")
        assert ids(watched, f"replaced {recursive}") == ["1"]
        plain.execute(
            f"INSERT INTO t VALUES (1, 'upserted {recursive}', 'x')"
            " ON CONFLICT(id) DO UPDATE SET body = excluded.body"
        )
        assert ids(watched, f"upserted {recursive}") == ["1"]
        assert ids(watched, f"replaced {recursive}") == []
        plain.execute("REPLACE INTO t VALUES (3, 'third', 'x')")
        assert ids(watched, "third") == ["3"]
    plain.close()


def test_an_update_that_changes_no_text_queues_nothing(watched: Sql) -> None:
    watched("UPDATE t SET other = 'y', body = body")
    assert watched("SELECT waiting FROM sqlembed_status") == [0]


def test_changes_of_case_and_type_are_changes(sql: Sql) -> None:
    sql("CREATE TABLE t(id INTEGER PRIMARY KEY, body COLLATE NOCASE)")
    sql("INSERT INTO t VALUES (1, 'first row'), (2, 1)")
    sql("SELECT sqlembed_index('t', 'body')")
    sql("UPDATE t SET body = 'FIRST row' WHERE id = 1")
    assert ids(sql, "FIRST row") == ["1"]
    sql("UPDATE t SET body = 1.0 WHERE id = 2")
    assert ids(sql, "1.0") == ["2"]


def test_a_changed_key_moves_the_row(watched: Sql) -> None:
    watched("UPDATE t SET id = 7")
    assert ids(watched, "first row") == ["7"]
    watched("SELECT sqlembed_flush()")
    assert ids(watched, "first row") == ["7"]
    assert watched("SELECT indexed, chunks, waiting FROM sqlembed_status") == [(1, 1, 0)]


def test_a_rollback_undoes_the_queue_as_well(watched: Sql, plain: sqlite3.Connection) -> None:
    plain.execute("BEGIN")
    plain.execute("INSERT INTO t VALUES (2, 'second row', 'x')")
    plain.execute("DELETE FROM t WHERE id = 1")
    plain.execute("ROLLBACK")
    assert watched("SELECT waiting FROM sqlembed_status") == [0]
    assert ids(watched, "first row") == ["1"]
    plain.close()


def test_vacuum_keeps_rows_and_vectors_together(watched: Sql) -> None:
    for n in range(2, 9):
        watched("INSERT INTO t VALUES (?, ?, 'x')", n, f"row number {n}")
    watched("DELETE FROM t WHERE id IN (1, 3, 5)")
    watched("SELECT sqlembed_flush()")
    watched("DELETE FROM t WHERE id = 2")
    watched("VACUUM")
    for n in (4, 6, 7, 8):
        assert ids(watched, f"row number {n}") == [str(n)]


def test_the_outer_conflict_handling_stays_in_charge(watched: Sql) -> None:
    watched("SELECT sqlembed_flush()")
    watched("INSERT OR IGNORE INTO t VALUES (1, 'ignored', 'x')")
    assert ids(watched, "first row") == ["1"]
    watched("INSERT OR REPLACE INTO t VALUES (1, 'a', 'x'), (1, 'b', 'x')")
    assert ids(watched, "b") == ["1"]
    assert watched("SELECT waiting FROM sqlembed_status") == [1]


def test_rowid_assigned_by_name_is_seen(sql: Sql) -> None:
    sql("CREATE TABLE t(id INTEGER PRIMARY KEY, body)")
    sql("INSERT INTO t VALUES (1, 'moved row')")
    sql("SELECT sqlembed_index('t', 'body')")
    sql("UPDATE t SET rowid = 50")
    assert ids(sql, "moved row") == ["50"]
    sql("SELECT sqlembed_flush()")
    assert ids(sql, "moved row") == ["50"]


def test_composite_keys_are_json_arrays(sql: Sql) -> None:
    sql("CREATE TABLE t(a, b, body, PRIMARY KEY(a, b))")
    sql("INSERT INTO t VALUES (1, 'x', 'one text'), (1, 'y', 'two text'), (NULL, 'z', 'no key')")
    assert sql.one("SELECT sqlembed_index('t', 'body')") == 2
    sql("INSERT INTO t VALUES (2, 'x', 'three text'), (NULL, NULL, 'no key')")
    found = sql(
        "SELECT k.id, t.body FROM knn('t', 'three text', 1) k JOIN t ON json_array(t.a, t.b) = k.id"
    )
    assert found == [('[2,"x"]', "three text")]
    assert sql("""SELECT id FROM knn('t', 'three text') WHERE id IN ('[1,"x"]', '[9,"x"]')""") == [
        '[1,"x"]'
    ]
    sql("UPDATE t SET b = 'w' WHERE b = 'x' AND a = 1")
    assert sql.one("SELECT id FROM knn('t', 'one text', 1)") == '[1,"w"]'
    sql("SELECT sqlembed_flush()")
    assert sql.one("SELECT id FROM knn('t', 'one text', 1)") == '[1,"w"]'
    assert sql("SELECT indexed FROM sqlembed_status") == [3]


def test_keys_that_differ_in_case_only_are_one_where_the_table_says_so(sql: Sql) -> None:
    sql("CREATE TABLE t(id TEXT PRIMARY KEY COLLATE NOCASE, body)")
    sql("INSERT INTO t VALUES ('Ann', 'a text')")
    sql("SELECT sqlembed_index('t', 'body')")
    sql("DELETE FROM t")
    sql("INSERT INTO t VALUES ('ANN', 'a text')")
    assert sql("SELECT t.id FROM knn('t', 'a text') k JOIN t ON t.id = k.id") == ["ANN"]
    assert sql("SELECT id FROM knn('t', 'a text')") == ["ANN"]


@pytest.mark.parametrize(
    "name", ['say "hi"', "two words", "größe", "select", "it's", "[x]", "a.b", "日本"]
)
def test_awkward_names(sql: Sql, name: str) -> None:
    quoted = '"' + name.replace('"', '""') + '"'
    sql(f"CREATE TABLE {quoted}({quoted} TEXT PRIMARY KEY, body)")
    sql(f"INSERT INTO {quoted} VALUES ('k1', 'old text')")
    sql("SELECT sqlembed_index(?, ?)", name, f"{quoted} || ' ' || body")
    sql(f"INSERT INTO {quoted} VALUES ('k2', 'new text')")
    assert sql("SELECT id FROM knn(?, 'k2 new text', 1)", name) == ["k2"]
    sql(f"UPDATE {quoted} SET {quoted} = 'k3' WHERE {quoted} = 'k2'")
    assert sql("SELECT id FROM knn(?, 'k3 new text', 1)", name) == ["k3"]
    assert sql.one("SELECT sqlembed_flush(?)", name) == 2
    sql("SELECT sqlembed_drop(?)", name)


def test_expressions_over_several_and_generated_columns(sql: Sql) -> None:
    sql("CREATE TABLE t(id INTEGER PRIMARY KEY, title, body, both AS (title || ' ' || body))")
    sql("INSERT INTO t(title, body) VALUES ('head', 'tail')")
    sql("""SELECT sqlembed_index('t', 'title || '' '' || coalesce(body, '''')', '{"name": "a"}')""")
    sql("""SELECT sqlembed_index('t', 'both', '{"name": "b"}')""")
    sql("UPDATE t SET title = 'top'")
    for index in "ab":
        assert sql("SELECT distance < 1e-6 FROM knn(?, 'top tail', 1)", index) == [1]
    sql("UPDATE t SET body = NULL")
    assert sql("SELECT distance < 0.5 FROM knn('a', 'top', 1)") == [1]
    assert sql("SELECT * FROM knn('b', 'top', 1)") == []
    assert sql.one("SELECT sqlembed_flush()") == 2
    assert sql("SELECT name, indexed FROM sqlembed_status") == [("a", 1), ("b", 0)]


def test_rows_of_null_text_are_not_found(sms: Sql) -> None:
    sms("INSERT INTO sms(body) VALUES (NULL)")
    sms("UPDATE sms SET body = NULL WHERE id = 1")
    assert sorted(sms("SELECT id FROM knn('sms', 'dinner', 10)")) == [2, 3, 4]
    sms("SELECT sqlembed_flush()")
    assert sorted(sms("SELECT id FROM knn('sms', 'dinner', 10)")) == [2, 3, 4]


def test_text_that_is_not_valid_stops_nobody(sms: Sql) -> None:
    sms(
        "INSERT INTO sms(body) VALUES (CAST(x'80ff41' AS TEXT)), (x'fe'), (42), ('nul' || char(0) || 'inside')"
    )
    assert len(sms("SELECT id FROM knn('sms', 'dinner', 10)")) == 8
    assert sms.one("SELECT sqlembed_flush()") == 4
    assert sms("SELECT id FROM knn('sms', '42', 1)") == [7]


def test_a_utf16_database(tmp_path: Path, engine: object) -> None:
    connection = apsw.Connection(str(tmp_path / "utf16.db"))
    connection.execute("PRAGMA encoding = 'UTF-16'")
    sqlembed.register(connection, engine=engine)  # type: ignore[arg-type]
    sql = Sql(connection)
    sql("CREATE TABLE t(id INTEGER PRIMARY KEY, body)")
    sql("INSERT INTO t VALUES (1, 'größer text')")
    sql("SELECT sqlembed_index('t', 'body')")
    assert sql("SELECT text, distance < 1e-6 FROM knn('t', 'größer text')") == [("größer text", 1)]
    connection.close()


def test_foreign_key_cascades_are_seen(sql: Sql) -> None:
    sql("PRAGMA foreign_keys = ON")
    sql("CREATE TABLE p(id INTEGER PRIMARY KEY)")
    sql("CREATE TABLE t(id INTEGER PRIMARY KEY, p REFERENCES p ON DELETE CASCADE, body)")
    sql("INSERT INTO p VALUES (1), (2)")
    sql("INSERT INTO t VALUES (1, 1, 'one text'), (2, 2, 'two text')")
    sql("SELECT sqlembed_index('t', 'body')")
    sql("DELETE FROM p WHERE id = 1")
    assert sql("SELECT id FROM knn('t', 'text')") == [2]
    assert sql.one("SELECT sqlembed_flush()") == 1


def test_a_rebuilt_table_is_noticed(sms: Sql) -> None:
    sms("CREATE TABLE copy(id INTEGER PRIMARY KEY, body TEXT)")
    sms("INSERT INTO copy SELECT id, body FROM sms")
    sms("DROP TABLE sms")
    sms("ALTER TABLE copy RENAME TO sms")
    for statement in ("SELECT * FROM knn('sms', 'x')", "SELECT sqlembed_flush('sms')"):
        error = sms.error(statement)
        assert error.startswith("SchemaError: index sms no longer watches table sms")
        assert "SELECT sqlembed_reindex('sms')" in error
    assert sms("SELECT problem LIKE 'index sms no longer watches%' FROM sqlembed_status") == [1]
    assert sms.one("SELECT sqlembed_reindex('sms')") == 4
    assert sms("SELECT id, distance < 1e-6 FROM knn('sms', 'late again', 1)") == [(4, 1)]


def test_a_renamed_table_or_column_is_noticed(sms: Sql) -> None:
    sms("ALTER TABLE sms RENAME TO messages")
    assert "no longer watches table sms" in sms.error("SELECT * FROM knn('sms', 'x')")
    sms("SELECT sqlembed_drop('sms')")
    sms("SELECT sqlembed_index('messages', 'body')")
    sms("ALTER TABLE messages RENAME COLUMN body TO content")
    assert "no longer watches" in sms.error("SELECT * FROM knn('messages', 'x')")


def test_adding_a_column_changes_nothing(sms: Sql) -> None:
    sms("ALTER TABLE sms ADD COLUMN extra TEXT")
    sms("UPDATE sms SET extra = 'x'")
    assert sms.one("SELECT id FROM knn('sms', 'dinner at eight', 1)") == 1


def test_a_flush_forgets_rows_that_replace_deleted_silently(sql: Sql) -> None:
    sql("CREATE TABLE t(id TEXT PRIMARY KEY, code UNIQUE, body)")
    sql("INSERT INTO t VALUES ('a', 1, 'first text'), ('b', 2, 'second text')")
    sql("SELECT sqlembed_index('t', 'body')")
    sql("PRAGMA recursive_triggers = OFF")
    sql("INSERT OR REPLACE INTO t VALUES ('c', 1, 'third text')")
    sql("SELECT sqlembed_flush()")
    assert sql("SELECT indexed, chunks FROM sqlembed_status") == [(2, 2)]
    assert sql("SELECT count(*) FROM sqlembed_key_1") == [2]
