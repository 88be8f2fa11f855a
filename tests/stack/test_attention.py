"""Attention is what the manifest says, whatever llama.cpp would do: checked by own arithmetic."""

from pathlib import Path

import numpy as np
import pytest
import tiny_decoder as tiny
from harness import Sql

from sqlembed.engine.llama import Context, Weights
from sqlembed.errors import ModelError

IDS = [2, 7, 8, 9, 10, 11, 12, 13, 3]
OTHER = [2, 16, 17, 3]
TOLERANCE = 0.02
"""Keys and values are kept in 16 bits."""


def computed(path: Path, *texts: list[int], causal: bool) -> list[np.ndarray]:
    weights = Weights(path)
    context = Context(weights, 256, causal=causal)
    try:
        # Twice, since the second batch must not see the first.
        context.encode([np.array(OTHER * 9, dtype=np.int32)])
        return context.encode([np.array(ids, dtype=np.int32) for ids in texts])
    finally:
        context.close()
        weights.close()


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("architecture", ["qwen2", "qwen3"])
def test_a_decoder_computes_with_either(tmp_path: Path, architecture: str, causal: bool) -> None:
    path = tiny.write(tmp_path / "m.gguf", architecture)
    (rows,) = computed(path, IDS, causal=causal)
    expected = tiny.forward(architecture, IDS, causal=causal)
    np.testing.assert_allclose(rows, expected, atol=TOLERANCE)
    # The other way it is far off, so the comparison tells them apart.
    assert np.abs(rows - tiny.forward(architecture, IDS, causal=not causal)).max() > 0.3


@pytest.mark.parametrize("causal", [False, True])
def test_texts_of_a_batch_do_not_see_each_other(tmp_path: Path, causal: bool) -> None:
    path = tiny.write(tmp_path / "m.gguf", "qwen2")
    for rows, ids in zip(
        computed(path, OTHER, IDS, OTHER, causal=causal), (OTHER, IDS, OTHER), strict=True
    ):
        expected = tiny.forward("qwen2", ids, causal=causal)
        np.testing.assert_allclose(rows, expected, atol=TOLERANCE)


def test_an_encoder_computes_as_its_reference(tmp_path: Path) -> None:
    path = tiny.write(tmp_path / "m.gguf", "nomic-bert")
    (rows,) = computed(path, IDS, causal=False)
    np.testing.assert_allclose(rows, tiny.forward("nomic-bert", IDS, causal=False), atol=TOLERANCE)


def test_an_encoder_cannot_be_causal(tmp_path: Path) -> None:
    path = tiny.write(tmp_path / "m.gguf", "nomic-bert")
    with pytest.raises(ModelError, match="bidirectional attention only"):
        computed(path, IDS, causal=True)


@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
@pytest.mark.parametrize("attention", ["causal", "bidirectional"])
def test_the_manifest_decides(sql: Sql, attention: str, pooling: str) -> None:
    tiny.install("tiny", "qwen2", attention=attention, pooling=pooling)
    blob = sql.one("SELECT embed('the red fox sleeps under a tree')")
    rows = tiny.forward("qwen2", IDS, causal=attention == "causal")
    expected = {"mean": rows.mean(0), "cls": rows[0], "last": rows[-1]}[pooling]
    assert np.frombuffer(blob, "<f4") @ tiny.unit(expected) > 0.9995


def test_an_unknown_attention_is_refused(sql: Sql) -> None:
    tiny.install("tiny", "qwen2", attention="both")
    assert "attention is bidirectional or causal; got 'both'" in sql.error("SELECT embed('a')")
