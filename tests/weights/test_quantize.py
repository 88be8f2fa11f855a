"""Quantizing by llama.cpp: what is stored how, what stays, what is refused, and who survives."""

import errno
import subprocess
import sys
from pathlib import Path

import gguf
import numpy as np
import pytest
import tiny_bert

from sqlembed.engine.llama import Context, Weights
from sqlembed.errors import ModelError, ModelFileError, OptionError
from sqlembed.weights.convert import convert
from sqlembed.weights.gguf_file import SEGMENT_OFFSET
from sqlembed.weights.quantize import FILE_TYPES, K_QUANTS, quantize

IDS = [2, 5, 6, 7, 15, 3]
MATRIX = "blk.0.attn_q.weight"
STORED = {
    "f32": "F32",
    "f16": "F16",
    "q8_0": "Q8_0",
    "q4_0": "Q4_0",
    # 64 columns are no multiple of 256
    "q6_k": "Q8_0",
    "q5_k_m": "Q5_1",
    "q4_k_m": "Q5_0",
}
LEAST = {"f32": 0.9999, "f16": 0.9999, "q8_0": 0.999, "q6_k": 0.999, "q5_k_m": 0.99}
"""The cosine of each token's vector with those of float32; 0.95 for what is not here."""


@pytest.fixture
def exact(tmp_path: Path) -> Path:
    """The tiny BERT as a GGUF in float32."""
    path = tmp_path / "exact.gguf"
    convert(tiny_bert.write_directory(tmp_path / "source"), path, "f32")
    return path


def tensor_types(path: Path) -> dict[str, str]:
    return {tensor.name: tensor.tensor_type.name for tensor in gguf.GGUFReader(path).tensors}


def keys(path: Path) -> dict[str, object]:
    fields = gguf.GGUFReader(path).fields
    return {name: field.contents() for name, field in fields.items() if "." in name}


def computed(path: Path) -> np.ndarray:
    weights = Weights(path)
    context = Context(weights, 256)
    try:
        rows = context.encode([np.array(IDS, dtype=np.int32)])[0]
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)
    finally:
        context.close()
        weights.close()


@pytest.mark.parametrize("file_type", list(FILE_TYPES))
def test_each_type_stores_matrices_so_and_computes_nearly_the_same(
    exact: Path, tmp_path: Path, file_type: str
) -> None:
    target = tmp_path / "out.gguf"
    convert(exact, target, file_type)
    types = tensor_types(target)
    assert types[MATRIX] == STORED[file_type]
    for name in types:
        if "norm" in name or name.endswith("bias") or name.startswith(("position", "token_types")):
            assert types[name] == "F32", name
    if file_type not in ("f32", "f16"):  # words are looked up, not multiplied: they keep more
        assert types["token_embd.weight"] == "Q8_0"
    cosines = (computed(target) * computed(exact)).sum(axis=1)
    assert cosines.min() > LEAST.get(file_type, 0.95)


def test_whatever_else_the_file_says_stays(exact: Path, tmp_path: Path) -> None:
    quantize(exact, tmp_path / "out.gguf", "q4_k_m")
    before, after = keys(exact), keys(tmp_path / "out.gguf")
    assert after.pop("general.file_type") == K_QUANTS["q4_k_m"]
    del before["general.file_type"]
    assert {key: value for key, value in after.items() if key in before} == before
    assert "tokenizer.huggingface.json" in after


@pytest.mark.parametrize("file_type", list(K_QUANTS))
def test_a_directory_becomes_a_k_quant_in_one_go(
    exact: Path, tmp_path: Path, file_type: str
) -> None:
    quantize(exact, tmp_path / "two.gguf", file_type)
    for out in ("a.gguf", "b.gguf"):
        convert(tmp_path / "source", tmp_path / out, file_type)
    assert (tmp_path / "a.gguf").read_bytes()[-1000:] == (tmp_path / "two.gguf").read_bytes()[
        -1000:
    ]
    assert tensor_types(tmp_path / "a.gguf") == tensor_types(tmp_path / "two.gguf")
    assert {path.name for path in tmp_path.iterdir()} == {
        "source", "exact.gguf", "two.gguf", "a.gguf", "b.gguf"
    }  # fmt: skip


def test_the_head_of_a_reranker_stays_exact(tmp_path: Path) -> None:
    convert(tiny_bert.write_directory(tmp_path / "source", labels=2), tmp_path / "m.gguf", "q4_k_m")
    types = tensor_types(tmp_path / "m.gguf")
    assert types["cls.weight"] == types["cls.output.weight"] == "F32"
    assert types[MATRIX] == "Q5_0"
    assert keys(tmp_path / "m.gguf")[SEGMENT_OFFSET] == tiny_bert.ARCHITECTURE.vocabulary


def test_what_is_quantized_already_needs_to_be_asked_for(exact: Path, tmp_path: Path) -> None:
    small, out = tmp_path / "small.gguf", tmp_path / "out.gguf"
    quantize(exact, small, "q8_0")
    with pytest.raises(OptionError, match=r"small\.gguf is quantized already \(q8_0\).*--requant"):
        quantize(small, out, "q4_k_m")
    assert not out.exists()
    convert(small, out, "q4_k_m", requantize=True)
    assert tensor_types(out)[MATRIX] == "Q5_0"


@pytest.mark.parametrize("content", [b"", b"GGUF", b"GGUF" + bytes(300), b"nonsense" * 100])
def test_what_is_no_gguf_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.gguf"
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match=r"quantizer failed on .*bad\.gguf: .*nothing was wr"):
        convert(path, tmp_path / "out.gguf", "q8_0")
    assert {each.name for each in tmp_path.iterdir()} == {"bad.gguf"}
    with pytest.raises(ModelError, match="does not exist"):
        convert(tmp_path / "absent.gguf", tmp_path / "out.gguf", "q8_0")


def test_a_cut_gguf_is_refused(exact: Path, tmp_path: Path) -> None:
    exact.write_bytes(exact.read_bytes()[:-500])
    with pytest.raises(ModelFileError, match="not within the file bounds"):
        quantize(exact, tmp_path / "out.gguf", "q8_0")


def test_a_quantizer_that_aborts_takes_nobody_along(
    exact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    aborting = tmp_path / "python"
    aborting.write_text("#!/bin/sh\necho GGML_ASSERT >&2\nkill -ABRT $$\n", encoding="utf-8")
    aborting.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(aborting))
    with pytest.raises(ModelFileError, match=r"was ended by SIGABRT on .*: GGML_ASSERT; nothing"):
        quantize(exact, tmp_path / "out.gguf", "q8_0")
    assert not (tmp_path / "out.gguf").exists()


def test_a_file_in_the_working_directory_is_not_run(
    exact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "llama_cpp.py").write_text("raise SystemExit('imported')", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    quantize(Path("exact.gguf"), Path("out.gguf"), "q8_0")
    assert tensor_types(tmp_path / "out.gguf")[MATRIX] == "Q8_0"


def test_a_full_disk_is_told_as_one(exact: Path, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(small)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("this user may mount no file system")
    try:
        with pytest.raises(OSError, match="No space left") as caught:
            quantize(exact, small / "out.gguf", "q8_0")
        assert caught.value.errno == errno.ENOSPC
        assert list(small.iterdir()) == []
    finally:
        subprocess.run(["umount", "--lazy", str(small)], check=True)
