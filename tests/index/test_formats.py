"""A database in an older format is read as it is, and brought forward by what writes to the catalog."""

import lzma
from pathlib import Path

import apsw
import pytest
from harness import Sql

import sqlembed
from sqlembed.engine.local import LocalEngine

HERE = Path(__file__).parent
DATABASES = {1: "format_1.db.xz", 2: "format_2.db.xz"}
"""By format. 1: made before there were options; a table of four texts, and one that waits. 2: before
there was a backlog; of the four one is deleted and one changed twice, unseen by any flush, and one
waits; and a table with a key of its own, where one waits."""
STORED = {1: (4, 1), 2: (4, 3)}
"""Rows that are indexed and that wait."""
MIGRATIONS = "SELECT number FROM sqlembed_migration ORDER BY number"
NEWEST = [1, 2, 3, 4, 5]


@pytest.fixture(params=sorted(DATABASES))
def number(request: pytest.FixtureRequest) -> int:
    """The format."""
    assert isinstance(request.param, int)
    return request.param


@pytest.fixture
def old(number: int, engine: LocalEngine, tmp_path: Path) -> Path:
    """A database in that format."""
    path = tmp_path / "old.db"
    path.write_bytes(lzma.decompress((HERE / DATABASES[number]).read_bytes()))
    plain = apsw.Connection(str(path))
    # The fake model's file and manifest are today's.
    plain.execute("UPDATE sqlembed_catalog SET space = ?", (engine.space("fake").fingerprint,))
    plain.close()
    return path


def columns(sql: Sql) -> list[str]:
    return sql("SELECT name FROM pragma_table_info('sqlembed_catalog')")


def found(sql: Sql, text: str) -> list[tuple[int, bool]]:
    """The nearest row of the index sms, and whether it has exactly this text."""
    return sql("SELECT id, distance < 1e-6 FROM knn('sms', ?, 1)", text)


def test_it_is_read_where_nothing_can_be_written(
    old: Path, engine: LocalEngine, number: int
) -> None:
    flags = apsw.SQLITE_OPEN_READONLY
    sql = Sql(sqlembed.connect(str(old), engine=engine, flags=flags))
    assert ("options" in columns(sql), "state" in columns(sql)) == (number > 1, False)
    assert found(sql, "dinner at eight") == [(1, 1)]
    assert found(sql, "still waiting") == [(5, 1)]
    shown = (
        "SELECT indexed, waiting, leased, failed, problem FROM sqlembed_status WHERE name = 'sms'"
    )
    assert sql(shown) == [(*STORED[number], 0, 0, None)]
    if number > 1:
        assert found(sql, "very late again") == [(4, 1)]
        assert sql("SELECT id FROM knn('note', 'waiting as well', 1)") == ["c"]
        assert sql("SELECT id FROM search('sms', 'win a prize now')")[0] != 2
    sql.close()


@pytest.mark.parametrize("inside", ["", "BEGIN", "INSERT"])
def test_a_flush_brings_it_forward(
    old: Path, engine: LocalEngine, number: int, inside: str
) -> None:
    sql = Sql(sqlembed.connect(str(old), engine=engine))
    other = Sql(sqlembed.connect(str(old), engine=engine))
    assert found(other, "dinner at eight") == [(1, 1)]
    waiting = STORED[number][1] + (number > 1)
    if inside == "INSERT":
        sql("CREATE TABLE done(n)")
        sql("INSERT INTO done VALUES (sqlembed_flush())")
        assert sql("SELECT n FROM done") == [waiting]
    else:
        sql(inside)
        assert sql.one("SELECT sqlembed_flush()") == waiting
        sql("COMMIT" if inside else "")
    assert sql(MIGRATIONS) == NEWEST
    for each in (sql, other):
        each("UPDATE sms SET body = body || ' newer' WHERE id = 1")
        assert each("SELECT waiting FROM sqlembed_status WHERE name = 'sms'") == [1]
        assert found(each, each.one("SELECT body FROM sms WHERE id = 1")) == [(1, 1)]
        assert each.one("SELECT sqlembed_flush('sms')") == 1
    again = """SELECT sqlembed_index('sms', 'body', '{"if_not_exists": true}')"""
    assert sql.one(again) == 0
    sql.close()
    other.close()


def test_a_flush_that_is_rolled_back_leaves_it_as_it_is(
    old: Path, engine: LocalEngine, number: int
) -> None:
    sql = Sql(sqlembed.connect(str(old), engine=engine))
    sql("BEGIN")
    sql("SELECT sqlembed_flush()")
    sql("ROLLBACK")
    assert sql(MIGRATIONS) == NEWEST[:number]
    assert found(sql, "still waiting") == [(5, 1)]
    sql.close()


def test_dropping_the_index_brings_it_forward(old: Path, engine: LocalEngine) -> None:
    sql = Sql(sqlembed.connect(str(old), engine=engine))
    sql("SELECT sqlembed_drop('sms')")
    assert sql(MIGRATIONS) == NEWEST
    assert "sms" not in sql("SELECT name FROM sqlembed_status")
    sql.close()


