"""knn: nearest rows, always fresh, restricted before k; through SQL, on fake models."""

from random import Random

import apsw
import pytest
from harness import FakeModel, Sql, small_blocks

import sqlembed


def test_the_nearest_rows_come_first(sms: Sql) -> None:
    rows = sms(
        "SELECT id, distance, text, start, stop, coverage FROM knn('sms', 'dinner at eight', 2)"
    )
    assert rows[0][0] == 1 and rows[0][1] == pytest.approx(0, abs=1e-6)
    assert rows[0][2:] == ("dinner at eight", 0, 15, 1.0)
    assert rows[1][0] == 3 and 0 < rows[1][1] < 2


def test_it_joins_with_the_table(sms: Sql) -> None:
    joined = sms("SELECT s.body FROM knn('sms', 'a prize', 1) AS k JOIN sms AS s ON s.id = k.id")
    assert joined == ["win a prize now"]
    assert (
        sms("SELECT body FROM sms WHERE id IN (SELECT id FROM knn('sms', 'a prize', 1))") == joined
    )


def test_a_query_may_be_a_vector_and_hold_any_length(sms: Sql) -> None:
    by_text = sms("SELECT id, distance FROM knn('sms', 'dinner', 4)")
    by_vector = sms(
        "SELECT id, distance FROM knn('sms', vec_add(embed('dinner'), embed('dinner')), 4)"
    )
    assert [row[0] for row in by_vector] == [row[0] for row in by_text]
    assert [row[1] for row in by_vector] == pytest.approx([row[1] for row in by_text], abs=1e-6)


def test_ten_rows_are_the_default(sms: Sql) -> None:
    for n in range(20):
        sms("INSERT INTO sms(body) VALUES (?)", f"message number {n}")
    assert len(sms("SELECT * FROM knn('sms', 'message')")) == 10
    assert len(sms("SELECT * FROM knn('sms', 'message', 100)")) == 24


def test_null_in_nothing_out(sms: Sql) -> None:
    assert sms("SELECT * FROM knn('sms', NULL)") == []
    assert sms("SELECT * FROM knn(NULL, 'x')") == []


def test_new_changed_and_deleted_rows_are_seen_at_once(sms: Sql) -> None:
    first = "SELECT id FROM knn('sms', ?, 1)"
    sms("INSERT INTO sms(body) VALUES ('quarterly report')")
    assert sms.one(first, "quarterly report") == 5
    sms("UPDATE sms SET body = 'holiday photos' WHERE id = 5")
    assert sms.one(first, "holiday photos") == 5
    assert sms("SELECT distance FROM knn('sms', 'quarterly report', 1)")[0] > 0.01
    sms("DELETE FROM sms WHERE id = 5")
    assert 5 not in sms("SELECT id FROM knn('sms', 'holiday photos', 10)")


def test_it_sees_its_own_transaction_and_its_rollback(sms: Sql) -> None:
    sms("BEGIN")
    sms("INSERT INTO sms(body) VALUES ('not yet committed')")
    assert sms.one("SELECT id FROM knn('sms', 'not yet committed', 1)") == 5
    sms("ROLLBACK")
    assert 5 not in sms("SELECT id FROM knn('sms', 'not yet committed', 10)")


def test_a_search_writes_nothing(sms: Sql) -> None:
    sms("INSERT INTO sms(body) VALUES ('waiting')")
    before = sms.one("SELECT total_changes()")
    assert sms.one("SELECT id FROM knn('sms', 'waiting', 1)") == 5
    assert sms.one("SELECT total_changes()") == before
    assert sms("SELECT waiting FROM sqlembed_status") == [1]
    readonly = sqlembed.connect(sms.db_path, engine=sms.engine, flags=apsw.SQLITE_OPEN_READONLY)
    assert Sql(readonly).one("SELECT id FROM knn('sms', 'waiting', 1)") == 5
    readonly.close()


def test_what_a_search_computed_is_stored_for_free(sms: Sql) -> None:
    sms("INSERT INTO sms(body) VALUES ('computed once')")
    sms("SELECT id FROM knn('sms', 'question', 1)")
    FakeModel.texts.clear()
    assert sms.one("SELECT sqlembed_flush('sms')") == 1
    assert FakeModel.texts == []


def test_ids_restrict_before_k(sms: Sql) -> None:
    query = "SELECT id FROM knn('sms', 'dinner at eight', 2) WHERE id IN"
    assert sorted(sms(f"{query} (2, 4)")) == [2, 4]
    assert sms(f"{query} (4)") == [4]
    assert sms(f"{query} (?)", 4) == [4]
    assert sms("SELECT id FROM knn('sms', 'dinner at eight', 2) WHERE id = 4") == [4]
    assert sorted(
        sms(f"{query} (SELECT id FROM sms WHERE body LIKE '%a%' AND id NOT IN (1, 4))")
    ) == [2, 3]
    assert sms(f"{query} (3, NULL, 99, 'x', 2.5)") == [3]
    assert sms(f"{query} (SELECT 1 WHERE false)") == []


