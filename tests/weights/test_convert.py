"""Converting: what llama.cpp computes from our GGUF is what BERT's own arithmetic gives."""

import json
from pathlib import Path

import gguf
import numpy as np
import pytest
import tiny_bert

from sqlembed.engine.llama import Context, Weights
from sqlembed.engine.tokenize import tokenizer_of
from sqlembed.errors import ModelError, ModelFileError, OptionError
from sqlembed.weights import gguf_file
from sqlembed.weights.checkpoint import WORDS
from sqlembed.weights.convert import convert, read
from sqlembed.weights.read_safetensors import word_piece

IDS = [2, 5, 6, 7, 15, 3]
TOLERANCE = 5e-3
"""llama.cpp keeps attention's keys and values, and its table of GELU, in 16 bits."""
PAIR = [2, 5, 6, 3, 7, 15, 3]
PAIR_SEGMENTS = [0, 0, 0, 0, 1, 1, 1]


def computed(path: Path, ids: list[int], *, rank: bool = False) -> np.ndarray:
    weights = Weights(path)
    context = Context(weights, 256, rank=rank)
    try:
        return context.encode([np.array(ids, dtype=np.int32)])[0]
    finally:
        context.close()
        weights.close()


def tensor_types(path: Path) -> dict[str, str]:
    return {tensor.name: tensor.tensor_type.name for tensor in gguf.GGUFReader(path).tensors}


def value(path: Path, key: str) -> object:
    field = gguf.GGUFReader(path).get_field(key)
    return None if field is None else field.contents()


@pytest.mark.parametrize("prefix", ["", "bert."])
def test_an_embedder_computes_as_its_reference(tmp_path: Path, prefix: str) -> None:
    source = tiny_bert.write_directory(tmp_path / "source", prefix=prefix)
    convert(source, tmp_path / "m.gguf", "f32")
    expected = tiny_bert.forward(tiny_bert.tensors(), IDS, [0] * len(IDS))
    np.testing.assert_allclose(computed(tmp_path / "m.gguf", IDS), expected, atol=TOLERANCE)


def test_a_cross_encoder_computes_as_its_reference_with_segments(tmp_path: Path) -> None:
    source = tiny_bert.write_directory(tmp_path / "source", labels=3, prefix="bert.")
    target = tmp_path / "m.gguf"
    convert(source, target, "f32")
    offset = tiny_bert.ARCHITECTURE.vocabulary
    shifted = [i + s * offset for i, s in zip(PAIR, PAIR_SEGMENTS, strict=True)]
    weights = tiny_bert.tensors(3)
    expected = tiny_bert.classify(weights, PAIR, PAIR_SEGMENTS)
    without = tiny_bert.classify(weights, PAIR, [0] * len(PAIR))
    assert np.abs(expected - without).max() > 0.1
    np.testing.assert_allclose(computed(target, shifted, rank=True)[0], expected, atol=TOLERANCE)
    np.testing.assert_allclose(computed(target, PAIR, rank=True)[0], without, atol=TOLERANCE)
    assert value(target, "sqlembed.segment_offset") == offset
    assert value(target, "bert.classifier.output_labels") == ["LABEL_0", "LABEL_1", "LABEL_2"]
    assert value(target, "bert.pooling_type") == gguf.PoolingType.RANK


def test_folded_segments_are_the_sum_of_both_embeddings(tmp_path: Path) -> None:
    convert(tiny_bert.write_directory(tmp_path / "source", labels=2), tmp_path / "m.gguf", "f32")
    stored = {t.name: t.data for t in gguf.GGUFReader(tmp_path / "m.gguf").tensors}
    made, rows = tiny_bert.tensors(2), tiny_bert.ARCHITECTURE.vocabulary
    words, segments = made[WORDS], made["embeddings.token_type_embeddings.weight"]
    folded = stored["token_embd.weight"]
    assert folded.shape == (2 * rows, tiny_bert.ARCHITECTURE.width)
    added = stored["token_types.weight"][0]
    np.testing.assert_allclose(folded[:rows] + added, words + segments[0], atol=1e-6)
    np.testing.assert_allclose(folded[rows:] + added, words + segments[1], atol=1e-6)


@pytest.mark.parametrize("file_type", ["f32", "f16", "q8_0", "q4_0"])
def test_the_same_source_gives_the_same_bytes(tmp_path: Path, file_type: str) -> None:
    source = tiny_bert.write_directory(tmp_path / "source")
    for directory in ("a", "b"):
        (tmp_path / directory).mkdir()
        convert(source, tmp_path / directory / "m.gguf", file_type)
    assert (tmp_path / "a/m.gguf").read_bytes() == (tmp_path / "b/m.gguf").read_bytes()
    types = tensor_types(tmp_path / "a/m.gguf")
    assert len(types) == len(tiny_bert.tensors())
    assert types["token_embd.weight"] == types["blk.1.ffn_down.weight"] == file_type.upper()
    exact = [name for name in types if "norm" in name or name.endswith("bias")]
    for name in [*exact, "position_embd.weight", "token_types.weight"]:
        assert types[name] == "F32", name


