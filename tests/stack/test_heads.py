"""Dense heads after pooling: applied where they stand, missed where they do not."""

from pathlib import Path

import gguf
import numpy as np
import pytest
import tiny_decoder as tiny
from harness import Sql
from safetensors.numpy import load_file, save_file

from sqlembed.engine.heads import Heads
from sqlembed.engine.local import LocalEngine
from sqlembed.errors import ModelError
from sqlembed.weights import gguf_header, pull, receipt
from sqlembed.weights.beside import HEADS, INSIDE, gather, path
from sqlembed.weights.manifest import Manifest, parse

TEXT, IDS = "the red fox", [2, 7, 8, 9, 3]
HEAD_PATHS = ("2_Dense/model.safetensors", "3_Dense/model.safetensors")


def weights(out: int, into: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.2, (out, into)).astype(np.float32)


FIRST, SECOND = weights(96, 64, 1), weights(64, 96, 2)
BIAS = weights(1, 96, 3)[0]
TWO = [
    {"path": HEAD_PATHS[0], "in": 64, "out": 96},
    {"path": HEAD_PATHS[1], "in": 96, "out": 64},
]
PER_WIDTH = [
    {"path": f"2_Dense_{width}/model.safetensors", "in": 64, "out": width, "width": width,
     "bias": True}
    for width in (32, 64, 128)
]  # fmt: skip


def pooled() -> np.ndarray:
    return tiny.forward("qwen2", IDS, causal=False).mean(0)


def save_head(source: Path, where: str, weight: np.ndarray, bias: np.ndarray | None = None) -> None:
    (source / where).parent.mkdir(parents=True, exist_ok=True)
    tensors = {"linear.weight": weight} | ({} if bias is None else {"linear.bias": bias})
    save_file(tensors, source / where)


@pytest.fixture
def source(tmp_path: Path, models: Path) -> Path:
    """A directory with a GGUF and two heads, as a repository has them; its manifest is there."""
    tiny.write(tmp_path / "source" / "m.gguf", "qwen2")
    for where, weight in zip(HEAD_PATHS, (FIRST, SECOND), strict=True):
        save_head(tmp_path / "source", where, weight)
    (models / "tiny.toml").write_text(tiny.manifest("tiny", "qwen2", dense=TWO))
    return tmp_path / "source"


@pytest.mark.parametrize("activation", ["identity", "tanh"])
def test_two_layers_are_applied_in_their_order(
    sql: Sql, source: Path, models: Path, activation: str
) -> None:
    dense = [{**TWO[0], "activation": activation}, TWO[1]]
    (models / "tiny.toml").write_text(tiny.manifest("tiny", "qwen2", dense=dense))
    pull.pull("tiny", file=source)
    vector = np.frombuffer(sql.one("SELECT embed(?)", TEXT), "<f4")
    inner = FIRST @ pooled()
    inner = np.tanh(inner) if activation == "tanh" else inner
    assert vector @ tiny.unit(SECOND @ inner) > 0.9995
    assert abs(vector @ tiny.unit(pooled())) < 0.9


def test_an_index_of_vectors_behind_heads_finds_its_rows(sql: Sql, source: Path) -> None:
    pull.pull("tiny", file=source)
    sql("CREATE TABLE sms(id INTEGER PRIMARY KEY, body TEXT)")
    bodies = (TEXT, "dogs bark loud at night", "a tree")
    for body in bodies:
        sql("INSERT INTO sms(body) VALUES (?)", body)
    assert sql.one("SELECT sqlembed_index('sms', 'body')") == 3
    for number, distance in sql("SELECT id, distance FROM knn('sms', ?, 3)", TEXT):
        ids = [2, *(tiny.PIECES.index(word) for word in bodies[number - 1].split()), 3]
        rows = tiny.forward("qwen2", ids, causal=False)
        vectors = [tiny.unit(SECOND @ (FIRST @ each)) for each in (pooled(), rows.mean(0))]
        assert 1 - distance == pytest.approx(float(vectors[0] @ vectors[1]), abs=0.01)
    sql("INSERT INTO sms(body) VALUES ('dogs bark at a tree')")
    assert sql("SELECT id FROM knn('sms', 'dogs bark at a tree', 1)") == [4]


def test_a_missing_head_is_not_missed_in_silence(sql: Sql, source: Path) -> None:
    for where in HEAD_PATHS:
        (source / where).unlink()
    pull.pull("tiny", file=source / "m.gguf")
    assert "2 dense layers after pooling, and neither" in sql.error("SELECT embed('a')")