def test_ids_restrict_waiting_rows_too(sms: Sql) -> None:
    sms("INSERT INTO sms(body) VALUES ('dinner at nine'), ('dinner at ten')")
    assert sms("SELECT id FROM knn('sms', 'dinner at ten', 5) WHERE id IN (5, 4)") == [5, 4]


def test_distance_limits_the_rows(sms: Sql) -> None:
    assert sms("SELECT id FROM knn('sms', 'dinner at eight', 4) WHERE distance < 0.01") == [1]


def test_a_join_that_would_ask_anew_for_each_row_is_refused(sms: Sql) -> None:
    assert "WITH k AS MATERIALIZED" in sms.error(
        "SELECT s.id, k.distance FROM sms AS s LEFT JOIN knn('sms', 'dinner', 2) AS k ON k.id = s.id"
    )
    assert "MATERIALIZED" in sms.error(
        "SELECT id FROM sms AS s WHERE EXISTS (SELECT 1 FROM knn('sms', 'dinner', 2) AS k WHERE k.id = s.id)"
    )
    rows = sms("""WITH k AS MATERIALIZED (SELECT * FROM knn('sms', 'dinner at eight', 2))
        SELECT s.id FROM sms AS s LEFT JOIN k ON k.id = s.id WHERE k.id IS NOT NULL""")
    assert sorted(rows) == [1, 3]


def test_a_long_text_is_found_by_its_best_part(sms: Sql) -> None:
    text = "filler words here. " * 12 + "the needle is buried. " + "more filler words. " * 12
    sms("INSERT INTO sms(body) VALUES (?)", text)
    for state in ("waiting", "stored"):
        row = sms("SELECT id, text, start, stop FROM knn('sms', 'the needle is buried.', 1)")[0]
        assert row[0] == 5, state
        assert "needle" in row[1]
        assert text[row[2] : row[3]] == row[1]
        assert sms("SELECT count(*) FROM knn('sms', 'filler', 10) WHERE id = 5") == [1]
        sms("SELECT sqlembed_flush()")


def test_a_row_that_replace_removed_without_a_trigger_is_not_found(sql: Sql) -> None:
    sql("CREATE TABLE t(id INTEGER PRIMARY KEY, code UNIQUE, body)")
    sql("INSERT INTO t VALUES (1, 'a', 'first text'), (2, 'b', 'second text')")
    sql("SELECT sqlembed_index('t', 'body')")
    sql("PRAGMA recursive_triggers = OFF")
    sql("INSERT OR REPLACE INTO t VALUES (3, 'a', 'third text')")
    assert sorted(sql("SELECT id FROM knn('t', 'first text', 2)")) == [2, 3]
    assert sql("SELECT id FROM knn('t', 'first text', 1) WHERE id IN (1, 2)") == [2]
    sql("SELECT sqlembed_flush()")
    assert sql("SELECT indexed, chunks FROM sqlembed_status") == [(2, 2)]


def test_chunks_of_one_row_do_not_put_a_far_row_that_waits_before_a_near_one(sql: Sql) -> None:
    sql("CREATE TABLE t(id INTEGER PRIMARY KEY, body)")
    sql("INSERT INTO t VALUES (1, ?), (2, 'needle hay')", "needle needle needle needle. " * 20)
    sql("SELECT sqlembed_index('t', 'body')")
    assert sql("SELECT chunks > 2 FROM sqlembed_status") == [1]
    sql("INSERT INTO t VALUES (3, 'far away')")
    assert sql("SELECT id FROM knn('t', 'needle', 2)") == [1, 2]
    assert sql("SELECT id FROM knn('t', 'needle', 2) WHERE distance > 0.1") == [2, 3]


