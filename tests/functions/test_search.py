"""search, more_like and search_explain: both legs, always fresh, restricted first; on fake models."""

import json
import math
import re
from random import Random

import apsw
import numpy as np
import pytest
from harness import FAILING, FakeModel, Sql

from sqlembed.index import spelling, words

FIND = "SELECT id FROM search('sms', ?)"
FIRST = "SELECT id FROM search('sms', ?, 1)"
WEIGHED = "SELECT score, meaning, share, standing, rerank FROM search('sms', ?, 10, ?)"
PLAIN = '{"rerank": 0}'


@pytest.fixture
def calls(sms: Sql) -> Sql:
    """Messages with numbers among them."""
    for body in ("call 0800-123 now", "call 0800 456 now", "ring 07700900123 tonight"):
        sms("INSERT INTO sms(body) VALUES (?)", body)
    sms("SELECT sqlembed_flush()")
    return sms


def test_columns(sms: Sql) -> None:
    (row,) = sms("SELECT * FROM search('sms', 'dinner at eight', 1)")
    rank, id, score, text, start, stop, snippet, distance, *ranks = row
    assert (rank, id, text, start, stop) == (1, 1, "dinner at eight", 0, 15)
    assert snippet == "[dinner] [at] [eight]"
    assert distance == pytest.approx(0, abs=1e-6)
    vector_rank, meaning, bm25, word_rank, share, standing, rerank, coverage = ranks
    assert (vector_rank, word_rank, share, coverage) == (1, 1, 1, 1)
    assert bm25 > 0 and 0 < standing <= 1 and 0 < meaning < 1
    assert score > meaning + (share**4 + standing) / 2
    assert rerank == pytest.approx(1, abs=1e-3)


def test_best_first_and_ranks_count_from_one(sms: Sql) -> None:
    rows = sms("SELECT rank, score FROM search('sms', 'dinner')")
    assert [rank for rank, _ in rows] == [1, 2, 3, 4]
    assert [score for _, score in rows] == sorted((score for _, score in rows), reverse=True)


def test_a_number_is_found_by_its_digits(calls: Sql) -> None:
    assert calls(FIRST, "0800-123") == [5]
    assert calls(FIRST, "07700900123") == [7]
    assert calls("SELECT bm25 FROM search('sms', '0800-123') WHERE id = 6") == [None]


def test_bm25_is_that_of_fts5(calls: Sql) -> None:
    query = "now dinner at xyz"
    ours = dict(calls(f"SELECT id, bm25 FROM search('sms', '{query}') WHERE bm25 IS NOT NULL"))
    match = " OR ".join(f'"{word}"' for word in query.split())
    theirs = calls(
        """SELECT c.key, -bm25(sqlembed_word_1) FROM sqlembed_word_1 AS w
        JOIN sqlembed_chunk_1 AS c ON c.chunk = w.rowid WHERE sqlembed_word_1 MATCH ?""",
        match,
    )
    assert ours == pytest.approx(dict(theirs))
    assert len(ours) == 5


def test_a_code_counts_three_times(calls: Sql) -> None:
    once = "SELECT -bm25(sqlembed_word_1) FROM sqlembed_word_1(?)"
    ours = calls("SELECT bm25 FROM search('sms', '0800-123', 1)")
    assert ours == pytest.approx([3 * value for value in calls(once, '"0800-123"')])


def test_without_reranking_the_score_is_made_of_meaning_and_words(sms: Sql) -> None:
    for score, meaning, share, standing, rerank in sms(WEIGHED, "see dinner", PLAIN):
        assert rerank is None
        assert score == pytest.approx(meaning + (share**4 + standing) / 2)


def test_meaning_is_a_softmax_of_the_cosines_in_spreads(sms: Sql) -> None:
    query = "see dinner"
    cosines = sms("SELECT similarity(body, ?) FROM sms ORDER BY id", query)
    spread = np.std(cosines)
    weights = np.exp(np.array(cosines) / spread)
    found = sms("SELECT meaning FROM search('sms', ?) ORDER BY id", query)
    assert found == pytest.approx(list(weights / weights.sum()), rel=1e-4)


def test_standings_add_up_to_the_largest_share(calls: Sql) -> None:
    sql = "SELECT bm25, standing, share FROM search('sms', 'call xyzzy', 10) WHERE bm25 > 0"
    (first, a, most), (second, b, _) = calls(sql)
    assert 0 < most < 1
    assert a + b == pytest.approx(most)
    assert a / b == pytest.approx(math.exp((first - second) / 2))


@pytest.mark.parametrize("typed", ["diner", "dinnerr", "dinnre", "dinxer"])
def test_a_misspelt_word_counts_as_the_one_that_was_meant(sms: Sql, typed: str) -> None:
    worded = "SELECT id, bm25, share FROM search('sms', ?) WHERE bm25 > 0 ORDER BY id"
    meant = sms(worded, "dinner eight")
    assert len(meant) == 2 and sms(worded, f"{typed} eight") == meant
    details = sms(f"SELECT detail FROM search_explain('sms', '{typed} eight')")
    assert any(f"{typed} (as dinner)" in detail for detail in details)


def test_two_mistakes_are_forgiven_in_a_long_word(sms: Sql) -> None:
    sms("INSERT INTO sms(id, body) VALUES (5, 'tomorrow'), (6, 'tomorow'), (7, 'evening')")
    found = "SELECT id FROM search('sms', ?) WHERE share > 0 ORDER BY id"
    assert sms(found, "tommorow") == [6]  # one mistake
    assert sms(found, "tommorowz") == [6]
    assert sms(found, "tomotrrow") == [5]
    assert sms(found, "evning") == [7]
    assert sms(found, "evnng") == []


