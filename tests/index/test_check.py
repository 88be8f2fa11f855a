"""sqlembed_check finds each kind of damage, and sqlembed_repair mends it; neither says more."""

from collections.abc import Callable
from typing import Any

import pytest
from harness import Sql

from sqlembed.index import codes

CHECK = "SELECT kind, count, example FROM sqlembed_check('t')"
LONG = " ".join(f"word{n}" for n in range(60))
TABLES = {
    "integer": "CREATE TABLE t(id INTEGER PRIMARY KEY, body TEXT)",
    "text": "CREATE TABLE t(id TEXT PRIMARY KEY COLLATE NOCASE, body TEXT)",
    "without rowid": "CREATE TABLE t(id INTEGER, part TEXT DEFAULT 'p', body TEXT, PRIMARY KEY(id, part)) WITHOUT ROWID",
}


def make(sql: Sql, table: str = "integer", options: str | None = None, rows: int = 10) -> Sql:
    """An index t of some short rows, a long one, and one without a text."""
    sql(TABLES[table])
    for n in range(1, rows + 1):
        sql("INSERT INTO t(id, body) VALUES (?, ?)", n, f"row number {n}")
    sql("INSERT INTO t(id, body) VALUES (100, ?), (101, NULL), (102, '')", LONG)
    sql("SELECT sqlembed_index('t', 'body', ?)", options)
    return sql


@pytest.fixture
def t(sql: Sql) -> Sql:
    """Such an index over a table with an INTEGER PRIMARY KEY."""
    return make(sql)


@pytest.mark.parametrize("table", sorted(TABLES))
@pytest.mark.parametrize("options", [None, '{"words": null}', '{"mode": "immediate"}', '{"tokens": 12, "overlap": 3}'])
def test_nothing_is_wrong_with_a_healthy_index(sql: Sql, table: str, options: str | None) -> None:
    make(sql, table, options)
    assert sql("SELECT * FROM sqlembed_check('t')") == []
    assert sql("SELECT * FROM sqlembed_check") == []
    assert sql.one("SELECT sqlembed_repair()") == 0
    sql("UPDATE t SET body = 'changed' WHERE id < 4")
    sql("DELETE FROM t WHERE id IN (5, 100)")
    sql("INSERT INTO t(id, body) VALUES (200, 'new')")
    assert sql("SELECT * FROM sqlembed_check('t')") == []
    assert sql.one("SELECT sqlembed_repair('t')") == 0
    sql("SELECT sqlembed_flush()")
    assert sql("SELECT * FROM sqlembed_check('t')") == []
    sql("DELETE FROM t")
    assert sql("SELECT * FROM sqlembed_check('t')") == []
    sql("SELECT sqlembed_flush()")
    assert sql("SELECT * FROM sqlembed_check('t')") == []
    assert sql.one("SELECT sqlembed_repair('t')") == 0
