"""sqlembed_load, sqlembed_unload, sqlembed_models, sqlembed_cache, sqlembed_cache_clear."""

from harness import FakeModel, Sql


def test_models_are_loaded_and_unloaded(sql: Sql) -> None:
    loaded = "SELECT name FROM sqlembed_models WHERE loaded ORDER BY name"
    assert sql(loaded) == []
    sql("SELECT sqlembed_load('fake'), sqlembed_load('wide')")
    assert sql(loaded) == ["fake", "wide"]
    assert sql.one("SELECT sqlembed_unload('fake')") == 1
    assert sql.one("SELECT sqlembed_unload('fake')") == 0
    assert sql(loaded) == ["wide"]
    assert len(sql.one("SELECT embed('x')")) == 256
    assert sql(loaded) == ["fake", "wide"]


def test_models_shows_what_is_known(sql: Sql) -> None:
    rows = sql(
        "SELECT name, kind, dimension, context, installed, used_for FROM sqlembed_models WHERE licence = 'none'"
    )
    assert ("fake", "embedder", 64, 16, 1, "embed and rerank") in rows
    assert sql("SELECT bytes > 0 FROM sqlembed_models WHERE name = 'fake'") == [None]
    sql("SELECT sqlembed_load('fake')")
    assert sql("SELECT bytes > 0 FROM sqlembed_models WHERE name = 'fake'") == [1]
    assert sql("SELECT installed FROM sqlembed_models WHERE name = 'all-MiniLM-L6-v2'") == [0]


def test_names_are_exact(sql: Sql) -> None:
    for call in ("sqlembed_load('fak')", "sqlembed_unload('FAKE')", "sqlembed_cache_clear('fa')"):
        assert sql.error(f"SELECT {call}").startswith("NotFoundError: no model is called")
    assert sql.error("SELECT sqlembed_load(NULL)").startswith(
        "InputError: the model is a text; got NULL"
    )


def test_the_cache_counts_and_clears(sql: Sql) -> None:
    sql("SELECT embed('a'), embed('b'), embed('a')")
    sql("SELECT embed('a', 'wide'), rerank('a', 'b')")
    rows = {
        (model, kind): rest
        for model, kind, *rest in sql(
            "SELECT model, kind, entries, bytes, hits, misses FROM sqlembed_cache"
        )
    }
    assert rows["fake", "embedding"] == [2, 512, 1, 2]
    assert rows["wide", "embedding"] == [1, 512, 0, 1]
    assert rows["fake", "score"] == [1, 4, 0, 1]
    assert rows["fake", "tokens"] == [1, 8 + 2 * 64, 0, 1]  # a chunk and a token
    assert sql.one("SELECT sqlembed_cache_clear('wide')") == 1
    assert sql.one("SELECT sqlembed_cache_clear()") == 4
    FakeModel.texts.clear()
    sql("SELECT embed('a')")
    assert FakeModel.texts == ["a"]


def test_metrics_are_rows(sql: Sql) -> None:
    sql("SELECT embed('a'), embed('b')")
    misses = """SELECT sum(value) FROM sqlembed_metrics WHERE name = 'sqlembed_cache_misses_total'
        AND labels ->> 'model' = 'fake'"""
    assert sql.one(misses) == 2
    assert sql("SELECT value, labels FROM sqlembed_metrics WHERE name = 'sqlembed_models_loaded'")[
        0
    ] == (1, None)


def test_an_unknown_model_leaves_no_trace(sql: Sql) -> None:
    for call in ("embed('x', 'nobody')", "rerank('a', 'b', 'nobody')"):
        assert sql.error(f"SELECT {call}").startswith("NotFoundError")
    assert sql("SELECT model, kind, entries FROM sqlembed_cache") == [(None, None, 0)]


def test_the_cache_says_where_it_is_and_what_is_wrong(sql: Sql) -> None:
    sql("SELECT embed('a')")
    ((path, most, problem),) = sql("SELECT path, most_bytes, problem FROM sqlembed_cache")
    assert path.endswith("cache.db") and most > 0 and problem is None
