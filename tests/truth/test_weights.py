"""Real weights that are damaged, and the other models that packages carry."""

from pathlib import Path

import numpy as np
import pytest
from harness import Sql

import sqlembed
from sqlembed.engine.local import LocalEngine

pytestmark = pytest.mark.model


def damage(path: Path, how: str) -> None:
    content = bytearray(path.read_bytes())
    if how == "truncated":
        content = content[: len(content) // 2]
    elif how == "altered":
        content[len(content) // 2] ^= 0xFF
    elif how == "not a GGUF":
        content = bytearray(b"PK\x03\x04" + content[4:])
    path.write_bytes(content)


@pytest.mark.parametrize("how", ["truncated", "altered", "not a GGUF"])
def test_damaged_weights_are_an_error_in_words(
    damaged_copy: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, how: str
) -> None:
    monkeypatch.setenv("SQLEMBED_DATA", str(damaged_copy))
    monkeypatch.setenv("SQLEMBED_CACHE", ":memory:")
    damage(damaged_copy / "models" / "all-MiniLM-L6-v2.gguf", how)
    engine = LocalEngine()
    connection = sqlembed.connect(str(tmp_path / "app.db"), engine=engine)
    error = Sql(connection).error("SELECT embed('x')")
    assert error.startswith("ModelFileError") and "sqlembed pull all-MiniLM-L6-v2" in error
    connection.close()
    engine.close()


def test_wrong_settings_are_caught_by_the_probes(
    damaged_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SQLEMBED_DATA", str(damaged_copy))
    monkeypatch.setenv("SQLEMBED_CACHE", ":memory:")
    manifest = (Path(__file__).parents[2] / "models" / "all-MiniLM-L6-v2.toml").read_text()
    assert 'pooling = "mean"' in manifest
    wrong = manifest.replace('pooling = "mean"', 'pooling = "cls"')
    (damaged_copy / "models" / "all-MiniLM-L6-v2.toml").write_text(wrong)
    engine = LocalEngine()
    with pytest.raises(sqlembed.errors.ProbeError, match="gives other results than its reference"):
        engine.load("all-MiniLM-L6-v2")
    engine.close()


def test_the_multilingual_model_finds_across_languages(real_sql: Sql) -> None:
    real_sql("CREATE TABLE t(id INTEGER PRIMARY KEY, body)")
    for n, body in enumerate(
        ["Der Zug fährt um neun Uhr ab.", "今夜の夕食は何ですか。", "El gato duerme en la silla."]
    ):
        real_sql("INSERT INTO t VALUES (?, ?)", n, body)
    real_sql("""SELECT sqlembed_index('t', 'body', '{"model": "multilingual-e5-small"}')""")
    for question, expected in (
        ("When does the train leave?", 0),
        ("What is for dinner tonight?", 1),
        ("a sleeping cat", 2),
    ):
        assert real_sql.one("SELECT id FROM knn('t', ?, 1)", question) == expected
    assert (
        real_sql.one(
            "SELECT embed('x', 'multilingual-e5-small') = embed_query('x', 'multilingual-e5-small')"
        )
        == 0
    )


def test_a_cross_encoder_scores_pairs_and_is_not_chosen_unasked(real: Sql) -> None:
    score = "SELECT rerank('When was the bridge built?', ?, 'judge-nli')"
    good = real.one(score, "The bridge was built in 1887.")
    assert 0 <= good <= 1
    assert real.one(score, "The bridge was built in 1887.") == good
    assert np.isfinite(real.one(score, "word " * 2000))
    assert real("SELECT used_for FROM sqlembed_models WHERE name = 'judge-nli'") == [None]
    assert "is a reranker" in real.error("SELECT embed('x', 'judge-nli')")


def test_several_models_at_once(real: Sql) -> None:
    for name in ("all-MiniLM-L6-v2", "multilingual-e5-small"):
        real("SELECT sqlembed_load(?)", name)
    assert real.one("SELECT count(*) FROM sqlembed_models WHERE loaded") >= 2
    assert real.one("SELECT sqlembed_unload('multilingual-e5-small')") == 1
    assert len(real.one("SELECT embed('still here')")) == 1536


def test_hostile_texts_embed_and_index(real: Sql) -> None:
    texts = [
        "\x00",
        "a\x00b",
        "\ud7ff",
        "\U0010ffff" * 50,
        "\u202e reversed",
        "x" * 100_000,
        "😀" * 3000,
        " " * 5000,
        "\n" * 700,
    ]
    real("CREATE TABLE t(id INTEGER PRIMARY KEY, body)")
    for text in texts:
        real("INSERT INTO t(body) VALUES (?)", text)
    assert real.one("SELECT sqlembed_index('t', 'body')") == len(texts)
    assert real.one("SELECT count(*) FROM knn('t', 'anything', 100)") == len(texts)
    assert "reads 256" in real.error("SELECT embed(?)", "word " * 300)
