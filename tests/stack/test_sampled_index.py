"""An index whose model reads a sample of its texts first: one sample, for all that it ever embeds."""

from pathlib import Path

import apsw
import numpy as np
import pytest
import tiny_two_stage as tiny
from harness import Sql

import sqlembed
from sqlembed.engine.cache import Cache
from sqlembed.engine.local import LocalEngine

TEXTS = [
    "the red fox sleeps",
    "dogs bark at night",
    "a tree",
    "fox under the tree",
    "loud dogs",
    "yes the dogs bark loud",
]
"""As many as a sample has: it is all of them, and in which order they stand changes no vector."""
COSINE = 0.999
MODEL = "SELECT model FROM sqlembed_status WHERE name = 'sms'"
SAMPLES = "SELECT model FROM sqlembed_corpus"


@pytest.fixture
def sms(sql: Sql) -> Sql:
    """SQL on a table of messages, indexed with the tiny model of two stages."""
    tiny.install("tiny")
    sql("CREATE TABLE sms(id INTEGER PRIMARY KEY, body TEXT)")
    for text in TEXTS:
        sql("INSERT INTO sms(body) VALUES (?)", text)
    assert sql.one("SELECT sqlembed_index('sms', 'body')") == len(TEXTS)
    return sql


def vector(text: str, role: str = "document", texts: list[str] = TEXTS) -> np.ndarray:
    return tiny.of_second(text, role, tiny.sample(texts))


def stored(sql: Sql) -> dict[int, np.ndarray]:
    rows = sql("SELECT key, vector FROM sqlembed_chunk_1")
    return {key: np.frombuffer(blob, "<f4") for key, blob in rows}


def test_its_vectors_are_the_references(sms: Sql) -> None:
    assert sms.one(MODEL).startswith("tiny@")
    assert sms(SAMPLES) == sms(MODEL)
    for key, ours in stored(sms).items():
        assert ours @ vector(TEXTS[key - 1]) > COSINE


def test_queries_are_read_after_the_same_sample(sms: Sql) -> None:
    query = "the dogs at night"
    found = dict(sms("SELECT id, distance FROM knn('sms', ?, 6)", query))
    asked = vector(query, "query")
    for key, text in enumerate(TEXTS, 1):
        assert found[key] == pytest.approx(1 - asked @ vector(text), abs=2e-3)
    best = max(range(6), key=lambda n: float(asked @ vector(TEXTS[n]))) + 1
    assert sms("SELECT id FROM knn('sms', ?, 1)", query) == [best]
    assert len(sms("SELECT id FROM search('sms', ?)", query)) == 6


def test_rows_that_wait_are_too(sms: Sql) -> None:
    sms("INSERT INTO sms(body) VALUES ('no dogs at night')")
    asked = vector("dogs", "query")
    (distance,) = sms("SELECT distance FROM knn('sms', 'dogs', 9) WHERE id = 7")
    assert distance == pytest.approx(1 - asked @ vector("no dogs at night"), abs=2e-3)
    assert sms.one("SELECT sqlembed_flush('sms')") == 1
    assert stored(sms)[7] @ vector("no dogs at night") > COSINE
    assert sms("SELECT kind FROM sqlembed_check('sms')") == []


def test_embed_gives_vectors_of_the_index_by_its_name(sms: Sql) -> None:
    name = sms.one(MODEL)
    by_text = sms("SELECT id, round(distance, 5) FROM knn('sms', 'red fox', 3)")
    by_vector = "SELECT id, round(distance, 5) FROM knn('sms', embed_query('red fox', ?), 3)"
    assert sms(by_vector, name) == by_text
    assert "make an index with" in sms.error("SELECT embed('red fox', 'tiny')")
    assert "no sample of others" in sms.error(
        "SELECT embed('a', 'all-MiniLM-L6-v2' || ?)", name[4:]
    )


def test_immediate_mode_and_more_like(sms: Sql) -> None:
    sms("""SELECT sqlembed_alter('sms', '{"mode": "immediate"}')""")
    sms("SELECT id FROM knn('sms', 'red', 1)")  # has the connection watch
    sms("INSERT INTO sms(body) VALUES ('the red dogs')")
    sms("SELECT sqlembed_flush('sms')")
    assert stored(sms)[7] @ vector("the red dogs") > COSINE
    assert len(sms("SELECT id FROM more_like('sms', 7, 2)")) == 2