def test_half_of_the_heads_is_refused_at_once(source: Path) -> None:
    (source / HEAD_PATHS[1]).unlink()
    with pytest.raises(Exception, match=r"3_Dense/model.safetensors is missing"):
        pull.pull("tiny", file=source)


def test_another_shape_and_another_bias_are_refused(sql: Sql, source: Path) -> None:
    save_head(source, HEAD_PATHS[0], FIRST, BIAS)
    with pytest.raises(
        Exception, match=r"has weight and bias of linear; a\s+dense layer without bias"
    ):
        pull.pull("tiny", file=source)
    save_head(source, HEAD_PATHS[0], FIRST[:, :32].copy())
    pull.pull("tiny", file=source)
    assert "of shape (96, 32), expected (96, 64)" in sql.error("SELECT embed('a')")


def test_another_head_is_another_space_and_an_altered_one_is_refused(
    engine: LocalEngine, source: Path, models: Path
) -> None:
    pull.pull("tiny", file=source)
    first = receipt.recorded("tiny")
    save_head(source, HEAD_PATHS[0], -FIRST)
    pull.pull("tiny", file=source)
    assert receipt.recorded("tiny").partition("+")[0] == first.partition("+")[0]
    assert receipt.recorded("tiny") != first
    heads = path(models / "tiny.gguf", HEADS)
    heads.write_bytes(heads.read_bytes()[:-1] + b"\0")
    with pytest.raises(Exception, match=r"heads.safetensors is altered"):
        engine.embed(["a"], None, "document")
    heads.unlink()
    with pytest.raises(Exception, match=r"heads.safetensors is altered.*gone"):
        engine.embed(["a"], None, "document")


def test_heads_nobody_installed_are_refused(engine: LocalEngine, models: Path) -> None:
    tiny.install("tiny", "qwen2")
    save_file({"x": FIRST}, path(models / "tiny.gguf", HEADS))
    with pytest.raises(Exception, match="its receipt has no such file"):
        engine.embed(["a"], None, "document")


def test_each_width_has_its_head_and_the_weights_are_loaded_once(
    sql: Sql, tmp_path: Path, models: Path, engine: LocalEngine
) -> None:
    source = tmp_path / "source"
    tiny.write(source / "m.gguf", "qwen2")
    heads = {width: (weights(width, 64, width), weights(1, width, 9)[0]) for width in (32, 64, 128)}
    for width, (weight, bias) in heads.items():
        save_head(source, f"2_Dense_{width}/model.safetensors", weight, bias)
    (models / "tiny.toml").write_text(tiny.manifest("tiny", "qwen2", dense=PER_WIDTH))
    pull.pull("tiny", file=source)
    for name, width in (("tiny", 64), ("tiny:32", 32), ("tiny:128", 128), ("tiny:64", 64)):
        vector = np.frombuffer(sql.one("SELECT embed(?, ?)", TEXT, name), "<f4")
        weight, bias = heads[width]
        assert vector @ tiny.unit(weight @ pooled() + bias) > 0.9995
    # Not the beginning of another's.
    whole = np.frombuffer(sql.one("SELECT embed(?)", TEXT), "<f4")
    narrow = np.frombuffer(sql.one("SELECT embed(?, 'tiny:32')", TEXT), "<f4")
    assert abs(tiny.unit(whole[:32]) @ narrow) < 0.9
    assert engine.library.loaded() == ["tiny"]
    assert "it has 32, 64 and 128" in sql.error("SELECT embed('a', 'tiny:48')")


def test_heads_that_do_not_follow_on_each_other_are_refused(sql: Sql, models: Path) -> None:
    tiny.install("tiny", "qwen2", dense=[TWO[0], {**TWO[1], "in": 95}])
    assert "takes 95 floats" in sql.error("SELECT embed('a')")
    tiny.install("other", "qwen2", dense=TWO[:1])
    assert "gives 96 floats; dimension is 64" in sql.error("SELECT embed('a', 'other')")


def test_bfloat16_is_read(tmp_path: Path, source: Path, models: Path) -> None:
    halves = (FIRST.view(np.uint32) >> 16).astype("<u2")
    header = (
        b'{"linear.weight":{"dtype":"BF16","shape":[96,64],"data_offsets":[0,%d]}}' % halves.nbytes
    )
    data = len(header).to_bytes(8, "little") + header + halves.tobytes()
    (source / HEAD_PATHS[0]).write_bytes(data)
    pull.pull("tiny", file=source)
    stored = load_file(path(models / "tiny.gguf", HEADS))[f"{HEAD_PATHS[0]}:linear.weight"]
    np.testing.assert_allclose(stored, FIRST, rtol=1 / 128)