def test_what_is_no_spelling_mistake_is_not_mended(sms: Sql) -> None:
    sms("INSERT INTO sms(id, body) VALUES (5, 'diner 12345'), (6, 'at noon')")

    def found(query: str) -> list[int]:
        return sms("SELECT id FROM search('sms', ?) WHERE share > 0 ORDER BY id", query)

    assert found("diner") == [5]  # which waits
    sms("SELECT sqlembed_flush()")
    assert found("diner") == [5]
    assert found("12346") == []  # another number is another thing
    assert found("npqn") == found("att") == []  # two mistakes; too short to tell
    assert found("dinler") == [1, 3, 5]  # dinner or diner


def test_words_no_chunk_has_change_nothing_of_the_order(sms: Sql) -> None:
    near = sms("SELECT id FROM knn('sms', 'xyzzy plugh')")
    assert sms("SELECT id FROM search('sms', 'xyzzy plugh', 10, ?)", PLAIN) == near
    assert sms("SELECT sum(share), sum(standing) FROM search('sms', 'xyzzy')") == [(0, 0)]
    assert len(sms(FIND, "!?!")) == 4


def test_what_was_written_a_moment_ago_is_found_by_words_and_meaning(sms: Sql) -> None:
    sms("INSERT INTO sms(body) VALUES ('ticket AB-12 is paid')")
    assert sms(FIRST, "AB-12") == [5]
    (before,) = sms("SELECT score, share, bm25 > 0 FROM search('sms', 'AB-12 paid', 1)")
    sms("SELECT sqlembed_flush()")
    (after,) = sms("SELECT score, share, bm25 > 0 FROM search('sms', 'AB-12 paid', 1)")
    assert before[1:] == after[1:] == (1, 1)
    sms("UPDATE sms SET body = 'nothing' WHERE id = 5")
    assert sms("SELECT share FROM search('sms', 'AB-12') WHERE id = 5") == [0]
    sms("DELETE FROM sms WHERE id = 5")
    assert 5 not in sms(FIND, "nothing")


def test_words_of_changed_and_deleted_rows_are_gone_after_a_flush(sms: Sql) -> None:
    sms("UPDATE sms SET body = 'supper' WHERE id = 1")
    sms("DELETE FROM sms WHERE id = 2")
    sms("SELECT sqlembed_flush()")
    assert sms("SELECT count(*) FROM sqlembed_word_1 WHERE text MATCH 'eight OR prize'") == [0]
    assert sms("SELECT count(*) FROM sqlembed_word_1 WHERE text MATCH 'supper'") == [1]
    same = "SELECT (SELECT count(*) FROM sqlembed_chunk_1), count(*) FROM sqlembed_word_1"
    assert sms(same) == [(3, 3)]
    sms("INSERT INTO sqlembed_word_1(sqlembed_word_1) VALUES ('integrity-check')")


def test_ids_restrict_before_anything_is_cut(calls: Sql) -> None:
    for n in range(300):
        calls("INSERT INTO sms(body) VALUES (?)", f"dinner {n}")
    calls("SELECT sqlembed_flush()")
    some = "SELECT id FROM search('sms', 'dinner', 3) WHERE id IN (2, 4, 6)"
    assert sorted(calls(some)) == [2, 4, 6]
    assert calls("SELECT id FROM search('sms', 'dinner', 3) WHERE id IN (SELECT NULL)") == []


def test_the_words_are_looked_for_once_however_many_ids_are_allowed() -> None:
    db = Sql(apsw.Connection(":memory:"))
    db("CREATE VIRTUAL TABLE words USING fts5(text)")
    db("CREATE TABLE chunks(chunk INTEGER PRIMARY KEY, key)")
    sql = words.FIND.replace("{conditions}", words.AMONG)
    sql = sql.format(words="words", chunks="chunks")
    plan = db(f"EXPLAIN QUERY PLAN {sql}", "x", "[1]", 5)
    (scan,) = (detail for *_, detail in plan if "VIRTUAL TABLE" in detail and "words" in detail)
    assert scan.endswith("INDEX 0:M1")  # ":=M1" would be once for each row that is allowed


def test_a_bound_of_distance_applies_before_k(sms: Sql) -> None:
    found = sms("SELECT id, distance FROM search('sms', 'see dinner', 1) WHERE distance > 0.7")
    assert len(found) == 1 and found[0][1] > 0.7
    near = "SELECT id FROM search('sms', 'dinner at eight') WHERE distance"
    assert sms(f"{near} < 0.01") == sms(f"{near} <= 0.01") == [1]
    assert sms(f"{near} BETWEEN 0.01 AND 0.5") == sms(f"{near} BETWEEN 0.01 AND 0.5 AND id > 0")
    assert sms(f"{near} > 2") == sms(f"{near} < 0.5 AND id IN (2, 4)") == []
    assert sms(f"{near} >= 0 LIMIT 2") == sms(f"{near} < 2")[:2]
    sms("INSERT INTO sms(body) VALUES ('dinner at eight'), ('no such words')")
    assert sorted(sms(f"{near} < 0.01")) == [1, 5]


@pytest.mark.doors("apsw", "extension")
def test_bounds_find_what_brute_force_finds(sql: Sql) -> None:
    random = Random(5)
    words = [f"word{n}" for n in range(40)]
    sql("CREATE TABLE t(id INTEGER PRIMARY KEY, body TEXT)")
    for n in range(300):
        body = " ".join(random.choices(words, k=random.randint(1, 9)))
        sql("INSERT INTO t VALUES (?, ?)", n, body)
        if n == 250:
            sql("SELECT sqlembed_index('t', 'body')")  # the others wait
    find = "SELECT id, distance, bm25 FROM search('t', ?1, ?2, ?5) WHERE distance BETWEEN ?3 AND ?4"
    for _ in range(12):
        query = " ".join(random.sample(words, 3))
        low, high = sorted(random.uniform(0.1, 1.3) for _ in range(2))
        every = sql(find, query, 300, 0, 2, PLAIN)
        assert len(every) == 300
        within = {id: bm25 or 0 for id, distance, bm25 in every if low <= distance <= high}
        for k in (1, 7, 300):
            found = sql(find, query, k, low, high, PLAIN)
            assert {id for id, *_ in found} <= set(within)
            assert len(found) == min(k, len(within))
            if k == 7 and within:
                assert max(bm25 or 0 for *_, bm25 in found) == max(within.values())