@pytest.mark.doors("apsw")
def test_another_process_reads_after_the_same_sample(sms: Sql, tmp_path: Path) -> None:
    # With nothing in its cache, it has to compute.
    other = LocalEngine(Cache(str(tmp_path / "other.db"), 1 << 20))
    again = Sql(sqlembed.connect(sms.db_path, engine=other), other)
    query = "SELECT id, round(distance, 4) FROM knn('sms', 'the dogs at night', 6)"
    assert not other.knows_sample(sms.one(MODEL))
    assert again(query) == sms(query)
    again("INSERT INTO sms(body) VALUES ('no tree')")
    again("SELECT sqlembed_flush()")
    assert stored(sms)[7] @ vector("no tree") > COSINE
    again.close()
    other.close()


@pytest.mark.doors("apsw")
@pytest.mark.parametrize(
    "call",
    [
        "SELECT sqlembed_flush('sms')",
        "SELECT id FROM search('sms', 'tree')",
        "SELECT id FROM more_like('sms', 1)",
        "SELECT sqlembed_reindex('sms')",
        "SELECT sqlembed_work(1, '[[7, 7, 0]]')",
        "SELECT sqlembed_import('sms', 'given', 'text', 'vector')",
    ],
)
def test_whatever_is_called_first_knows_it(sms: Sql, tmp_path: Path, call: str) -> None:
    sms("INSERT INTO sms(body) VALUES ('no tree')")
    sms(
        "CREATE TABLE given AS SELECT body AS text, vector FROM sms JOIN sqlembed_chunk_1 ON id = key"
    )
    other = LocalEngine(Cache(str(tmp_path / "other.db"), 1 << 20))
    again = Sql(sqlembed.connect(sms.db_path, engine=other), other)
    again(call)
    again("SELECT sqlembed_flush()")
    assert stored(sms)[7] @ vector("no tree") > COSINE
    again.close()
    other.close()


def test_it_is_kept_until_another_is_asked_for(sms: Sql) -> None:
    name, before = sms.one(MODEL), stored(sms)
    sms("UPDATE sms SET body = 'a red tree' WHERE id > 3")
    assert sms.one("SELECT sqlembed_reindex('sms')") == 0  # it is as it would become
    sms("""SELECT sqlembed_alter('sms', '{"tokens": 40}')""")
    assert sms.one(MODEL) == name
    np.testing.assert_array_equal(
        np.frombuffer(sms.one("SELECT vector FROM sqlembed_chunk_2 WHERE key = 1"), "<f4"),
        before[1],
    )
    sms("SELECT sqlembed_reindex('sms', 'tiny')")
    assert sms.one(MODEL) != name
    assert sms(SAMPLES) == sms(MODEL)
    now = [text if n < 3 else "a red tree" for n, text in enumerate(TEXTS)]
    ours = np.frombuffer(sms.one("SELECT vector FROM sqlembed_chunk_3 WHERE key = 1"), "<f4")
    assert ours @ vector(TEXTS[0], texts=now) > COSINE
    assert ours @ vector(TEXTS[0]) < COSINE


def test_what_was_begun_with_a_sample_goes_on_with_it(sms: Sql) -> None:
    shadow = "SELECT model FROM sqlembed_catalog WHERE state = 'shadow'"
    sms("""SELECT sqlembed_reindex('sms', 'tiny', '{"backlog": "later"}')""")
    drawn = sms.one(shadow)
    sms("""SELECT sqlembed_reindex('sms', 'tiny', '{"backlog": "later"}')""")
    assert sms.one(shadow) == drawn
    assert len(sms(SAMPLES)) == 2
    sms("SELECT sqlembed_reindex('sms', 'tiny')")
    assert sms(MODEL) == sms(SAMPLES) == [drawn]


