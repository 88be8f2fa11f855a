"""Vectors of fewer dimensions: ``NAME:WIDTH``, where the model was trained for it."""

import numpy as np
import pytest
import tiny_decoder as tiny
from harness import Sql

from sqlembed.engine.local import LocalEngine

TEXT, IDS = "the red fox", [2, 7, 8, 9, 3]


def vector(sql: Sql, model: str | None = None, function: str = "embed") -> np.ndarray:
    return np.frombuffer(sql.one(f"SELECT {function}(?, ?)", TEXT, model), "<f4")


@pytest.mark.parametrize("layer_norm", [False, True])
def test_a_vector_is_cut_and_scaled(sql: Sql, layer_norm: bool) -> None:
    tiny.install("tiny", "nomic-bert", dimensions=[16, 32], layer_norm=layer_norm)
    pooled = tiny.forward("nomic-bert", IDS, causal=False).mean(0)
    centred = pooled - pooled.mean() if layer_norm else pooled
    for width in (16, 32):
        found = vector(sql, f"tiny:{width}")
        assert len(found) == width and np.linalg.norm(found) == pytest.approx(1, abs=1e-6)
        assert found @ tiny.unit(centred[:width]) > 0.9999
    # The whole vector has no layer norm: the reference has it before a cut only.
    assert vector(sql) @ tiny.unit(pooled) > 0.9999


def test_whole_and_cut_vectors_are_of_other_spaces(sql: Sql, engine: LocalEngine) -> None:
    tiny.install("tiny", "qwen2", dimensions=[16, 32])
    spaces = [engine.space(name) for name in ("tiny", "tiny:16", "tiny:32")]
    assert len({space.fingerprint for space in spaces}) == 3
    assert [space.dimension for space in spaces] == [64, 16, 32]
    assert engine.space("tiny:64") == spaces[0]


def test_the_model_is_loaded_once_and_asked_once(
    sql: Sql, engine: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny.install("tiny", "qwen2", dimensions=[16, 32])
    narrow = vector(sql, "tiny:16")
    assert engine.library.loaded() == ["tiny"]
    engine.unload("tiny:16")
    assert engine.library.loaded() == []
    assert vector(sql, "tiny:16").tolist() == narrow.tolist()
    assert vector(sql, "tiny:32")[:16] @ narrow > 0.1
    assert len(vector(sql)) == 64
    assert engine.library.loaded() == []  # the whole vector was remembered


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("tiny:48", "OptionError: tiny has no vectors of 48 dimensions; it has 16, 32 and 64"),
        ("tiny:128", "OptionError: tiny has no vectors of 128 dimensions"),
        ("tiny:0", "OptionError: tiny has no vectors of 0 dimensions"),
        ("plain:32", "it has 64, and was not trained to be cut to fewer"),
        ("tiny:", "NotFoundError: no model is called 'tiny:'"),
        ("tiny:-16", "NotFoundError"),
        ("tiny:16:16", "NotFoundError"),
        ("nobody:16", "NotFoundError"),
    ],
)
def test_a_width_it_has_not_is_refused(sql: Sql, model: str, said: str) -> None:
    tiny.install("tiny", "qwen2", dimensions=[16, 32])
    tiny.install("plain", "qwen2")
    assert said in sql.error("SELECT embed('a', ?)", model)


def test_an_index_has_the_width_that_it_was_made_with(sql: Sql) -> None:
    tiny.install("tiny", "qwen2", dimensions=[16, 32])
    sql("CREATE TABLE sms(id INTEGER PRIMARY KEY, body TEXT)")
    for body in ("the red fox sleeps", "dogs bark at night", "a tree"):
        sql("INSERT INTO sms(body) VALUES (?)", body)
    sql("""SELECT sqlembed_index('sms', 'body', '{"model": "tiny:32"}')""")
    assert sql("SELECT model, dimension FROM sqlembed_status") == [("tiny:32", 32)]
    assert sql("SELECT id FROM knn('sms', 'dogs bark at night', 1)") == [2]
    assert sql("SELECT id FROM knn('sms', embed_query('a tree', 'tiny:32'), 1)") == [3]
    for other in ("tiny", "tiny:16"):
        assert "SpaceError" in sql.error(
            "SELECT id FROM knn('sms', embed_query('a tree', ?), 1)", other
        ) or "32" in sql.error("SELECT id FROM knn('sms', embed_query('a tree', ?), 1)", other)
    assert sql("SELECT id FROM search('sms', 'dogs bark', 1)")[0] == 2
    sql("SELECT sqlembed_reindex('sms', 'tiny:16')")
    assert sql("SELECT model, dimension FROM sqlembed_status") == [("tiny:16", 16)]
    assert sql("SELECT id FROM knn('sms', 'dogs bark at night', 1)") == [2]


def test_reranking_is_with_the_whole_model(sql: Sql) -> None:
    tiny.install("tiny", "qwen2", dimensions=[16])
    call = "SELECT rerank('red fox', 'the fox sleeps', ?)"
    assert sql.one(call, "tiny:16") == sql.one(call, "tiny")


def test_the_cache_of_a_width_is_forgotten_by_its_name(sql: Sql) -> None:
    tiny.install("tiny", "qwen2", dimensions=[16])
    vector(sql, "tiny:16")
    assert sorted(sql("SELECT model FROM sqlembed_cache WHERE entries")) == ["tiny", "tiny:16"]
    assert sql.one("SELECT sqlembed_cache_clear('tiny:16')") == 1
    assert sql("SELECT model FROM sqlembed_cache WHERE entries") == ["tiny"]


def test_models_are_listed_once(sql: Sql) -> None:
    tiny.install("tiny", "qwen2", dimensions=[16])
    vector(sql, "tiny:16")
    assert sql("SELECT name, loaded FROM sqlembed_models WHERE loaded") == [("tiny", 1)]


@pytest.mark.parametrize("wrong", [[128], [0], [True], ["16"]])
def test_a_manifest_with_impossible_widths_is_refused(sql: Sql, wrong: list[object]) -> None:
    tiny.install("tiny", "qwen2", dimensions=wrong)
    assert "dimensions are widths from 1 to dimension, 64" in sql.error("SELECT embed('a')")


def test_weights_that_were_replaced_are_another_space_at_each_width(
    sql: Sql, engine: LocalEngine
) -> None:
    tiny.install("tiny", "qwen2", dimensions=[16])
    before = engine.space("tiny:16").fingerprint
    vector(sql, "tiny:16")
    tiny.install("tiny", "qwen3", dimensions=[16])
    engine.unload("tiny")
    assert engine.space("tiny:16").fingerprint != before
    assert engine.library.manifest("tiny:16").architecture == "qwen3"
