"""Tables as they are met: GloVe's text, a package's arrays, model2vec's directory."""

import json
from pathlib import Path

import gguf
import numpy as np
import pytest
import tables
from safetensors.numpy import save_file

from sqlembed.errors import ModelError, ModelFileError
from sqlembed.weights import parquet
from sqlembed.weights.convert import convert

PARQUET = Path(__file__).with_name("words.parquet")
"""WORDS as pyarrow 25 writes them, with a dictionary that soon is full, and small pages."""
WORDS = [f"w{n * n}é" * (n % 3 + 1) for n in range(300)]


def stored(path: Path) -> np.ndarray:
    (tensor,) = (t for t in gguf.GGUFReader(path).tensors if t.name == "token_embd.weight")
    return np.asarray(tensor.data)


def test_gloves_text(tmp_path: Path) -> None:
    convert(tables.glove_text(tmp_path / "g.txt"), tmp_path / "m.gguf", "f32")
    np.testing.assert_allclose(stored(tmp_path / "m.gguf"), tables.rows(len(tables.WORDS)))


def test_a_packages_array_and_words(tmp_path: Path) -> None:
    words = parquet.strings(PARQUET)
    np.save(tmp_path / "e.npy", np.ones((len(words), 50), dtype=np.float32))
    (tmp_path / "w.parquet").write_bytes(PARQUET.read_bytes())
    convert(tmp_path, tmp_path / "m.gguf")
    assert stored(tmp_path / "m.gguf").shape == (300, 50)
    assert stored(tmp_path / "m.gguf").dtype == np.float16
    np.save(tmp_path / "e.npy", np.ones((7, 50), dtype=np.float32))
    with pytest.raises(ModelError, match="7 vectors for 300 words"):
        convert(tmp_path, tmp_path / "m.gguf")


def test_parquet() -> None:
    assert parquet.strings(PARQUET) == WORDS


def test_damaged_parquet(tmp_path: Path) -> None:
    whole = PARQUET.read_bytes()
    path = tmp_path / "w.parquet"
    for cut in (whole[:-1], whole[:40], b"", whole[:30] + b"\xff" * 30 + whole[60:]):
        path.write_bytes(cut)
        with pytest.raises(ModelFileError):
            parquet.strings(path)


def test_snappy() -> None:
    # A literal of four bytes, then a copy of ten from four before, which overlaps itself.
    assert parquet.unsnappy(bytes([14, 3 << 2]) + b"abcd" + bytes([9 << 2 | 2, 4, 0])) == (
        b"abcdabcdabcdab"
    )
    for damaged in (bytes([9, 3 << 2]) + b"abcd", bytes([4, 9 << 2 | 2, 4, 0])):
        with pytest.raises(ValueError):
            parquet.unsnappy(damaged)


@pytest.mark.parametrize("line", ["king 0.5", "king x y", "king"])
def test_a_line_that_is_no_vector(tmp_path: Path, line: str) -> None:
    path = tables.glove_text(tmp_path / "g.txt")
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(ModelFileError, match="line 14"):
        convert(path, tmp_path / "m.gguf")


def test_a_word_twice(tmp_path: Path) -> None:
    path = tables.glove_text(tmp_path / "g.txt")
    path.write_text(path.read_text() + path.read_text())
    with pytest.raises(ModelError, match="26 vectors for 26 words, 13 of them"):
        convert(path, tmp_path / "m.gguf")


def test_parts_of_a_model2vec_table_that_do_not_fit(tmp_path: Path) -> None:
    source = tables.model2vec(tmp_path / "m2v")
    whole = {"embeddings": tables.rows(len(tables.PIECES))}
    for tensors, words in (
        ({"embeddings": whole["embeddings"][:5]}, "5 vectors for a tokenizer of 12"),
        ({"other": whole["embeddings"]}, "no embeddings"),
        (whole | {"weights": np.ones(3, np.float32)}, "weights has shape"),
        (whole | {"mapping": np.full(12, 12)}, "mapping names rows"),
        ({"embeddings": whole["embeddings"] * np.nan}, "NaN"),
    ):
        save_file(tensors, source / "model.safetensors")
        with pytest.raises(ModelError, match=words):
            convert(source, tmp_path / "m.gguf")
    (source / "model.safetensors").write_bytes(b"cut")
    with pytest.raises(ModelFileError, match="truncated"):
        convert(source, tmp_path / "m.gguf")
    (source / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match="is missing"):
        convert(source, tmp_path / "m.gguf")
    assert json.loads((source / "config.json").read_text())["model_type"] == "model2vec"
