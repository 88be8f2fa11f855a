"""Start and end tokens: seen to at load, added where the tokenizer adds none, refused if unknown."""

from pathlib import Path

import numpy as np
import pytest
import tiny_decoder as tiny
from harness import Sql

from sqlembed.weights import receipt
from sqlembed.weights.beside import TOKENIZER, path

TEXT, WORDS = "the red fox", [7, 8, 9]


def last_vector(sql: Sql) -> np.ndarray:
    return np.frombuffer(sql.one("SELECT embed(?)", TEXT), "<f4")


@pytest.mark.parametrize("ends", [True, False])
def test_the_end_token_is_there_whether_or_not_the_tokenizer_adds_it(sql: Sql, ends: bool) -> None:
    tiny.install("tiny", "qwen2", ends=ends, pooling="last", start="[CLS]", end="[SEP]")
    expected = tiny.forward("qwen2", [2, *WORDS, 3], causal=False)[-1]
    assert last_vector(sql) @ tiny.unit(expected) > 0.9995
    assert sql.one("SELECT token_count(?)", TEXT) == len(WORDS) + 2


def test_without_the_key_nothing_is_added_and_the_vector_is_another(sql: Sql) -> None:
    tiny.install("tiny", "qwen2", ends=False, pooling="last")
    expected = tiny.forward("qwen2", WORDS, causal=False)[-1]
    with_end = tiny.forward("qwen2", [*WORDS, 3], causal=False)[-1]
    assert last_vector(sql) @ tiny.unit(expected) > 0.9995
    assert last_vector(sql) @ tiny.unit(with_end) < 0.95


def test_the_end_token_alone_stands_after_a_text_with_no_start(sql: Sql) -> None:
    tiny.install("tiny", "qwen2", ends=False, pooling="last", end="[SEP]")
    expected = tiny.forward("qwen2", [*WORDS, 3], causal=False)[-1]
    assert last_vector(sql) @ tiny.unit(expected) > 0.9995


def test_where_nothing_is_added_an_empty_text_is_an_error_that_says_so(sql: Sql) -> None:
    tiny.install("tiny", "qwen2", ends=False)
    assert "tiny makes no token of the text ''" in sql.error("SELECT embed('')")
    assert len(last_vector(sql)) == 64


@pytest.mark.parametrize("which", ["start", "end"])
def test_a_token_the_tokenizer_does_not_know_is_refused(sql: Sql, which: str) -> None:
    tiny.install("tiny", "qwen2", **{which: "<|endoftext|>"})
    assert f"its texts {which} with '<|endoftext|>'" in sql.error("SELECT embed('a')")


def test_the_end_counts_in_what_the_model_reads(sql: Sql) -> None:
    tiny.install("tiny", "qwen2", ends=False, context=4, end="[SEP]")
    assert len(sql.one("SELECT embed('the red fox')")) == 256
    assert "has 5 tokens" in sql.error("SELECT embed('the red fox sleeps')")


def without_json(models: Path, tokenizer: str | None) -> None:
    """A GGUF without the reference's tokenizer, and that beside it, if at all."""
    gguf = tiny.write(receipt.gguf_path("tiny"), "qwen2", json_inside=False)
    (models / "tiny.toml").write_text(tiny.manifest("tiny", "qwen2"))
    if tokenizer is not None:
        path(gguf, TOKENIZER).write_text(tokenizer)
    receipt.write_receipt("tiny", receipt.make_receipt(gguf, "gguf", "tests"))


def test_the_tokenizer_may_stand_beside_the_gguf(sql: Sql, models: Path) -> None:
    without_json(models, tiny.tokenizer())
    expected = tiny.forward("qwen2", [2, *WORDS, 3], causal=False).mean(0)
    assert last_vector(sql) @ tiny.unit(expected) > 0.9995


def test_another_models_tokenizer_is_refused(sql: Sql, models: Path) -> None:
    without_json(models, tiny.tokenizer().replace('"fox"', '"wolf"'))
    assert "tiny.tokenizer.json is another model's" in sql.error("SELECT embed('a')")


def test_special_tokens_that_a_text_spells_are_read_as_the_reference_reads_them(
    sql: Sql, models: Path
) -> None:
    without_json(models, tiny.tokenizer())
    assert sql.one("SELECT token_count('the [SEP] fox')") == 5
