"""sqlembed_import: vectors that somebody has already; SQL on fake models."""

import json

import numpy as np
import pytest
from harness import FAILING, FakeModel, Sql

from sqlembed.errors import ModelMissingError

LONG = " ".join(f"word{n}" for n in range(40))
TABLES = "SELECT count(*) FROM sqlite_schema WHERE name GLOB 'sqlembed_import*'"
STATUS = "SELECT model, indexed, waiting FROM sqlembed_status"
IMPORT = "SELECT sqlembed_import('t', 'old', 'text', 'embedding')"


def as_json(vector: bytes) -> str:
    return json.dumps([3 * float(number) for number in np.frombuffer(vector, "<f4")])


def given(sql: Sql, model: str = "fake", rows: int = 60) -> None:
    """A table of texts and vectors, BLOBs and JSON, as a program of before had it."""
    sql("CREATE TABLE old(id INTEGER PRIMARY KEY, text, embedding)")
    for n in range(1, rows + 1):
        text = f"row number {n}"
        vector = sql.one("SELECT embed(?, ?)", text, model)
        sql("INSERT INTO old VALUES (?, ?, ?)", n, text, vector if n % 2 else as_json(vector))
    sql("SELECT sqlembed_cache_clear()")
    FakeModel.texts.clear()


@pytest.fixture
def t(sql: Sql) -> Sql:
    """An index of fifty rows and a long one, which all wait."""
    sql("CREATE TABLE t(id INTEGER PRIMARY KEY, body)")
    for n in range(1, 51):
        sql("INSERT INTO t VALUES (?, ?)", n, f"row number {n}")
    sql("INSERT INTO t VALUES (51, ?)", LONG)
    sql("""SELECT sqlembed_index('t', 'body', '{"backlog": "later"}')""")
    return sql


def test_only_the_probes_and_what_is_not_there_are_computed(t: Sql) -> None:
    given(t)
    t("INSERT INTO old(text, embedding) VALUES (NULL, x''), ('no vector', NULL)")
    t("INSERT INTO old(text, embedding) SELECT text, embedding FROM old WHERE id = 1")
    assert t.one(IMPORT) == 60
    rows = [text for text in FakeModel.texts if text.startswith("row")]
    assert len(rows) == 32
    assert {text.split()[0] for text in FakeModel.texts if text not in rows} <= set(LONG.split())
    assert t(STATUS) == [("fake", 51, 0)]
    wrong = "SELECT key FROM sqlembed_chunk_1 JOIN t ON id = key WHERE id < 51 AND vec_distance_cosine(vector, embed(body)) > 1e-6"  # fmt: skip
    assert t(wrong) == []
    assert t.one("SELECT max(abs(vec_length(vector) - 64)) FROM sqlembed_chunk_1") == 0
    assert t.one(TABLES) == 0


def test_what_is_to_take_the_indexs_place_takes_them(t: Sql) -> None:
    t("SELECT sqlembed_flush()")
    t("""SELECT sqlembed_reindex('t', 'wide', '{"backlog": "later"}')""")
    given(t, "wide")
    assert t.one(IMPORT) == 60
    assert len([text for text in FakeModel.texts if text.startswith("row")]) == 32
    assert t(STATUS) == [("wide", 51, 0)]
    assert t.one(TABLES) == 0