def test_k_rows_are_found_where_one_row_has_most_of_the_near_chunks(sql: Sql) -> None:
    sql("CREATE TABLE t(id INTEGER PRIMARY KEY, code UNIQUE, body TEXT)")
    sql("INSERT INTO t VALUES (1, 'a', ?)", "needle needle needle needle. " * 400)
    for n in range(2, 9):
        sql("INSERT INTO t VALUES (?, ?, ?)", n, n, f"far away {n}")
    sql("SELECT sqlembed_index('t', 'body')")
    assert sql("SELECT chunks > 100 FROM sqlembed_status") == [1]
    assert sorted(sql("SELECT id FROM search('t', 'needle', 8)")) == [1, 2, 3, 4, 5, 6, 7, 8]
    sql("PRAGMA recursive_triggers = OFF")  # rows that REPLACE deletes stay in the index
    sql("REPLACE INTO t VALUES (9, 7, 'far away')")
    assert sorted(sql("SELECT id FROM search('t', 'needle', 8)")) == [1, 2, 3, 4, 5, 6, 8, 9]
    far = "SELECT id FROM search('t', 'needle', 3) WHERE distance > 0.5 AND id <> 1"
    assert len(sql(far)) == 3


def test_limit_takes_the_place_of_k(calls: Sql) -> None:
    for n in range(20):
        calls("INSERT INTO sms(body) VALUES (?)", f"call {n}")
    assert len(calls("SELECT id FROM search('sms', 'call')")) == 10
    assert len(calls("SELECT id FROM search('sms', 'call') LIMIT 12")) == 12
    assert "at most 4096; got 10,000" in calls.error(
        "SELECT id FROM search('sms', 'call') LIMIT 10000"
    )
    assert len(calls("SELECT id FROM search('sms', 'call') ORDER BY rank LIMIT 1 OFFSET 6")) == 1


def test_a_vector_leg_alone_where_an_index_keeps_no_words(sms: Sql) -> None:
    sms("""SELECT sqlembed_index('sms', 'body', '{"name": "bare", "words": null}')""")
    rows = sms("SELECT id, bm25, share FROM search('bare', 'dinner at eight')")
    assert rows[0] == (1, None, 0) and len(rows) == 4
    assert sms("SELECT count(*) FROM sqlite_schema WHERE name LIKE 'sqlembed_word_2%'") == [0]


@pytest.mark.parametrize(
    ("tokenizer", "query", "found"),
    [
        ("unicode61", "EIGHT dinnering", {1}),
        ("porter unicode61", "dinnering", {1, 3}),
        ("trigram", "nner at", {1, 3}),
    ],
)
def test_tokenizers(sms: Sql, tokenizer: str, query: str, found: set[int]) -> None:
    sms(f"""SELECT sqlembed_index('sms', 'body', '{{"name": "t", "words": "{tokenizer}"}}')""")
    sql = "SELECT id FROM search('t', ?, 10, ?) WHERE bm25 > 0"
    assert set(sms(sql, query, PLAIN)) == found
    sms("INSERT INTO sms(body) VALUES ('dinnering, dinner at nine')")
    assert set(sms(sql, query, PLAIN)) == {*found, 5}


def test_a_tokenizer_that_fts5_lacks_leaves_nothing_behind(sms: Sql) -> None:
    message = sms.error(
        """SELECT sqlembed_index('sms', 'body', '{"name": "t", "words": "nope"}')"""
    )
    assert message.startswith("OptionError") and "'nope'" in message
    assert sms("SELECT name FROM sqlembed_status") == ["sms"]


def test_reranking_reads_the_best_rows_only(calls: Sql) -> None:
    sql = "SELECT rerank FROM search('sms', 'call now', 4, ?)"
    calls(sql, PLAIN)
    FakeModel.texts.clear()
    rows = calls(sql, '{"rerank": 3}')
    assert [rerank is not None for rerank in rows] == [True, True, True, False]
    assert len(FakeModel.texts) == 1 + 3  # the query and the rows, word by word


def test_a_model_of_ones_choice_reranks(sms: Sql, fake_data: object) -> None:
    from harness import install_fake

    install_fake("judge", "reranker", 1)
    rows = sms("""SELECT id, rerank FROM search('sms', 'win now', 2, '{"reranker": "judge"}')""")
    assert rows[0] == (2, 1.0)


def test_without_words_the_order_is_that_of_the_vectors_before_any_flush(sql: Sql) -> None:
    sql("CREATE TABLE t(id INTEGER PRIMARY KEY, body TEXT)")
    sql("""SELECT sqlembed_index('t', 'body', '{"words": null}')""")
    draw = Random(1)
    for _ in range(60):
        sql("INSERT INTO t(body) VALUES (?)", " ".join(draw.choices("abcdefgh", k=5)))
    by_vectors = sql("SELECT distance FROM knn('t', 'a b c d', 8)")
    assert sql("SELECT distance FROM search('t', 'a b c d', 8, ?)", PLAIN) == by_vectors
    sql("SELECT sqlembed_flush()")
    sql("DELETE FROM t WHERE id > 8")  # and the numbers of what is left are far apart
    sql("SELECT sqlembed_flush()")
    by_vectors = sql("SELECT distance FROM knn('t', 'a b c d', 8)")
    assert sql("SELECT distance FROM search('t', 'a b c d', 8, ?)", PLAIN) == by_vectors


