"""sqlembed_check finds each kind of damage, and sqlembed_repair mends it; neither says more."""

import lzma
import struct
from pathlib import Path

import apsw
import pytest
from harness import Sql, small_blocks

import sqlembed
from sqlembed.doors import plans
from sqlembed.engine.local import LocalEngine
from sqlembed.index import blocks, resident

CHECK = "SELECT kind, count, example FROM sqlembed_check('t')"
COUNTED = """
WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c LIMIT {})
SELECT n, 'row ' || n FROM c"""
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
@pytest.mark.parametrize(
    "options", [None, '{"words": null}', '{"mode": "immediate"}', '{"tokens": 12, "overlap": 3}']
)
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


UNIT = struct.pack("<64f", *([0.125] * 64))
"""A vector of unit length, though of no text."""
NAN = struct.pack("<64f", float("nan"), *([0.125] * 63))
DAMAGE: dict[str, tuple[str, list[tuple[str, int, object]]]] = {
    "missing": ("DELETE FROM sqlembed_chunk_1 WHERE key = 3; DELETE FROM sqlembed_word_1 WHERE rowid = 3", [("missing", 1, 3)]),
    "not logged": ("INSERT INTO t VALUES (50, 'unseen'); DELETE FROM sqlembed_queue WHERE index_id = 1", [("missing", 1, 50)]),
    "orphaned": ("DELETE FROM t WHERE id IN (3, 100); DELETE FROM sqlembed_queue WHERE index_id = 1", [("orphaned", 2, 3)]),
    "stale": ("UPDATE t SET body = body || '!' WHERE id IN (4, 100); DELETE FROM sqlembed_queue WHERE index_id = 1", [("stale", 2, 4)]),
    "no text": ("UPDATE t SET body = NULL WHERE id = 4; DELETE FROM sqlembed_queue WHERE index_id = 1", [("stale", 1, 4)]),
    "ordinal": ("UPDATE sqlembed_chunk_1 SET ordinal = 7 WHERE key = 100 AND ordinal = 1", [("disordered", 1, 100)]),
    "ordinal of no number": ("UPDATE sqlembed_chunk_1 SET ordinal = 'x', start = 'y' WHERE key = 2", [("disordered", 1, 2)]),
    "span": ("UPDATE sqlembed_chunk_1 SET stop = stop + 5 WHERE key = 2", [("disordered", 1, 2)]),
    "twice": ("INSERT INTO sqlembed_chunk_1 SELECT 99, key, ordinal, start, stop, digest, vector FROM sqlembed_chunk_1 WHERE key = 2; INSERT INTO sqlembed_word_1(rowid, text) VALUES (99, 'row number 2')", [("disordered", 1, 2)]),
    "width": ("UPDATE sqlembed_chunk_1 SET vector = x'00' WHERE key = 5", [("wrong width", 1, 5)]),
    "text for a vector": ("UPDATE sqlembed_chunk_1 SET vector = 'none' WHERE key = 5", [("wrong width", 1, 5)]),
    "NaN": ("UPDATE sqlembed_chunk_1 SET vector = ?1 WHERE key IN (5, 6)", [("not finite", 2, 5)]),
    "zero": ("UPDATE sqlembed_chunk_1 SET vector = zeroblob(256) WHERE key = 100", [("not unit", 5, 100)]),
    "no table of codes any more": ("CREATE VIRTUAL TABLE sqlembed_code_1_1 USING vec0(code int8[64])", [("tables", 1, "sqlembed_code_1_1")]),
    **{f"damaged table of words: {part}": (f"DROP TABLE sqlembed_word_1_{part}", [("tables", 1, "sqlembed_word_1")]) for part in ("data", "idx", "content", "config")},
    "words of no version": ("DELETE FROM sqlembed_word_1_config", [("tables", 1, "sqlembed_word_1")]),
    "a key that is none": ("UPDATE sqlembed_chunk_1 SET key = x'01' WHERE key = 2", [("orphaned", 1, b"\x01"), ("missing", 1, 2)]),
    "no words": ("DELETE FROM sqlembed_word_1 WHERE rowid IN (2, 3)", [("words", 2, 2)]),
    "words of nothing": ("INSERT INTO sqlembed_word_1(rowid, text) VALUES (77, 'x'), (78, 'y')", [("words", 2, 77)]),
    "other words": ("UPDATE sqlembed_word_1 SET text = 'other' WHERE rowid = 4", [("words", 1, 4)]),
    "other words below FTS5": ("UPDATE sqlembed_word_1_content SET c0 = 'other' WHERE id = 4", [("words", 1, 4)]),
    "words by halves": ("DELETE FROM sqlembed_word_1_content WHERE id = 4", [("words", 1, 4)]),
    "words by other halves": ("DELETE FROM sqlembed_word_1_docsize WHERE id = 4", [("words", 1, 4)]),
    "sizes of nothing": ("INSERT INTO sqlembed_word_1_docsize VALUES (77, x'03')", [("words", 1, 77)]),
    "no table of words": ("DROP TABLE sqlembed_word_1", [("tables", 1, "sqlembed_word_1")]),
    "damaged table of words": ("DROP TABLE sqlembed_word_1_docsize", [("tables", 1, "sqlembed_word_1")]),
    "no table of chunks": ("DROP TABLE sqlembed_chunk_1", [("tables", 1, "sqlembed_chunk_1")]),
    "a table that is not needed": ("CREATE TABLE sqlembed_key_1(key)", [("tables", 1, "sqlembed_key_1")]),
    "trigger": ("DROP TRIGGER sqlembed_1_insert; INSERT INTO t VALUES (50, 'unseen')", [("triggers", 1, "sqlembed_1_insert"), ("missing", 1, 50)]),
    "rebuilt": ("CREATE TABLE u(id INTEGER PRIMARY KEY, body TEXT); INSERT INTO u SELECT id, 'new' FROM t WHERE id < 3; DROP TABLE t; ALTER TABLE u RENAME TO t", [("triggers", 4, "sqlembed_1_insert"), ("orphaned", 10, 3), ("stale", 2, 1)]),
}  # fmt: skip
"""By name: SQL that damages an index, and what is found then."""