def test_a_reranker_may_have_its_head_beside_it(sql: Sql, tmp_path: Path, models: Path) -> None:
    """Where llama.cpp's own graph of it lacks a layer: a pooler, tanh, and a classifier."""
    source = tmp_path / "source"
    tiny.write(source / "m.gguf", "nomic-bert")
    pooler, classifier = weights(64, 64, 5), weights(1, 64, 6)
    save_file(
        {
            "pooler.dense.weight": pooler,
            "pooler.dense.bias": BIAS[:64].copy(),
            "classifier.weight": classifier,
            "classifier.bias": BIAS[:1].copy(),
            "something.else": FIRST,
        },
        source / "model.safetensors",
    )
    common = {"path": "model.safetensors", "bias": True, "in": 64}
    dense = [
        {**common, "out": 64, "tensor": "pooler.dense", "activation": "tanh"},
        {**common, "out": 1, "tensor": "classifier"},
    ]
    keys = {"kind": "reranker", "pooling": "cls", "dimension": 1, "dense": dense}
    (models / "tiny.toml").write_text(tiny.manifest("tiny", "nomic-bert", **keys))
    pull.pull("tiny", file=source)
    score = sql.one("SELECT rerank('the red', 'fox', 'tiny')")
    first = tiny.forward("nomic-bert", [2, 7, 8, 3, 9, 3], causal=False)[0]
    logit = classifier @ np.tanh(pooler @ first + BIAS[:64]) + BIAS[:1]
    assert score == pytest.approx(float(1 / (1 + np.exp(-logit[0]))), abs=0.01)


def gguf_with(path: Path, names: tuple[str, ...]) -> Path:
    """A GGUF as the converter makes it of EmbeddingGemma, with heads of these *names* inside."""
    writer = gguf.GGUFWriter(path, "gemma-embedding")
    writer.add_token_list(["the", "a"])
    writer.add_token_types([1, 1])
    for name in ("token_embd.weight", *names):
        writer.add_tensor(name, FIRST)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def of(dense: list[dict[str, object]]) -> Manifest:
    return parse(tiny.manifest("tiny", "gemma-embedding", dense=dense), "a test")


def test_heads_inside_the_gguf_are_left_to_llama_cpp(tmp_path: Path) -> None:
    path_ = gguf_with(tmp_path / "m.gguf", INSIDE)
    rows = FIRST[:3]
    assert Heads(of(TWO), path_).apply(rows) is rows


def test_heads_inside_the_gguf_are_not_put_beside_it_as_well(tmp_path: Path) -> None:
    for where, weight in zip(HEAD_PATHS, (FIRST, SECOND), strict=True):
        save_head(tmp_path / "source", where, weight)
    for name, names in (("with", INSIDE), ("without", ())):
        path_ = gguf_with(tmp_path / f"{name}.gguf", names)
        gather(of(TWO), tmp_path / "source", path_)
        assert path(path_, HEADS).is_file() == (name == "without")


def test_heads_inside_and_beside_would_be_applied_twice(tmp_path: Path) -> None:
    path_ = gguf_with(tmp_path / "m.gguf", INSIDE)
    save_file({"x": FIRST}, path(path_, HEADS))
    with pytest.raises(ModelError, match=r"which llama.cpp applies, and .* as well"):
        Heads(of(TWO), path_)


@pytest.mark.parametrize(
    ("names", "dense"),
    [
        (INSIDE, []),
        (INSIDE[:1], TWO),
        (INSIDE, [{**TWO[0], "activation": "tanh"}, TWO[1]]),
        (INSIDE, [{**TWO[0], "bias": True}, TWO[1]]),
    ],
)
def test_heads_inside_that_are_not_the_manifests_are_refused(
    tmp_path: Path, names: tuple[str, ...], dense: list[dict[str, object]]
) -> None:
    with pytest.raises(ModelError, match="they are not the same"):
        Heads(of(dense), gguf_with(tmp_path / "m.gguf", names))


def test_a_gguf_without_heads_needs_them_beside_it(tmp_path: Path) -> None:
    path_ = gguf_with(tmp_path / "m.gguf", ())
    assert "token_embd.weight" in gguf_header.tensors(path_)
    Heads(of([]), path_)
    with pytest.raises(ModelError, match=r"nor its GGUF has them"):
        Heads(of(TWO), path_)
    path_.write_bytes(path_.read_bytes()[:100])
    assert gguf_header.tensors(path_) == set()