def test_a_large_backlog_is_searched_newest_first_and_says_so(
    sms: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sqlembed.index.fresh.MOST_CHUNKS", 3)
    for n in range(12):
        sms("INSERT INTO sms(body) VALUES (?)", f"backlog number {n}")
    id_, coverage = sms("SELECT id, coverage FROM knn('sms', 'backlog number 11', 1)")[0]
    assert id_ == 16
    assert coverage == pytest.approx(7 / 16)
    sms("SELECT * FROM knn('sms', 'backlog', 1)")
    assert sms("SELECT coverage FROM knn('sms', 'backlog', 1)") == [13 / 16]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("'sms', 'x', 0", "InputError: k is a whole number from 1 to 4096; got the integer 0"),
        ("'sms', 'x', -1", "InputError: k is a whole number from 1 to 4096; got the integer -1"),
        ("'sms', 'x', 1000000", "InputError: k is a whole number from 1 to 4096; got the integer 1000000"),
        ("'sms', 'x', 'five'", "InputError: k is a whole number from 1 to 4096; got the text 'five'"),
        ("'nosuch', 'x'", "NotFoundError: no index is called 'nosuch'; the indexes are sms"),
        ("5, 'x'", "InputError: knn()'s index is a text; got the integer 5"),
        ("'sms', 5", "InputError: knn()'s query (if it is no vector) is a text; got the integer 5"),
        ("'sms', x'010203'", "VectorError: knn()'s query of index sms is a BLOB of 3 bytes"),
        ("'sms', embed('x', 'wide')", "VectorError: knn()'s query of index sms has 128 dimensions, expected 64"),
        ("'sms', embed('x', 'other')", "SpaceError: knn()'s query is a vector of other, and index sms holds vectors of fake"),
        ("'sms', zeroblob(256)", "VectorError: knn()'s query of index sms holds only zeros"),
        ("'sms', vec_f32('[1,2,3]')", "VectorError: knn()'s query of index sms has 3 dimensions, expected 64"),
    ],
)  # fmt: skip
def test_bad_input_is_an_error_in_words(sms: Sql, arguments: str, message: str) -> None:
    assert sms.error(f"SELECT * FROM knn({arguments})").startswith(message)


def test_missing_arguments_are_named(sms: Sql) -> None:
    assert "knn(index_name, query [, k]): query is missing" in sms.error("SELECT * FROM knn('sms')")
    assert "no index is called 'x'; this database has none" in Sql(
        sqlembed.connect(":memory:")
    ).error("SELECT * FROM knn('x', 'y')")


def test_a_stored_vector_of_nan_is_an_error_that_says_what_to_do(sms: Sql) -> None:
    sms("UPDATE sqlembed_chunk_1 SET vector = ? WHERE key = 1", b"\x00\x00\xc0\x7f" + bytes(252))
    for _ in range(3):  # vectors are remembered from the second on
        for function in ("knn", "search"):
            told = sms.error(f"SELECT id FROM {function}('sms', 'anything')")
            assert "a vector of index sms is damaged: it holds no numbers" in told
    assert sms.one("SELECT sqlembed_repair('sms')") == 1
    assert 1 in sms("SELECT id FROM knn('sms', 'anything', 100)")


def test_nan_is_refused(sms: Sql) -> None:
    nan = b"\x00\x00\xc0\x7f" + bytes(252)
    assert "holds NaN" in sms.error("SELECT * FROM knn('sms', ?)", nan)


def test_a_large_index_is_searched_by_codes_and_still_finds_the_nearest(
    sms: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(200):
        sms("INSERT INTO sms(body) VALUES (?)", f"word{n} word{n % 7} word{n % 11}")
    sms("SELECT sqlembed_flush()")
    exact = sms("SELECT id, distance FROM knn('sms', 'word3 word4', 10)")
    small_blocks(monkeypatch)
    sms("SELECT sqlembed_repair()")
    assert sms.one("SELECT sum(count) FROM sqlembed_block") == 204
    coarse = sms("SELECT id, distance FROM knn('sms', 'word3 word4', 10)")
    assert coarse == exact
    sms("DELETE FROM sms WHERE id IN (SELECT id FROM knn('sms', 'word3 word4', 10))")
    assert len(sms("SELECT id FROM knn('sms', 'word3 word4', 10)")) == 10


@pytest.mark.parametrize("among", ["", "AND id IN (SELECT id FROM t WHERE id % 3)"])
@pytest.mark.doors("apsw")
def test_bounds_are_kept_where_codes_choose_the_candidates(
    sql: Sql, monkeypatch: pytest.MonkeyPatch, among: str
) -> None:
    small_blocks(monkeypatch)
    draw = Random(2)
    sql("CREATE TABLE t(id INTEGER PRIMARY KEY, body TEXT)")
    for _ in range(600):
        words = draw.choices("abcdefghijklmnop", k=draw.choice([4, 6, 40]))  # 40: several chunks
        sql("INSERT INTO t(body) VALUES (?)", " ".join(words))
    sql("SELECT sqlembed_index('t', 'body')")
    every = sql(f"SELECT distance FROM knn('t', 'a b c', 600) WHERE true {among}")
    assert len(every) == (400 if among else 600)
    for bounds in ((-1, 0.6), (-1, 0.3), (0.5, 0.7), (0.6, 0.61), (0.9, 2), (1.3, 1.4)):
        within = "distance BETWEEN ? AND ?"
        found = sql(f"SELECT distance FROM knn('t', 'a b c', 5) WHERE {within} {among}", *bounds)
        low, high = bounds
        assert found == [distance for distance in every if low <= distance <= high][:5]