def test_few_rows_are_all_looked_at(t: Sql) -> None:
    given(t, rows=5)
    assert t.one(IMPORT) == 5
    assert len([text for text in FakeModel.texts if text.startswith("row")]) == 50


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("UPDATE old SET embedding = (SELECT embedding FROM old WHERE id = 5)", "VectorError: the vectors of old are not those of fake: of 32 texts"),
        ("UPDATE old SET embedding = '[1, 2]' WHERE id = 60", "VectorError: the vector in row 60 of old has 2 dimensions, expected 64"),
        ("UPDATE old SET embedding = zeroblob(256) WHERE id = 60", "VectorError: the vector in row 60 of old holds only zeros"),
        ("UPDATE old SET embedding = replace(embedding, '[', '[1e99, ') WHERE id = 60", "VectorError: the vector in row 60 of old has 65 dimensions"),
        ("UPDATE old SET embedding = replace(embedding, ']', ', NaN]') WHERE id = 60", "VectorError: the vector in row 60 of old has 65 dimensions"),
        ("UPDATE old SET embedding = '[NaN' || replace(hex(zeroblob(63)), '00', ', 0') || ']' WHERE id = 60", "VectorError: the vector in row 60 of old holds NaN or infinity"),
        ("UPDATE old SET embedding = '[1e99' || replace(hex(zeroblob(63)), '00', ', 0') || ']' WHERE id = 60", "VectorError: the vector in row 60 of old holds NaN or infinity"),
        ("UPDATE old SET embedding = 'no json' WHERE id = 60", "VectorError: the vector in row 60 of old is neither a BLOB"),
        ("UPDATE old SET embedding = '{\"a\": 1}' WHERE id = 60", "VectorError: the vector in row 60 of old is neither a BLOB"),
        ("UPDATE old SET embedding = '[\"x\"]' WHERE id = 60", "VectorError: the vector in row 60 of old is neither a BLOB"),
        ("UPDATE old SET embedding = 5.5 WHERE id = 60", "VectorError: the vector in row 60 of old is neither a BLOB"),
        ("UPDATE old SET embedding = x'00' WHERE id = 60", "VectorError: the vector in row 60 of old is a BLOB of 1 bytes"),
        ("DELETE FROM old", "VectorError: old has no vector that index t could take: of 0 rows"),
        ("ALTER TABLE old RENAME TO older", "NotFoundError: the main database has no table 'old'"),
        ("ALTER TABLE old RENAME embedding TO v", "NotFoundError: table old has no column 'embedding'; its columns are id, text, v"),
        ("ALTER TABLE old RENAME TO o; CREATE VIEW old AS SELECT * FROM o", "SchemaError: the rows of old have no rowid"),
        ("ALTER TABLE old RENAME TO o; CREATE TABLE old(text PRIMARY KEY, embedding) WITHOUT ROWID", "SchemaError: the rows of old have no rowid"),
    ],
)  # fmt: skip
def test_what_cannot_be_taken_is_an_error_in_words_and_nothing_is(
    t: Sql, change: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sqlembed.index.importing.PAGE_ROWS", 7)
    given(t)
    for statement in change.split("; "):
        t(statement)
    assert t.error(IMPORT).startswith(message)
    assert t(STATUS) == [("fake", 0, 51)]
    assert t.one(TABLES) == 0


def test_texts_without_the_prompt_are_told_apart(t: Sql) -> None:
    given(t, "other")
    error = t.error(IMPORT)
    assert "at worst" in error
    assert "in the median, and at least 0.99 is expected. They may be of another model" in error


def test_a_row_that_fails_stops_no_other(t: Sql) -> None:
    given(t)
    t("UPDATE t SET body = ? WHERE id = 9", FAILING)
    assert "the row of key 9 cannot be stored" in t.error(IMPORT)
    assert t(STATUS) == [("fake", 50, 1)]
    assert t.one(TABLES) == 0


def test_what_one_that_failed_left_is_used_and_removed_by_a_flush(
    t: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    given(t)

    def fail(*_: object) -> object:
        raise ModelMissingError("gone")

    with monkeypatch.context() as patch:
        patch.setattr("sqlembed.index.flush.drain", fail)
        assert "gone" in t.error(IMPORT)
    assert t.one(TABLES) > 0
    FakeModel.texts.clear()
    t("SELECT sqlembed_flush('t', 10)")
    assert t.one(TABLES) > 0
    t("SELECT sqlembed_flush('t')")
    assert [text for text in FakeModel.texts if text.startswith("row")] == []
    assert t.one(TABLES) == 0


def test_in_a_transaction_it_belongs_to_it(t: Sql) -> None:
    given(t)
    t("BEGIN")
    assert t.one(IMPORT) == 60
    assert t(STATUS) == [("fake", 51, 0)]
    t("ROLLBACK")
    assert t(STATUS) == [("fake", 0, 51)]
    assert t.one(IMPORT) == 60


def test_dropping_the_index_removes_what_is_left(t: Sql) -> None:
    t("CREATE TABLE sqlembed_import_1(digest BLOB PRIMARY KEY, vector BLOB NOT NULL)")
    t("SELECT sqlembed_drop('t')")
    assert t.one(TABLES) == 0


def test_of_a_text_that_is_there_twice_the_vector_that_is_taken_is_checked(t: Sql) -> None:
    given(t, rows=10)
    t(
        "INSERT INTO old SELECT -1, text, (SELECT embedding FROM old WHERE id = 1) FROM old WHERE id = 2"
    )
    assert "are not those of fake" in t.error(IMPORT)
    assert t(STATUS) == [("fake", 0, 51)]


def test_a_number_that_no_float_holds(t: Sql) -> None:
    given(t, rows=10)
    t("UPDATE old SET embedding = '[' || substr(?, 2) || ']' WHERE id = 1", f",{10**400}" * 64)
    assert "VectorError: the vector in row 1 of old" in t.error(IMPORT)


@pytest.mark.doors("apsw")
def test_vectors_are_taken_while_the_connection_reads(t: Sql) -> None:
    given(t)
    reading = t.db.execute("SELECT * FROM old")
    next(reading)
    assert t.one(IMPORT) == 60
    assert t(STATUS) == [("fake", 51, 0)]
    reading.close()
    t("SELECT sqlembed_flush()")
    assert t.one(TABLES) == 0