@pytest.mark.parametrize("gone", ["DELETE FROM t WHERE id <= 70", "REPLACE INTO t SELECT"])
def test_rows_that_changed_do_not_use_up_the_words_leg(sql: Sql, gone: str) -> None:
    sql("CREATE TABLE t(id INTEGER PRIMARY KEY, code UNIQUE, body TEXT)")
    for n in range(1, 71):
        sql("INSERT INTO t VALUES (?, ?, '0800-123')", n, n)
    for n in range(71, 200):
        sql("INSERT INTO t VALUES (?, ?, ?)", n, n, f"which message has it {n}")
    sql("INSERT INTO t VALUES (200, 200, 'other words than those, but 0800-123 at the end of it')")
    sql("SELECT sqlembed_index('t', 'body')")
    if gone.startswith("REPLACE"):
        for n in range(1, 71):
            sql("REPLACE INTO t VALUES (?, ?, 'no such')", 1000 + n, n)
    else:
        sql(gone)
    find = "SELECT id FROM search('t', 'which message has 0800-123', 1, ?)"
    assert sql(find, PLAIN) == [200]
    sql("SELECT sqlembed_flush()")
    assert sql(find, PLAIN) == [200]


def test_a_row_of_many_chunks_does_not_use_up_the_words_leg(sql: Sql) -> None:
    sql("CREATE TABLE t(id INTEGER PRIMARY KEY, body TEXT)")
    sql("INSERT INTO t(body) VALUES (?)", "torque and more of it. " * 300)
    for n in range(100):
        sql("INSERT INTO t(body) VALUES (?)", f"what is it {n}")
    sql(
        "INSERT INTO t(body) VALUES ('far away some torque among quite different words of all kinds')"
    )
    sql("SELECT sqlembed_index('t', 'body')")
    assert sql.one("SELECT count(*) FROM sqlembed_chunk_1 WHERE key = 1") > 60
    worded = "SELECT id FROM search('t', 'torque', 10, ?) WHERE word_rank IS NOT NULL"
    assert set(sql(worded, PLAIN)) == {1, 102}


@pytest.mark.parametrize(
    ("words", "body", "query", "snippet"),
    [
        ("unicode61", "we meet for dinner", "diner", "we meet for [dinner]"),
        ("unicode61", "ring 0800 123 now", "0800-123", "ring [0800 123] now"),
        ("unicode61 remove_diacritics 2", "at the café now", "CAFE", "at the [café] now"),
        ("porter", "she was running late", "runs", "she was [running] late"),
        ("trigram", "the torque wrench", "orqu", "the t[orqu]e wrench"),
        ("unicode61 tokenchars '-_'", "it's code a-b_c here", "a-b_c", "it's code [a-b_c] here"),
    ],
)
def test_a_snippet_marks_words_as_they_are_matched(
    sql: Sql, words: str, body: str, query: str, snippet: str
) -> None:
    sql("CREATE TABLE t(id INTEGER PRIMARY KEY, body TEXT)")
    sql("INSERT INTO t(body) VALUES (?), ('something else'), ('and another')", body)
    sql("SELECT sqlembed_index('t', 'body', json_object('words', ?))", words)
    assert sql("SELECT snippet, share FROM search('t', ?, 1)", query) == [(snippet, 1)]


def test_a_nul_ends_no_query(sms: Sql) -> None:
    assert sms("SELECT id FROM search('sms', 'a' || char(0) || 'prize', 1)") == [2]