def test_an_index_may_share_anothers(sms: Sql) -> None:
    name = sms.one(MODEL)
    sms("SELECT sqlembed_index('sms', 'upper(body)', ?)", f'{{"name": "b", "model": "{name}"}}')
    assert sms(SAMPLES) == [name]
    sms("SELECT sqlembed_drop('sms')")
    assert sms(SAMPLES) == [name]
    sms("SELECT sqlembed_drop('b')")
    assert sms(SAMPLES) == []
    options = '{"model": "tiny@0123456789abcdef"}'
    told = sms.error("SELECT sqlembed_index('sms', 'body', ?)", options)
    assert "is not in sqlembed_corpus" in told


def test_of_a_table_without_texts_none_can_be_drawn(sql: Sql) -> None:
    tiny.install("tiny")
    sql("CREATE TABLE sms(id INTEGER PRIMARY KEY, body)")
    sql("INSERT INTO sms(body) VALUES (''), (NULL)")
    told = sql.error("SELECT sqlembed_index('sms', 'body')")
    assert "reads a sample of a table's texts before it embeds any, and sms has none yet" in told
    assert sql("SELECT name FROM sqlite_schema WHERE name LIKE 'sqlembed%'") == []
    sql("INSERT INTO sms(body) VALUES ('red tree'), (' '), (7), (?)", "a fox and a tree " * 40)
    assert sql.one("SELECT sqlembed_index('sms', 'body')") == 6
    assert len(sql("SELECT id FROM knn('sms', 'red tree', 9)")) == 5


@pytest.mark.doors("apsw")
def test_without_it_the_index_says_what_to_do(sms: Sql, tmp_path: Path) -> None:
    apsw.Connection(sms.db_path).execute("DELETE FROM sqlembed_corpus")
    other = LocalEngine(Cache(str(tmp_path / "other.db"), 1 << 20))
    again = Sql(sqlembed.connect(sms.db_path, engine=other), other)
    assert again("SELECT kind, count FROM sqlembed_check('sms')") == [("sample", 1)]
    told = again.error("SELECT id FROM knn('sms', 'tree', 1)")
    assert "sqlembed_reindex(index, 'tiny')" in told
    assert again.one("SELECT sqlembed_reindex('sms', 'tiny')") == 6
    assert again("SELECT kind FROM sqlembed_check('sms')") == []
    assert len(again("SELECT id FROM knn('sms', 'tree', 1)")) == 1
    again.close()
    other.close()


@pytest.mark.doors("apsw")
def test_a_damaged_one_is_refused(sms: Sql, tmp_path: Path) -> None:
    apsw.Connection(sms.db_path).execute("UPDATE sqlembed_corpus SET vectors = zeroblob(1536)")
    other = LocalEngine(Cache(str(tmp_path / "other.db"), 1 << 20))
    again = Sql(sqlembed.connect(sms.db_path, engine=other), other)
    assert "is damaged, or another's" in again.error("SELECT id FROM knn('sms', 'tree', 1)")
    again.close()
    other.close()


@pytest.mark.doors("apsw")
def test_with_other_weights_another_is_drawn(sms: Sql, models: Path, tmp_path: Path) -> None:
    name = sms.one(MODEL)
    tiny.install("tiny", file_type="q8_0")
    other = LocalEngine(Cache(str(tmp_path / "other.db"), 1 << 20))
    again = Sql(sqlembed.connect(sms.db_path, engine=other), other)
    assert "installed now is another" in again.error("SELECT id FROM knn('sms', 'tree', 1)")
    assert again.one("SELECT sqlembed_reindex('sms')") == 6
    assert again.one(MODEL) != name
    assert again(SAMPLES) == again(MODEL)
    again.close()
    other.close()


def test_a_key_that_is_no_integer(sql: Sql) -> None:
    tiny.install("tiny")
    sql("CREATE TABLE note(name TEXT PRIMARY KEY, body TEXT)")
    sql("INSERT INTO note VALUES ('a', 'red tree'), ('b', 'loud dogs')")
    assert sql.one("SELECT sqlembed_index('note', 'body')") == 2
    assert sorted(sql("SELECT id FROM knn('note', 'loud dogs', 2)")) == ["a", "b"]