def test_immediate_mode_leaves_what_is_written_to_a_flush(
    old: Path, engine: LocalEngine, number: int
) -> None:
    plain = apsw.Connection(str(old))
    plain.execute("UPDATE sqlembed_catalog SET mode = 'immediate'")
    plain.close()
    sql = Sql(sqlembed.connect(str(old), engine=engine))
    sql("UPDATE sms SET body = 'written at once' WHERE id IN (1, 5)")
    assert found(sql, "written at once")[0][1] == 1
    stored, waiting = STORED[number]
    shown = "SELECT indexed, waiting FROM sqlembed_status WHERE name = 'sms'"
    assert sql(shown) == [(stored, waiting + 1)]
    assert sql(MIGRATIONS) == NEWEST[:number]
    sql("SELECT sqlembed_flush()")
    sql("UPDATE sms SET body = 'and this too' WHERE id = 1")
    assert found(sql, "and this too") == [(1, 1)]
    assert sql(shown)[0][1] == 0
    sql.close()


def test_a_new_index_brings_it_forward(old: Path, engine: LocalEngine) -> None:
    sql = Sql(sqlembed.connect(str(old), engine=engine))
    other = Sql(sqlembed.connect(str(old), engine=engine))
    assert found(other, "dinner at eight") == [(1, 1)]
    rows = sql.one("SELECT count(*) FROM sms")
    assert (
        sql.one("""SELECT sqlembed_index('sms', 'body', '{"name": "b", "tokens": 12}')""") == rows
    )
    assert sql(MIGRATIONS) == NEWEST
    options = "SELECT options FROM sqlembed_catalog WHERE name = 'b'"
    assert sql(options) == ['{"tokens": 12, "words": "unicode61 remove_diacritics 2"}']
    for each in (sql, other):
        assert found(each, "dinner at eight") == [(1, 1)]
        assert each("SELECT id FROM knn('b', 'still waiting', 1)") == [5]
        assert each("SELECT bm25 > 0 FROM search('b', 'dinner at eight', 1)") == [1]
    sql.close()
    other.close()


def test_another_model_brings_it_forward(old: Path, engine: LocalEngine, number: int) -> None:
    sql = Sql(sqlembed.connect(str(old), engine=engine))
    other = Sql(sqlembed.connect(str(old), engine=engine))
    assert found(other, "dinner at eight") == [(1, 1)]
    rows = sql.one("SELECT count(*) FROM sms")
    assert sql.one("SELECT sqlembed_reindex('sms', 'wide')") == rows
    assert sql(MIGRATIONS) == NEWEST
    for each in (sql, other):
        assert found(each, "dinner at eight") == [(1, 1)]
        assert found(each, "still waiting") == [(5, 1)]
        worded = each("SELECT bm25 > 0 FROM search('sms', 'dinner at eight', 1)")
        assert worded == [1 if number > 1 else None]
    assert sql.one("""SELECT sqlembed_alter('sms', '{"words": "unicode61"}')""") == rows
    for each in (sql, other):
        assert each("SELECT bm25 > 0 FROM search('sms', 'dinner at eight', 1)") == [1]
    sql.close()
    other.close()


@pytest.mark.parametrize("number", [1])
def test_an_index_made_before_words_were_kept_is_searched_by_meaning_alone(
    old: Path, engine: LocalEngine
) -> None:
    sql = Sql(sqlembed.connect(str(old), engine=engine))
    assert sql("SELECT id, bm25 FROM search('sms', 'dinner at eight', 1)") == [(1, None)]
    sql.close()


def test_a_new_index_that_fails_leaves_it_as_it_is(
    old: Path, engine: LocalEngine, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    sql = Sql(sqlembed.connect(str(old), engine=engine))
    monkeypatch.setattr("sqlembed.index.store.TABLES", "SELECT nonsense")
    assert "no such column" in sql.error(
        """SELECT sqlembed_index('sms', 'body', '{"name": "b"}')"""
    )
    assert sql(MIGRATIONS) == NEWEST[:number]
    assert "state" not in columns(sql)
    assert found(sql, "dinner at eight") == [(1, 1)]
    sql.close()


def test_a_migrated_database_is_as_a_new_one(
    old: Path, engine: LocalEngine, tmp_path: Path
) -> None:
    migrated = Sql(sqlembed.connect(str(old), engine=engine))
    new = Sql(sqlembed.connect(str(tmp_path / "new.db"), engine=engine))
    new("CREATE TABLE sms(id INTEGER PRIMARY KEY, body TEXT)")
    for sql in (migrated, new):
        sql("""SELECT sqlembed_index('sms', 'body', '{"name": "b"}')""")
    table = 'SELECT name, type, "notnull", dflt_value FROM pragma_table_info(?)'
    for name in ("catalog", "queue", "backlog", "rate", "migration"):
        assert migrated(table, f"sqlembed_{name}") == new(table, f"sqlembed_{name}")
    indexes = "SELECT name, sql FROM sqlite_schema WHERE type = 'index' AND sql LIKE '%backlog%'"
    assert migrated(indexes) == new(indexes) != []
    migrated.close()
    new.close()