def test_a_common_word_is_weighed_right_though_not_counted_to_the_end(
    sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sqlembed.index.words.MOST_COUNTED", 10)
    sql("CREATE TABLE t(id INTEGER PRIMARY KEY, body TEXT)")
    for n in range(400):
        sql("INSERT INTO t(body) VALUES (?)", "common" if n % 10 else "other")
    sql("SELECT sqlembed_index('t', 'body')")
    steps = dict(sql("SELECT step, detail FROM search_explain('t', 'common other')"))
    counted = re.findall(r"in (\d+)", steps["words of the query"])
    assert abs(int(counted[0]) - 360) < 40 and abs(int(counted[1]) - 40) < 5


def test_among_ids_no_more_rows_that_wait_are_read_than_else(
    sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sqlembed.index.fresh.MOST_ROWS", 5)
    sql("CREATE TABLE t(id INTEGER PRIMARY KEY, body TEXT)")
    sql("SELECT sqlembed_index('t', 'body')")
    for n in range(20):
        sql("INSERT INTO t(body) VALUES (?)", f"text {n}")
    among = "WHERE id IN (SELECT id FROM t)"
    assert set(sql(f"SELECT coverage FROM search('t', 'text') {among}")) == {0.25}


@pytest.mark.parametrize("gone", ["DELETE FROM t", "UPDATE t SET body = NULL"])
@pytest.mark.parametrize("filled", [False, True])
def test_rows_that_are_gone_take_no_place_of_those_that_wait(
    sql: Sql, monkeypatch: pytest.MonkeyPatch, gone: str, filled: bool
) -> None:
    monkeypatch.setattr("sqlembed.index.fresh.MOST_ROWS", 5)
    sql("CREATE TABLE t(id TEXT PRIMARY KEY, body TEXT)")
    make = """SELECT sqlembed_index('t', 'body', '{"backlog": "later"}')"""
    if not filled:
        sql(make)
    for n in range(20):
        sql("INSERT INTO t VALUES (?, ?)", f"row {n:02}", f"text {n}")
    if filled:
        sql(make)
    sql(f"{gone} WHERE id > 'row 03'")
    left = ["row 00", "row 01", "row 02", "row 03"]
    for function in ("knn", "search"):
        find = f"SELECT id FROM {function}('t', 'text')"
        assert sorted(sql(find)) == left
        assert sorted(sql(f"{find} WHERE id IN (SELECT id FROM t)")) == left
        assert sql(f"{find} WHERE id IN ('row 01', 'row 15')") == ["row 01"]


@pytest.fixture
def backlog(sql: Sql, monkeypatch: pytest.MonkeyPatch) -> Sql:
    """Rows that wait, far more than a search reads; the oldest are unlike the others."""
    monkeypatch.setattr("sqlembed.index.fresh.MOST_ROWS", 4)
    monkeypatch.setattr("sqlembed.index.choosing.PAGE", 7)
    sql("CREATE TABLE t(key TEXT PRIMARY KEY, text TEXT)")
    sql("SELECT sqlembed_index('t', 'text')")
    bodies = (
        "Frühstück mit Größe", "ring 0871-872-9755", "flight KL341 is late", "ring now", "Привет мир",
        *(f"filler number {n} is here" for n in range(30)),
    )  # fmt: skip
    for n, body in enumerate(bodies):
        sql("INSERT INTO t VALUES (?, ?)", f"row {n:02}", body)
    return sql


@pytest.mark.parametrize("absorbed", [False, True])
def test_of_a_large_backlog_the_rows_with_the_words_are_read(backlog: Sql, absorbed: bool) -> None:
    if absorbed:
        backlog("SELECT sqlembed_flush('t', 1)")
        assert backlog("SELECT waiting > 30 FROM sqlembed_status") == [1]
    find = "SELECT id FROM search('t', ?, 1)"
    for query, id in (
        ("frühstück", "row 00"), ("FRÜHSTÜCK", "row 00"), ("größe", "row 00"),
        ("08718729755", "row 01"), ("0871 872 9755", "row 01"), ("(0871) 8729755", "row 01"),
        ("kl 341", "row 02"), ("KL341", "row 02"), ("kl-3-41", "row 02"),
        ("when is the flight", "row 02"),
        ("ring", "row 03"), ("ring now", "row 03"), ("ПРИВЕТ", "row 04"),
        ("filler 0", "row 05"), ("number 29", "row 34"),
    ):  # fmt: skip
        assert backlog(find, query) == [id], query
    assert backlog("SELECT id FROM knn('t', 'KL341', 1)") != ["row 02"]
    among = "WHERE id IN (SELECT key FROM t WHERE key BETWEEN 'row 05' AND 'row 09')"
    assert backlog(f"{find} {among}", "number 2") == ["row 07"]
    assert 0 < backlog("SELECT coverage FROM search('t', 'filler', 1)")[0] < 0.5


def split_by(sql: Sql, tokenizer: str) -> None:
    """Make a table and its index with this tokenizer."""
    sql("CREATE TABLE t(id INTEGER PRIMARY KEY, body TEXT)")
    sql("SELECT sqlembed_index('t', 'body', ?)", json.dumps({"words": tokenizer}))


@pytest.mark.parametrize(
    ("tokenizer", "query"),
    [("porter unicode61", "breakfasts happier"), ("trigram", "kfast hap"), ("ascii", "BREAKFAST")],
)
def test_of_a_large_backlog_the_words_are_those_of_the_tokenizer(
    sql: Sql, monkeypatch: pytest.MonkeyPatch, tokenizer: str, query: str
) -> None:
    monkeypatch.setattr("sqlembed.index.fresh.MOST_ROWS", 2)
    split_by(sql, tokenizer)
    sql("INSERT INTO t(body) VALUES ('a happy breakfast'), ('other')")
    for n in range(20):
        sql("INSERT INTO t(body) VALUES (?)", f"filler {n}")
    assert sql("SELECT id FROM search('t', ?, 1)", query) == [1]


@pytest.mark.parametrize(
    ("tokenizer", "written"),
    [
        ("unicode61", "(Ten)"), ("unicode61", "at ten"), ("unicode61 tokenchars '_'", "TEN-ish"), ("ascii", "ten!"),
        ("unicode61 separators 'x'", "axtenxb"), ("unicode61 categories 'L*'", "5ten6"), ("porter", "tens"),
    ],
)  # fmt: skip
def test_a_short_word_is_not_looked_for_inside_of_others(
    sql: Sql, monkeypatch: pytest.MonkeyPatch, tokenizer: str, written: str
) -> None:
    monkeypatch.setattr("sqlembed.index.fresh.MOST_ROWS", 12)
    split_by(sql, tokenizer)
    sql("INSERT INTO t(body) VALUES (?)", written)
    inside = 20 if written in ("(Ten)", "at ten", "TEN-ish", "ten!") else 10
    for n in range(20):
        sql("INSERT INTO t(body) VALUES (?)", f"often listen {n}" if n < inside else f"other {n}")
    assert sql("SELECT id FROM search('t', 'ten', 1)") == [1]


def test_of_equal_rows_of_a_large_backlog_the_newest_are_read(backlog: Sql) -> None:
    found = backlog("SELECT id FROM search('t', 'filler', 4) ORDER BY id")
    assert found == ["row 31", "row 32", "row 33", "row 34"]
    backlog("UPDATE t SET text = text || '!' WHERE key = 'row 11'")
    assert "row 11" in backlog("SELECT id FROM search('t', 'filler', 4)")


def test_of_a_large_backlog_the_words_of_a_long_question_choose(backlog: Sql) -> None:
    backlog("INSERT INTO t VALUES ('bob', 'Bob is in Kew')")
    for n in range(10):
        backlog("INSERT INTO t VALUES (?, 'at the inn, by and by')", f"inn {n}")
    found = "SELECT id FROM search('t', ?, 1)"
    asked = "is Bob at Kew or by me tomorrow"
    assert backlog(found, asked) == ["bob"]
    steps = dict(backlog("SELECT step, detail FROM search_explain('t', ?)", asked))
    counts = dict(re.findall(r"(\w+) in (\d+)", steps["words of the query"]))
    assert counts["Bob"] == counts["Kew"] == "1"  # short, and looked for as the long word is
    assert int(counts["by"]) > 4  # though four were read: of what is left out it is estimated


def test_without_time_to_wait_a_large_backlog_is_not_looked_through(backlog: Sql) -> None:
    find = "SELECT id FROM search('t', 'KL341', 40, ?)"
    assert "row 02" in backlog(find, '{"wait": 60000}')
    assert "row 02" not in backlog(find, '{"wait": 0}')


def test_a_row_on_which_the_expression_fails_hides_no_other_of_a_large_backlog(
    sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sqlembed.index.fresh.MOST_ROWS", 4)
    sql("CREATE TABLE t(id INTEGER PRIMARY KEY, body TEXT)")
    sql("SELECT sqlembed_index('t', ?)", "json_extract(body, '$.a')")
    sql("INSERT INTO t(body) VALUES (json_object('a', 'the needle')), ('no JSON')")
    for n in range(20):
        sql("INSERT INTO t(body) VALUES (json_object('a', ?))", f"hay {n}")
    assert sql("SELECT id FROM search('t', 'needle', 1)") == [1]


@pytest.mark.doors("apsw")
def test_an_expression_that_fails_on_every_row_is_soon_given_up(
    sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sqlembed.index.fresh.MOST_ROWS", 4)
    monkeypatch.setattr("sqlembed.index.choosing.MOST_FAILED", 4)
    sql("CREATE TABLE t(id INTEGER PRIMARY KEY, body TEXT)")
    sql("SELECT sqlembed_index('t', ?)", "json_extract(body, '$.a')")
    for n in range(200):
        sql("INSERT INTO t(body) VALUES (?)", f"no JSON {n}")
    scans = list[str]()
    sql.db.exec_trace = lambda cursor, text, bindings: scans.append(text) or True
    assert sql("SELECT id FROM search('t', 'json', 1)") == []
    assert 0 < sum("group_concat" in text for text in scans) < 20


@pytest.mark.parametrize("written", ["CALL KL 341", "call kl-341", "Call 'K.L341'", "call KL341"])
@pytest.mark.parametrize("strict", ["ON", "OFF"])
def test_a_short_code_is_found_in_a_large_backlog(backlog: Sql, written: str, strict: str) -> None:
    backlog("UPDATE t SET text = 'changed' WHERE key = 'row 02'")
    backlog("INSERT INTO t VALUES ('code', ?)", written)
    for n in range(10):
        backlog("INSERT INTO t VALUES (?, ?)", f"more {n}", f"341 and KL and {n}")
    backlog(f"PRAGMA case_sensitive_like = {strict}")
    for query in ("KL341", "kl341", "please call KL341"):
        assert backlog("SELECT id FROM search('t', ?, 1)", query) == ["code"], query


@pytest.mark.parametrize(
    ("written", "asked"),
    [
        ("KL341", "KL 341"), ("KL 341", "kl341"), ("KL-341", "KL341"), ("KL341", "kl-341"),
        ("0871 872 9755", "08718729755"), ("08718729755", "0871 872 9755"),
        ("08718729755", "0871-872-9755"), ("+44 7700 900123", "+447700900123"),
        ("+447700900123", "+44 7700 900 123"), ("1000", "1,000"), ("£1,000", "1000"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("waits", [False, True])
def test_a_number_is_found_however_it_is_parted(
    calls: Sql, written: str, asked: str, waits: bool
) -> None:
    calls("INSERT INTO sms(body) VALUES ('it is ' || ? || ' that I meant by it')", written)
    if not waits:
        calls("SELECT sqlembed_flush()")
    calls("INSERT INTO sms(body) VALUES ('44 others 341 of 900 them')")
    find = "SELECT id, snippet FROM search('sms', ?) WHERE share > 0.8 ORDER BY share DESC LIMIT 1"
    ((id, snippet),) = calls(find, asked)
    assert id == 8
    assert snippet.startswith(("it is [", "it is £[", "it is +["))


def test_a_number_parted_as_it_was_typed_comes_first(calls: Sql) -> None:
    for body in ("5 pm 300 603", "at 300-603", "300603 it is"):
        calls("INSERT INTO sms(body) VALUES (?)", body)
    found = "SELECT id, share FROM search('sms', ?, 3) WHERE share > 0"
    assert calls(found, "300603")[0] == (10, 1)
    assert sorted(calls(found, "300603")) == [(8, 0.8), (9, 0.8), (10, 1)]
    assert calls("SELECT min(share) FROM search('sms', '300-603', 3)") == [0.8]


def test_what_is_no_code_is_not_parted(calls: Sql) -> None:
    calls("INSERT INTO sms(body) VALUES ('now here'), ('a1'), ('12 9')")
    assert calls("SELECT max(share) FROM search('sms', 'nowhere')") == [0]
    assert calls("SELECT max(share) FROM search('sms', '129')") == [0]


def test_a_very_long_code_is_not_parted() -> None:
    """Its ways would be tried for minutes."""
    half = "1" * (spelling.LONGEST_CODE // 2)
    assert spelling.apart(half * 2, {half}) == [(half, half)]
    assert spelling.apart(half * 2 + "1", {half, half + "1"}) == []


def test_of_many_codes_the_first_are_parted(calls: Sql, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spelling, "MOST_CODES", 1)
    calls("INSERT INTO sms(body) VALUES ('it is KL 341'), ('call 0800 999')")
    found = "SELECT id FROM search('sms', ?) WHERE share > 0 ORDER BY id"
    assert calls(found, "KL341 0800999") == [8]
    assert calls(found, "0800999 KL341") == [9]


@pytest.mark.parametrize("stored", [0, 1])
def test_rows_that_all_wait_are_weighed_as_after_a_flush(sql: Sql, stored: int) -> None:
    sql("CREATE TABLE sms(id INTEGER PRIMARY KEY, body TEXT)")
    sql("SELECT sqlembed_index('sms', 'body')")
    for id in range(1, 30):
        body = "who is it and who sent me this" if id < 20 else f"call {40000 + id} for dinner {id}"
        sql("INSERT INTO sms VALUES (?, ?)", id, body)
        if id == stored:
            sql("SELECT sqlembed_flush()")
    columns = "id, score, meaning, share, standing, bm25, distance"
    query = f"SELECT {columns} FROM search('sms', 'who sent me 40027?', 29) ORDER BY id"
    before = sql(query)
    assert sql("SELECT id FROM search('sms', 'who sent me 40027?', 1)") == [27]
    sql("SELECT sqlembed_flush()")
    assert [pytest.approx(row, abs=1e-4) for row in sql(query)] == before
    assert len({row[2] for row in before}) > 5  # told apart by meaning


def test_a_long_text_that_waits_makes_no_other_look_short(sms: Sql) -> None:
    worth = "SELECT bm25 FROM search('sms', 'prize') WHERE bm25 > 0"
    (before,) = sms(worth)
    sms("INSERT INTO sms(body) VALUES (?)", "a long story " * 5000)
    (waiting,) = sms(worth)
    sms("SELECT sqlembed_flush()")
    (after,) = sms(worth)
    assert before < waiting == pytest.approx(after, rel=0.3)


@pytest.mark.doors("apsw")
def test_of_long_texts_that_wait_not_all_are_cut(sql: Sql, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sqlembed.index.fresh.MOST_CHUNKS", 4)
    monkeypatch.setattr("sqlembed.index.fresh.MOST_UNFIT", 3)
    cut = list[str]()
    chunk = FakeModel.chunk

    def counted(model: FakeModel, texts: list[str], *rest: object) -> object:
        cut.extend(texts)
        return chunk(model, texts, *rest)

    monkeypatch.setattr(FakeModel, "chunk", counted)
    sql("CREATE TABLE t(id INTEGER PRIMARY KEY, body TEXT)")
    sql("SELECT sqlembed_index('t', 'body')")
    for n in range(20):
        sql("INSERT INTO t(body) VALUES (?)", f"very long {n} " * 50)
    sql("INSERT INTO t(body) VALUES ('short')")
    cut.clear()
    assert sql("SELECT id FROM search('t', 'short', 1)") == [21]
    assert len(set(cut)) == 1 + 3


def test_more_like_leaves_the_row_out_however_its_id_is_written(sql: Sql) -> None:
    sql("CREATE TABLE t(id TEXT PRIMARY KEY COLLATE NOCASE, body TEXT)")
    sql("INSERT INTO t VALUES ('abc', 'dinner at eight'), ('def', 'dinner at nine'), ('x', NULL)")
    sql("SELECT sqlembed_index('t', 'body')")
    assert sql("SELECT id FROM more_like('t', 'ABC')") == ["def"]
    assert "has no text" in sql.error("SELECT * FROM more_like('t', 'x')")
    assert "has no row whose id is the text 'y'" in sql.error("SELECT * FROM more_like('t', 'y')")
    sql(f"INSERT INTO t VALUES ('bad', '{FAILING}')")
    assert "told to fail" in sql.error("SELECT * FROM more_like('t', 'bad')")


def test_waiting_rows_with_the_words_are_embedded_first(
    sms: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sqlembed.index.fresh.MOST_CHUNKS", 3)
    sms("INSERT INTO sms(body) VALUES ('the parcel has come')")
    for n in range(20):
        sms("INSERT INTO sms(body) VALUES (?)", f"filler {n}")
    assert sms("SELECT id FROM knn('sms', 'parcel', 1)") != [5]
    (row,) = sms("SELECT id, coverage FROM search('sms', 'parcel', 1)")
    assert row[0] == 5 and row[1] < 1


def test_no_time_for_waiting_rows_still_answers(sms: Sql) -> None:
    for n in range(100):
        sms("INSERT INTO sms(body) VALUES (?)", f"filler {n}")
    found = sms("""SELECT id, coverage FROM search('sms', 'prize', 1, '{"wait": 0}')""")
    assert found[0][0] == 2 and found[0][1] < 1


def test_null_in_nothing_out(sms: Sql) -> None:
    assert sms("SELECT * FROM search(NULL, 'x')") == []
    assert sms("SELECT * FROM search('sms', NULL)") == []
    assert sms("SELECT * FROM more_like('sms', NULL)") == []
    assert sms("SELECT * FROM search_explain(NULL, 'x')") == []


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("search('sms')", "query is missing"),
        ("search('nope', 'x')", "NotFoundError: no index is called 'nope'"),
        ("search('sms', 5)", "InputError: search()'s query is a text; got the integer 5"),
        ("search('sms', x'00')", "InputError: search()'s query is a text; got a BLOB of 1 bytes; a vector has no words: give it to knn()"),
        ("search('sms', 'x', 0)", "InputError: k is a whole number from 1 to 4096; got the integer 0"),
        ("search('sms', 'x', 1, '{')", "OptionError: options are a JSON object"),
        ("search('sms', 'x', 1, '[]')", "OptionError: options are a JSON object"),
        ("search('sms', 'x', 1, '{\"n\": 1}')", "the options are rerank, reranker, wait"),
        ("search('sms', 'x', 1, '{\"rerank\": -1}')", "option rerank is a whole number from 0 to 200"),
        ("search('sms', 'x', 1, '{\"wait\": \"1\"}')", "option wait is a whole number"),
        ("search('sms', 'x', 1, '{\"reranker\": 1}')", "option reranker is a model's name; got 1"),
        ("search('sms', 'x', 1, '{\"reranker\": \"no\"}')", "NotFoundError: no model is called 'no'"),
        ("more_like('sms', 99)", "InputError: index sms has no row whose id is the integer 99"),
    ],
)  # fmt: skip
def test_bad_input_is_an_error_in_words(sms: Sql, call: str, message: str) -> None:
    assert message in sms.error(f"SELECT * FROM {call}")


def test_a_query_of_strange_characters_is_only_text(sms: Sql) -> None:
    for query in (
        '"',
        "'; DROP TABLE sms",
        "a AND NOT b*",
        "NEAR(x y)",
        "col:x",
        "\x00",
        "1-2" * 99,
    ):
        assert len(sms(FIND, query)) == 4, query


LONG_QUERY = "dinner at eight. " * 6 + "see you late. " * 4


def test_a_query_longer_than_the_model_reads_is_the_mean_of_its_chunks(sms: Sql) -> None:
    assert sms.error("SELECT embed_query(?)", LONG_QUERY).startswith("TextTooLongError")
    mean = "(SELECT vec_mean(embed(text)) FROM chunks(?, NULL, '{\"overlap\": 0}'))"
    wanted = sms(f"SELECT id, distance FROM knn('sms', {mean})", LONG_QUERY)
    found = sms("SELECT id, distance FROM knn('sms', ?)", LONG_QUERY)
    assert [id for id, _ in found] == [id for id, _ in wanted]
    assert [near for _, near in found] == pytest.approx([near for _, near in wanted], abs=1e-6)
    by_search = dict(sms("SELECT id, distance FROM search('sms', ?)", LONG_QUERY))
    assert by_search == pytest.approx(dict(wanted), abs=1e-6)


def test_a_query_too_long_for_a_cross_encoder_is_reranked_by_the_indexes_own_model(
    sms: Sql, fake_data: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    from harness import install_fake

    install_fake("judge", "reranker", 1)
    monkeypatch.setattr("sqlembed.engine.library.Library.reranker", lambda self: "judge")
    find = "SELECT id, rerank FROM search('sms', ?, 1)"
    assert sms(find, "see dinner") == [(3, 1.0)]
    own = sms("""SELECT id, rerank FROM search('sms', ?, 1, '{"reranker": "fake"}')""", LONG_QUERY)
    assert sms(find, LONG_QUERY) == own
    message = sms.error(
        """SELECT id FROM search('sms', ?, 1, '{"reranker": "judge"}')""", LONG_QUERY
    )
    assert message.startswith("TextTooLongError")


def test_the_words_that_say_most_of_a_long_query_are_looked_for(
    calls: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sqlembed.index.words.MOST_TERMS", 3)
    told = dict(
        calls(
            "SELECT step, detail FROM search_explain('sms', ?)",
            "at xyzzy now 0800-123 call plugh late dinner dinner dinner",
        )
    )
    # "now" and "call" are in two of seven; "0800-123" and "late" in one, and "dinner" is said thrice.
    assert told["words of the query"] == "of 7 chunks: 0800-123 in 1, late in 1, dinner in 2"


def test_more_like_a_row_leaves_that_row_out(sms: Sql) -> None:
    assert sms("SELECT id FROM more_like('sms', 1, 1)") == [3]
    assert 1 not in sms("SELECT id FROM more_like('sms', 1)")
    assert len(sms("SELECT id FROM more_like('sms', 1, 2)")) == 2
    sms("INSERT INTO sms(body) VALUES ('dinner at nine')")
    assert sms("SELECT id FROM more_like('sms', 5, 1)") == [1]


def test_more_like_several_rows_at_once(sms: Sql) -> None:
    sql = "SELECT id FROM knn('sms', (SELECT vec_mean(embed(body)) FROM sms WHERE id IN (1, 3)), 2)"
    assert sorted(sms(sql)) == [1, 3]


def test_an_explanation_says_why(calls: Sql) -> None:
    rows = calls("SELECT step, detail FROM search_explain('sms', 'call 0800-123', 2)")
    told = dict(rows)
    assert told["words of the query"] == "of 7 chunks: call in 2, 0800-123 in 1"
    assert "nearest chunks, by fake" in told["vectors"]
    assert told["rank 1"].startswith("id 5: ")
    assert "has call, 0800-123" in told["rank 1"] and "place by vectors 1" in told["rank 1"]
    assert "rank 3" not in told


def test_an_explanation_is_of_the_search_with_the_same_conditions(sms: Sql) -> None:
    for condition in (
        "id IN (2, 4)",
        "id = 4",
        "distance > 0.5",
        "distance < 0.9 AND id IN (1, 3)",
    ):
        found = sms(f"SELECT id, distance FROM search('sms', 'dinner now', 2) WHERE {condition}")
        told = sms(
            f"""SELECT step, detail, milliseconds, id, distance
            FROM search_explain('sms', 'dinner now', 2) WHERE {condition}"""
        )
        assert [row[3:] for row in told] == found, condition
        assert [row[0] for row in told] == [f"rank {n + 1}" for n in range(len(found))]
        assert all(row[1].startswith(f"id {row[3]}: ") and row[2] is None for row in told)
    steps = sms("SELECT milliseconds FROM search_explain('sms', 'dinner') WHERE id IS NULL")
    assert len(steps) == 6 and all(spent >= 0 for spent in steps)
