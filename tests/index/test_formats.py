"""A database in an older format is read as it is, and brought forward by what writes to the catalog."""

import lzma
from pathlib import Path

import apsw
import pytest
from harness import Sql

import sqlembed
from sqlembed.engine.local import LocalEngine

FIRST = Path(__file__).with_name("format_1.db.xz")
"""Made by sqlembed before there were options: a table of four texts, and one that waits."""
MIGRATIONS = "SELECT number FROM sqlembed_migration ORDER BY number"


@pytest.fixture
def first(engine: LocalEngine, tmp_path: Path) -> Path:
    path = tmp_path / "first.db"
    path.write_bytes(lzma.decompress(FIRST.read_bytes()))
    plain = apsw.Connection(str(path))
    # The fake model's file and manifest are today's.
    plain.execute("UPDATE sqlembed_catalog SET space = ?", (engine.space("fake").fingerprint,))
    plain.close()
    return path


def columns(sql: Sql) -> list[str]:
    return sql("SELECT name FROM pragma_table_info('sqlembed_catalog')")


def test_it_is_read_where_nothing_can_be_written(first: Path, engine: LocalEngine) -> None:
    flags = apsw.SQLITE_OPEN_READONLY
    sql = Sql(sqlembed.connect(str(first), engine=engine, flags=flags))
    assert "options" not in columns(sql)
    assert sql("SELECT id FROM knn('sms', 'dinner at eight', 1)") == [1]
    assert sql("SELECT id FROM knn('sms', 'still waiting', 1)") == [5]
    assert sql("SELECT indexed, waiting, problem FROM sqlembed_status") == [(4, 1, None)]
    sql.close()


def test_it_is_flushed_and_dropped_as_it_is(first: Path, engine: LocalEngine) -> None:
    sql = Sql(sqlembed.connect(str(first), engine=engine))
    assert sql.one("SELECT sqlembed_flush()") == 1
    sql("UPDATE sms SET body = 'the newest text' WHERE id = 1")
    assert sql("SELECT id FROM knn('sms', 'the newest text', 1)") == [1]
    assert sql.one("SELECT sqlembed_flush('sms')") == 1
    again = """SELECT sqlembed_index('sms', 'body', '{"if_not_exists": true}')"""
    assert sql.one(again) == 0
    assert sql(MIGRATIONS) == [1]
    sql("SELECT sqlembed_drop('sms')")
    assert sql(MIGRATIONS) == [1]
    assert "options" not in columns(sql)
    sql.close()


def test_a_new_index_brings_it_forward(first: Path, engine: LocalEngine) -> None:
    sql = Sql(sqlembed.connect(str(first), engine=engine))
    other = Sql(sqlembed.connect(str(first), engine=engine))
    assert other("SELECT id FROM knn('sms', 'dinner at eight', 1)") == [1]
    assert sql.one("""SELECT sqlembed_index('sms', 'body', '{"name": "b", "tokens": 12}')""") == 5
    assert sql(MIGRATIONS) == [1, 2]
    assert sql("SELECT name, options FROM sqlembed_catalog ORDER BY name") == [
        ("b", '{"tokens": 12, "words": "unicode61 remove_diacritics 2"}'),
        ("sms", "{}"),
    ]
    for each in (sql, other):
        assert each("SELECT id FROM knn('sms', 'dinner at eight', 1)") == [1]
        assert each("SELECT id FROM knn('b', 'still waiting', 1)") == [5]
        # An index made before words were kept has none, and is searched by meaning alone.
        assert each("SELECT id, bm25 FROM search('sms', 'dinner at eight', 1)") == [(1, None)]
        assert each("SELECT bm25 > 0 FROM search('b', 'dinner at eight', 1)") == [1]
    sql.close()
    other.close()


def test_a_new_index_that_fails_leaves_it_as_it_is(
    first: Path, engine: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    sql = Sql(sqlembed.connect(str(first), engine=engine))
    monkeypatch.setattr("sqlembed.index.store.TABLES", "SELECT nonsense")
    assert "no such column" in sql.error(
        """SELECT sqlembed_index('sms', 'body', '{"name": "b"}')"""
    )
    assert sql(MIGRATIONS) == [1]
    assert "options" not in columns(sql)
    assert sql("SELECT id FROM knn('sms', 'dinner at eight', 1)") == [1]
    sql.close()


def test_a_migrated_catalog_is_as_a_new_one(
    first: Path, engine: LocalEngine, tmp_path: Path
) -> None:
    migrated = Sql(sqlembed.connect(str(first), engine=engine))
    new = Sql(sqlembed.connect(str(tmp_path / "new.db"), engine=engine))
    new("CREATE TABLE sms(id INTEGER PRIMARY KEY, body TEXT)")
    for sql in (migrated, new):
        sql("""SELECT sqlembed_index('sms', 'body', '{"name": "b"}')""")
    table = "SELECT name, type, \"notnull\", dflt_value FROM pragma_table_info('sqlembed_catalog')"
    assert migrated(table) == new(table)
    migrated.close()
    new.close()