def same_as_new(sql: Sql) -> None:
    """See that searches of t give what those of a new index give."""
    sql("""SELECT sqlembed_index('t', 'body', '{"name": "new"}')""")
    for query in ("row number 3", "word30 word31", "unseen", "new"):
        for function in ("knn", "search"):
            columns = "id, round(distance, 4), coverage"
            found = sql(f"SELECT {columns} FROM {function}('t', ?, 50) ORDER BY 2, 1", query)
            assert found == sql(
                f"SELECT {columns} FROM {function}('new', ?, 50) ORDER BY 2, 1", query
            )
    sql("SELECT sqlembed_drop('new')")


@pytest.mark.parametrize("what", DAMAGE)
@pytest.mark.parametrize("exact", [True, False], ids=["exact", "codes"])
def test_damage_is_found_and_repaired(
    t: Sql, what: str, exact: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not exact:
        small_blocks(monkeypatch)
        t("SELECT sqlembed_flush()")
        assert t.one("SELECT sum(count) FROM sqlembed_block") > 12
    damage, expected = DAMAGE[what]
    for statement in damage.split("; "):
        t(statement, *([NAN] if "?1" in statement else []))
    assert t(CHECK) == expected
    done = t.one("SELECT sqlembed_repair('t')")
    assert done >= 1
    assert t("SELECT * FROM sqlembed_check") == []
    t("SELECT sqlembed_flush()")
    assert t("SELECT * FROM sqlembed_check") == []
    assert t.one("SELECT sqlembed_repair()") == 0
    t("INSERT INTO sqlembed_word_1(sqlembed_word_1) VALUES ('integrity-check')")
    same_as_new(t)


@pytest.mark.parametrize("what", sorted(name for name in DAMAGE if "table" in name))
def test_an_index_whose_tables_are_damaged_can_be_dropped(t: Sql, what: str) -> None:
    for statement in DAMAGE[what][0].split("; "):
        t(statement)
    t("SELECT sqlembed_drop('t')")
    assert t("SELECT * FROM sqlembed_check") == []
    assert t("SELECT name FROM sqlite_schema WHERE name GLOB 'sqlembed_*_1*'") == []


@pytest.mark.parametrize(
    "what",
    ["source = 'none'", "source = '{}'", "options = '[]'", "triggers = '5'", "dimension = 'x'"],
)
def test_a_damaged_row_of_the_catalog_is_said_in_words(t: Sql, what: str) -> None:
    t(f"UPDATE sqlembed_catalog SET {what}")
    for sql in ("SELECT id FROM knn('t', 'row', 1)", "SELECT * FROM sqlembed_check"):
        said = t.error(sql)
        assert "SchemaError: the row of index t in sqlembed_catalog is damaged" in said
    t("DELETE FROM sqlembed_catalog WHERE index_id = 1")
    t("SELECT sqlembed_repair()")
    t("SELECT sqlembed_index('t', 'body')")
    assert t("SELECT * FROM sqlembed_check") == []


def test_rows_that_wait_are_not_reported(t: Sql) -> None:
    t("UPDATE t SET body = 'changed' WHERE id = 4")
    t("UPDATE sqlembed_chunk_1 SET vector = ? WHERE key = 4", NAN)
    t("DELETE FROM sqlembed_chunk_1 WHERE key = 100 AND ordinal > 1")
    t("UPDATE t SET body = body || '!' WHERE id = 100")
    assert t("SELECT kind, count FROM sqlembed_check") == [("words", 3)]
    assert t.one("SELECT sqlembed_repair('t')") == 3
    assert t("SELECT * FROM sqlembed_check") == []
    assert t("SELECT waiting FROM sqlembed_status") == [2]
    t("SELECT sqlembed_flush()")
    assert t("SELECT * FROM sqlembed_check") == []
    same_as_new(t)


def test_what_is_wrong_waits_at_once_and_is_searched(t: Sql) -> None:
    t("UPDATE sqlembed_chunk_1 SET vector = ? WHERE key < 4", NAN)
    assert t.one("SELECT sqlembed_repair('t')") == 3
    assert t("SELECT waiting, indexed FROM sqlembed_status") == [(3, 9)]
    assert t("SELECT id, coverage FROM knn('t', 'row number 2', 1)") == [(2, 1.0)]
    assert t.one("SELECT sqlembed_repair('t')") == 0


@pytest.mark.parametrize("table", ["text", "without rowid"])
def test_damage_where_keys_are_mapped(sql: Sql, table: str) -> None:
    make(sql, table)
    shown = "3" if table == "text" else '[3,"p"]'
    sql("DELETE FROM t WHERE id = 3")
    sql("DELETE FROM t WHERE id = 101")  # which has no chunks
    sql("DELETE FROM sqlembed_queue WHERE index_id = 1")
    assert sql(CHECK) == [("orphaned", 1, shown), ("keys", 1, shown.replace("3", "101"))]
    assert sql.one("SELECT sqlembed_repair()") == 2
    assert sql("SELECT count(*) FROM sqlembed_key_1") == [11]
    sql("DELETE FROM sqlembed_key_1 WHERE k1 IN (4, '4')")
    assert [row[:2] for row in sql(CHECK)] == [("orphaned", 1), ("missing", 1)]
    assert sql.one("SELECT sqlembed_repair()") >= 1
    sql("SELECT sqlembed_flush()")
    assert sql("SELECT * FROM sqlembed_check") == []
    sql("DROP TABLE sqlembed_key_1")
    assert sql(CHECK) == [("tables", 1, "sqlembed_key_1")]
    assert sql.one("SELECT sqlembed_repair()") >= 1
    sql("SELECT sqlembed_flush()")
    assert sql("SELECT * FROM sqlembed_check") == []
    same_as_new(sql)


@pytest.mark.doors("apsw")
def test_a_search_is_refused_until_every_row_was_compared(
    t: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    t("DROP TRIGGER sqlembed_1_text")
    t("UPDATE t SET body = 'changed unseen' WHERE id = 4")

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("sqlembed.index.repair._orphans", interrupted)
        with pytest.raises(KeyboardInterrupt):
            t("SELECT sqlembed_repair('t')")
    watching = "SELECT count(*) FROM sqlite_schema WHERE type = 'trigger' AND tbl_name = 't'"
    assert t(watching) == [4]
    assert "no longer watches" in t.error("SELECT * FROM knn('t', 'changed')")
    assert [row[0] for row in t(CHECK)] == ["triggers"]
    t("UPDATE t SET body = 'changed again' WHERE id = 5")
    assert t.one("SELECT sqlembed_repair('t')") == 4
    assert t("SELECT * FROM sqlembed_check") == []
    assert sorted(t("SELECT id FROM knn('t', 'changed', 2)")) == [4, 5]


def test_a_table_that_is_another_now_cannot_be_repaired(t: Sql) -> None:
    t("ALTER TABLE t RENAME COLUMN body TO words")
    assert [row[0] for row in t(CHECK)] == ["triggers", "table"]
    assert "no such column" in t.error("SELECT sqlembed_repair('t')")
    t("ALTER TABLE t RENAME TO u")
    assert [row[:2] for row in t(CHECK)] == [("triggers", 4), ("table", 1)]
    message = t.error("SELECT sqlembed_repair('t')")
    assert message.startswith("SchemaError: index t cannot be repaired: the main database has no")
    assert "SELECT sqlembed_drop('t')" in message
    t("CREATE TABLE t(id TEXT PRIMARY KEY, body)")
    assert "another primary key" in t.error("SELECT sqlembed_repair()")


def test_an_expression_that_fails_is_said(sql: Sql) -> None:
    sql("CREATE TABLE t(id INTEGER PRIMARY KEY, body)")
    sql("INSERT INTO t VALUES (1, '{}'), (2, '[1]')")
    sql("SELECT sqlembed_index('t', 'json_extract(body, ''$[0]'')')")
    sql("UPDATE t SET body = 'no JSON' WHERE id = 2")
    assert sql(CHECK) == []
    sql("DELETE FROM sqlembed_queue WHERE index_id = 1")
    assert sql(CHECK) == [("unreadable", 1, 2)]
    assert "malformed JSON" in sql.one("SELECT meaning FROM sqlembed_check")
    assert sql.one("SELECT sqlembed_repair('t')") == 0


def test_what_belongs_to_no_index_is_removed(t: Sql) -> None:
    t("CREATE TABLE sqlembed_chunk_backup(x)")
    t("CREATE TABLE sqlembed_chunk_7(x)")
    t("CREATE VIRTUAL TABLE sqlembed_code_7_2 USING vec0(code int8[64])")
    t("CREATE VIRTUAL TABLE sqlembed_word_7 USING fts5(text)")
    t("CREATE TRIGGER sqlembed_7_insert AFTER INSERT ON t BEGIN SELECT 1; END")
    t(
        "INSERT INTO sqlembed_backlog(index_id, key, generation, since) VALUES (7, 1, 1, 0), (7, 2, 1, 0)"
    )
    t("INSERT INTO sqlembed_block VALUES (1, 7, 1, 1, 1, x'00')")
    assert t("SELECT name, kind, count FROM sqlembed_check") == [(None, "left over", 7)]
    assert t("SELECT * FROM sqlembed_check('t')") == []
    assert t.one("SELECT sqlembed_repair('t')") == 0
    assert t.one("SELECT sqlembed_repair()") == 7
    assert t("SELECT * FROM sqlembed_check") == []
    assert t(
        "SELECT name FROM sqlite_schema WHERE name LIKE 'sqlembed_%7%' OR name LIKE '%backup'"
    ) == ["sqlembed_chunk_backup"]


def test_the_model_is_another_or_not_here(t: Sql, fake_data: Path) -> None:
    t("UPDATE sqlembed_catalog SET space = 'f00'")
    kinds = t("SELECT kind, example FROM sqlembed_check")
    assert ("model", "fake") in kinds and ("stale", 1) in kinds
    assert "another (space" in t.one("SELECT problem FROM sqlembed_status")
    t("UPDATE sqlembed_catalog SET model = 'nowhere'")
    assert "no model is called" in t.one("SELECT problem FROM sqlembed_status")
    assert "no model is called 'nowhere'" in t.one(
        "SELECT meaning FROM sqlembed_check WHERE kind = 'model'"
    )


def test_names_and_databases_without_indexes(sql: Sql) -> None:
    assert sql("SELECT * FROM sqlembed_check") == []
    assert sql("SELECT * FROM sqlembed_check(NULL)") == []
    assert sql.one("SELECT sqlembed_repair()") == 0
    assert "no index is called 'x'" in sql.error("SELECT * FROM sqlembed_check('x')")
    assert "no index is called 'x'" in sql.error("SELECT sqlembed_repair('x')")
    assert "the index is a text" in sql.error("SELECT * FROM sqlembed_check(5)")
    sql("CREATE VIEW v AS SELECT sqlembed_repair() AS done")
    assert "unsafe use of sqlembed_repair" in sql.error("SELECT * FROM v")


def test_codes_come_back_when_most_rows_are_deleted(
    sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_blocks(monkeypatch)
    monkeypatch.setattr(blocks, "LEAST_DEAD", 1000)
    sql("CREATE TABLE t(id INTEGER PRIMARY KEY, body)")
    sql(f"INSERT INTO t {COUNTED.format(3000)}")
    sql("SELECT sqlembed_index('t', 'body')")
    codes = "SELECT coalesce(sum(count), 0) FROM sqlembed_block"
    assert sql.one(codes) == pytest.approx(3000, abs=3)
    sql("DELETE FROM t WHERE id % 10 > 0")
    sql("SELECT sqlembed_flush()")
    assert sql.one(codes) == pytest.approx(300, abs=3)
    assert sql("SELECT * FROM sqlembed_check") == []
    assert sql("SELECT id, coverage FROM knn('t', 'row 70', 1)") == [(70, 1.0)]
    merged = "SELECT sum(length(block)) FROM sqlembed_word_1_data"
    before = sql.one(merged)
    sql("INSERT INTO sqlembed_word_1(sqlembed_word_1) VALUES ('optimize')")
    assert sql.one(merged) == pytest.approx(before, rel=0.1)
    sql("INSERT INTO t VALUES (5000, 'one more')")
    sql("SELECT sqlembed_flush()")
    assert sql("SELECT id FROM knn('t', 'one more', 1)") == [5000]
    if sql("SELECT 1 FROM pragma_compile_options WHERE compile_options = 'ENABLE_DBSTAT_VTAB'"):
        assert sql.one("SELECT bytes FROM sqlembed_status") > 64 * 1024
    monkeypatch.setattr(blocks, "SMALL", 1000)
    sql("SELECT sqlembed_flush()")
    assert sql.one(codes) == 0
    assert sql("SELECT id FROM knn('t', 'one more', 1)") == [5000]
    sql("SELECT sqlembed_drop('t')")


CODES_DAMAGE = {
    "none": ("UPDATE sqlembed_block SET codes = x''", 16),
    "cut": ("UPDATE sqlembed_block SET codes = substr(codes, 1, length(codes) - 1)", 16),
    "of no chunk": ("UPDATE sqlembed_chunk_1 SET chunk = chunk + 1000 WHERE chunk = 3", 0),
    "another key": ("UPDATE sqlembed_chunk_1 SET key = 40 WHERE key = 4", 1),
    "another vector": ("UPDATE sqlembed_chunk_1 SET vector = ?1 WHERE key = 4", 1),
    "another block": ("UPDATE sqlembed_block SET first = 1, last = 5", 5),
    "twice": ("INSERT INTO sqlembed_block SELECT 7, index_id, first, last, count, codes FROM sqlembed_block", 16),
}  # fmt: skip
"""By name: SQL that damages the codes of 16 chunks in one block, and how many are then found wrong."""


@pytest.mark.parametrize("what", CODES_DAMAGE)
def test_codes_that_are_damaged_are_found_and_made_anew(
    t: Sql, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_blocks(monkeypatch)
    t("SELECT sqlembed_flush()")
    assert t("SELECT count FROM sqlembed_block") == [16]
    damage, wrong = CODES_DAMAGE[what]
    t(damage, *([UNIT] if "?1" in damage else []))
    assert t("SELECT count FROM sqlembed_check WHERE kind = 'codes'") == ([wrong] if wrong else [])
    if what in ("none", "cut"):
        resident.MEMORY.clear()
        for find in ("knn", "search"):
            assert "the codes of index t are damaged" in t.error(
                f"SELECT * FROM {find}('t', 'row')"
            )
    t("SELECT sqlembed_repair('t')")
    assert t("SELECT * FROM sqlembed_check WHERE kind = 'codes'") == []
    t("SELECT sqlembed_flush()")
    assert t("SELECT * FROM sqlembed_check") == []
    if what != "another vector":  # of no text: nothing tells that
        same_as_new(t)


def test_a_database_that_can_only_be_read(t: Sql, engine: LocalEngine) -> None:
    t("DELETE FROM sqlembed_word_1 WHERE rowid = 3")
    reader = Sql(sqlembed.connect(t.db_path, flags=apsw.SQLITE_OPEN_READONLY, engine=engine))
    assert reader(CHECK) == [("words", 1, 3)]
    assert "readonly" in reader.error("SELECT sqlembed_repair()")
    reader.close()


@pytest.mark.doors("apsw")
@pytest.mark.parametrize("encoding", ["UTF-16le", "UTF-16be"])
def test_a_database_in_utf_16(sql: Sql, encoding: str) -> None:
    sql(f"PRAGMA encoding = '{encoding}'")
    sql("CREATE TABLE t(id TEXT PRIMARY KEY, body TEXT)")
    sql("INSERT INTO t VALUES ('ä', 'Grüße 🙂 aus Köln'), ('b', 'plain')")
    sql("SELECT sqlembed_index('t', 'body')")
    assert sql("SELECT * FROM sqlembed_check") == []
    sql("UPDATE t SET body = 'Grüße' WHERE id = 'ä'")
    sql("DELETE FROM sqlembed_queue WHERE index_id = 1")
    assert sql(CHECK) == [("stale", 1, "ä")]
    assert sql.one("SELECT sqlembed_repair()") == 1
    assert sql("SELECT * FROM sqlembed_check") == []


@pytest.mark.doors("apsw")
@pytest.mark.parametrize("number", [1, 2])
def test_an_older_format_is_checked_as_it_is(
    number: int, tmp_path: Path, engine: LocalEngine
) -> None:
    packed = Path(__file__).parents[1] / "index" / f"format_{number}.db.xz"
    path = tmp_path / "old.db"
    path.write_bytes(lzma.decompress(packed.read_bytes()))
    old = Sql(sqlembed.connect(str(path), flags=apsw.SQLITE_OPEN_READONLY, engine=engine))
    assert {row[1] for row in old("SELECT * FROM sqlembed_check")} <= {"model", "stale"}
    old.close()


@pytest.mark.doors("apsw")
@pytest.mark.parametrize("journal", ["WAL", "DELETE"])
def test_a_repair_that_is_killed_anywhere_leaves_right_rows_or_waiting_ones(
    t: Sql, engine: LocalEngine, journal: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every transaction of a repair is the last one once; what follows is as if killed there."""
    t(f"PRAGMA journal_mode = {journal}")
    monkeypatch.setattr("sqlembed.index.repair.SLICE_ROWS", 2)
    small_blocks(monkeypatch)
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 520)  # four codes
    t("SELECT sqlembed_flush()")
    begin = plans.Transaction.begin
    left = [0]

    def end_there(transaction: plans.Transaction) -> None:
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        begin(transaction)

    finished = 0
    for most in range(60):
        for statement in (
            "DROP TRIGGER sqlembed_1_text",
            "UPDATE t SET body = 'another ' || id WHERE id % 2",
            "UPDATE sqlembed_block SET codes = x'00'",
            "DELETE FROM sqlembed_word_1 WHERE rowid < 9",
            "DELETE FROM sqlembed_chunk_1 WHERE key = 2",
        ):
            t(statement)
        left[0] = most
        with monkeypatch.context() as patch:
            patch.setattr(plans.Transaction, "begin", end_there)
            try:
                t("SELECT sqlembed_repair('t')")
                finished += 1
            except KeyboardInterrupt:
                pass
        problem = t.one("SELECT problem FROM sqlembed_status")
        if problem is None:  # then every row is right, or waits
            kinds = set(t("SELECT kind FROM sqlembed_check"))
            assert not kinds & {"missing", "stale", "disordered"}
        t("SELECT sqlembed_repair('t')")
        assert t("SELECT * FROM sqlembed_check") == []
        t("SELECT sqlembed_flush()")
        assert t("SELECT * FROM sqlembed_check") == []
        t("UPDATE t SET body = 'row number ' || id WHERE id < 100")
        t("SELECT sqlembed_flush()")
        if finished > 2:
            break
    assert finished and most > 10
    same_as_new(t)


def test_words_of_lost_chunks_are_no_obstacle_in_immediate_mode(sql: Sql) -> None:
    t = make(sql, options='{"mode": "immediate"}')
    t("DELETE FROM sqlembed_chunk_1 WHERE key > 5")
    assert t.one("SELECT sqlembed_repair('t')") > 5
    assert t("SELECT * FROM sqlembed_check") == []
    assert t.one("SELECT waiting FROM sqlembed_status") == 0
    same_as_new(t)


@pytest.mark.doors("apsw")
@pytest.mark.parametrize("moment", ["BEGIN", "SELECT stamp"])
def test_an_index_that_is_replaced_while_it_is_repaired(
    t: Sql, engine: LocalEngine, moment: str
) -> None:
    other = sqlembed.connect(t.db_path, engine=engine)
    seen: list[str] = []

    def replaced(_: apsw.Cursor, statement: str, __: object) -> bool:
        if moment in statement and "sqlembed" not in "".join(seen):
            seen.append("sqlembed")
            other.execute("SELECT sqlembed_reindex('t', 'wide')").fetchall()
        return True

    t.db.exec_trace = replaced
    told = t.error("SELECT sqlembed_repair('t')")
    t.db.exec_trace = None
    assert seen
    assert "NotFoundError: index t was dropped or replaced by another meanwhile" in told
    assert not t.in_transaction
    assert t.one("SELECT sqlembed_repair('t')") == 0
    other.close()


def test_what_is_to_take_an_index_s_place_is_checked_and_what_is_dropped_is_known(t: Sql) -> None:
    t("""SELECT sqlembed_index('t', 'body', '{"name": "next"}')""")
    t("UPDATE sqlembed_catalog SET state = 'shadow', replaces = 1 WHERE name = 'next'")
    t("DELETE FROM sqlembed_word_2 WHERE rowid = 3")
    assert t("SELECT name, kind FROM sqlembed_check('t')") == [("t", "words")]
    assert t.one("SELECT sqlembed_repair('t')") == 1
    assert t("SELECT * FROM sqlembed_check") == []
    t("DELETE FROM sqlembed_word_2 WHERE rowid = 3")
    t("UPDATE sqlembed_catalog SET state = 'dropped', replaces = NULL WHERE name = 'next'")
    assert t("SELECT * FROM sqlembed_check") == []
    assert t.one("SELECT sqlembed_repair()") == 0