def test_the_tokenizer_comes_whole_but_cuts_and_pads_nothing(tmp_path: Path) -> None:
    source = tiny_bert.write_directory(tmp_path / "source")
    made = json.loads(word_piece(source / "vocab.txt", {}))
    made["truncation"] = {
        "max_length": 4, "strategy": "LongestFirst", "stride": 0, "direction": "Right"
    }  # fmt: skip
    (source / "tokenizer.json").write_text(json.dumps(made), encoding="utf-8")
    convert(source, tmp_path / "m.gguf")
    weights = Weights(tmp_path / "m.gguf")
    tokenizer = tokenizer_of(weights)
    assert tokenizer.encode(["a bc À xyz"])[0].tolist() == [2, 5, 6, 17, 5, 1, 3]
    assert len(tokenizer.encode(["a a a a a a a a"])[0]) == 10
    weights.close()


def test_the_vocabulary_file_alone_makes_a_tokenizer(tmp_path: Path) -> None:
    from tokenizers import Tokenizer

    path = tiny_bert.write_vocabulary(tmp_path)
    tokenizer = Tokenizer.from_str(word_piece(path, {"do_lower_case": True}))
    encoding = tokenizer.encode("A bc é", "d")
    assert encoding.tokens == ["[CLS]", "a", "b", "##c", "e", "[SEP]", "d", "[SEP]"]
    assert encoding.type_ids == [0, 0, 0, 0, 0, 0, 1, 1]


def test_another_architecture_is_named_with_what_is_supported(tmp_path: Path) -> None:
    source = tiny_bert.write_directory(
        tmp_path / "s", architectures=["NomicBertModel"], model_type="nomic_bert"
    )
    with pytest.raises(ModelError, match=r"NomicBertModel.*BertModel and BertForSequence"):
        convert(source, tmp_path / "m.gguf")


def test_a_relative_position_embedding_is_refused(tmp_path: Path) -> None:
    source = tiny_bert.write_directory(tmp_path / "s", position_embedding_type="relative_key")
    with pytest.raises(ModelError, match="position_embedding_type is 'relative_key'"):
        convert(source, tmp_path / "m.gguf")


def test_a_dense_head_after_pooling_is_not_lost_in_silence(tmp_path: Path) -> None:
    source = tiny_bert.write_directory(tmp_path / "s")
    modules = [{"type": "sentence_transformers.models.Dense"}]
    (source / "modules.json").write_text(json.dumps(modules), encoding="utf-8")
    with pytest.raises(ModelError, match="Dense after the transformer"):
        convert(source, tmp_path / "m.gguf")


@pytest.mark.parametrize(
    ("config", "pooling"),
    [
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, "cls"),
        ({"pooling_mode_mean_tokens": True}, "mean"),
        ({"pooling_mode": "cls", "include_prompt": True}, "cls"),
    ],
)
def test_pooling_is_read(tmp_path: Path, config: dict[str, object], pooling: str) -> None:
    source = tiny_bert.write_directory(tmp_path / "s")
    (source / "1_Pooling").mkdir()
    (source / "1_Pooling/config.json").write_text(json.dumps(config), encoding="utf-8")
    assert read(source).pooling == pooling


def test_pooling_that_nobody_computes_is_refused(tmp_path: Path) -> None:
    source = tiny_bert.write_directory(tmp_path / "s")
    (source / "1_Pooling").mkdir()
    config = json.dumps({"pooling_mode_max_tokens": True})
    (source / "1_Pooling/config.json").write_text(config, encoding="utf-8")
    with pytest.raises(ModelError, match="pooling_mode_max_tokens"):
        read(source)


def test_a_missing_tensor_and_a_wrong_shape_are_named(tmp_path: Path) -> None:
    wrong = tiny_bert.write_directory(tmp_path / "wrong", vocab_size=41)
    with pytest.raises(ModelError, match=r"word_embeddings.weight has shape \(40, 64\), expected"):
        read(wrong)
    missing = tiny_bert.write_directory(tmp_path / "missing", num_hidden_layers=3)
    with pytest.raises(ModelError, match=r"encoder\.layer\.2\.\S+ is missing"):
        read(missing)


def test_truncated_weights_are_refused(tmp_path: Path) -> None:
    source = tiny_bert.write_directory(tmp_path / "s")
    weights = source / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ModelFileError, match="truncated"):
        read(source)


def test_an_unknown_file_type_is_refused(tmp_path: Path) -> None:
    source = tiny_bert.write_directory(tmp_path / "s")
    with pytest.raises(OptionError, match="'q3_k'; the file types are f32, f16, q8_0, q4_0"):
        convert(source, tmp_path / "m.gguf", "q3_k")


def test_an_empty_directory_and_an_unknown_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"must hold model\.safetensors"):
        read(tmp_path)
    other = tmp_path / "model.pt"
    other.write_bytes(b"x")
    with pytest.raises(ModelError, match="cannot be converted"):
        read(other)
    with pytest.raises(ModelError, match="does not exist"):
        read(tmp_path / "absent")


def test_an_interrupted_run_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tiny_bert.write_directory(tmp_path / "s")
    out = tmp_path / "out"
    out.mkdir()

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(gguf_file.GGUFWriter, "write_tensors_to_file", interrupt)
    with pytest.raises(KeyboardInterrupt):
        convert(source, out / "m.gguf")
    assert list(out.iterdir()) == []
