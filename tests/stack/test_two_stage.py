"""A model of two stages: its own arithmetic's vectors, and an index that keeps what it reads first."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import tiny_two_stage as tiny

from sqlembed.engine import bert
from sqlembed.engine.llama import Weights
from sqlembed.engine.llama_rows import MOST_TOGETHER, Placed, RowsContext
from sqlembed.engine.local import LocalEngine
from sqlembed.engine.two_stage import Behind, TwoStage
from sqlembed.errors import InputError, ModelError, OptionError, SpaceError
from sqlembed.weights import beside, gguf_tensors, manifest, receipt

Floats = npt.NDArray[np.float32]

TEXTS = ["the red fox sleeps", "dogs bark at night", "a tree", "fox under the tree"]
OTHERS = ["loud dogs", "no", "yes the dogs bark loud at a tree at night"]
ARITHMETICS = ["own", "llama.cpp"] if bert.lanes() else ["llama.cpp"]
COSINE = 0.999
"""At f16; measured: 0.999998."""


@pytest.fixture(autouse=True, params=ARITHMETICS)
def computed(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """By whom: both have to give the reference's vectors."""
    monkeypatch.setenv("SQLEMBED_ARITHMETIC", request.param)


def floats(blobs: Sequence[bytes]) -> Floats:
    return np.frombuffer(b"".join(blobs), "<f4").reshape(len(blobs), -1)


def rows(made: bytes) -> Floats:
    return np.frombuffer(made, "<f4").reshape(-1, tiny.WIDTH)


def reference(texts: Sequence[str], role: str, arithmetic: str) -> Floats:
    sample = tiny.sample(TEXTS)
    return np.stack([tiny.of_second(text, role, sample, arithmetic) for text in texts])


def least_cosine(ours: Floats, theirs: Floats) -> float:
    return float((ours * theirs).sum(axis=1).min())


@pytest.mark.parametrize("arithmetic", ["trained", "published"])
@pytest.mark.parametrize("role", ["document", "query"])
def test_vectors_are_the_references(engine: LocalEngine, arithmetic: str, role: str) -> None:
    tiny.install("tiny", arithmetic)
    name, made = engine.sample(TEXTS, "tiny")
    np.testing.assert_allclose(rows(made), tiny.sample(TEXTS), atol=0.02)
    texts = [*TEXTS, *OTHERS] * 3  # more than a batch of it
    ours = floats(engine.embed(texts, name, role))
    assert least_cosine(ours, reference(texts, role, arithmetic)) > COSINE


def test_each_part_of_the_arithmetic_moves_the_vectors(
    engine: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny.install("tiny")
    name, _ = engine.sample(TEXTS, "tiny")
    ours = floats(engine.embed(OTHERS, name, "query"))
    assert least_cosine(ours, reference(OTHERS, "query", "published")) < COSINE
    assert least_cosine(ours, reference(OTHERS, "document", "trained")) < COSINE
    for what in ("prompt", "output", "first"):
        zeroed = {
            key: 0 * tensor if key.startswith(tiny.MLPS[what] + "2") else tensor
            for key, tensor in tiny.WEIGHTS.items()
        }
        zeroed[tiny.MLPS[what] + "2.bias"] = np.ones_like(zeroed[tiny.MLPS[what] + "2.bias"])
        zeroed[tiny.MLPS[what] + "2.bias"][::2] = 2
        with monkeypatch.context() as patch:
            patch.setattr(tiny, "WEIGHTS", zeroed)
            assert least_cosine(ours, reference(OTHERS, "query", "trained")) < COSINE, what


def test_another_sample_gives_other_vectors_and_the_same_one_the_same(engine: LocalEngine) -> None:
    tiny.install("tiny")
    name, made = engine.sample(TEXTS, "tiny")
    other, _ = engine.sample(OTHERS, "tiny")
    assert name != other
    assert engine.sample(TEXTS, "tiny") == (name, made)
    apart = (
        floats(engine.embed(["a tree"], name, "query"))
        @ floats(engine.embed(["a tree"], other, "query")).T
    )
    assert apart < COSINE
    assert engine.space(name) != engine.space(other)


def test_of_fewer_texts_some_count_several_times_and_of_more_the_first(engine: LocalEngine) -> None:
    tiny.install("tiny")
    several = rows(engine.sample(TEXTS, "tiny")[1])
    many = rows(engine.sample([*TEXTS, *TEXTS[:2], *OTHERS], "tiny")[1])
    assert several.shape == many.shape == (tiny.SAMPLE, tiny.WIDTH)
    np.testing.assert_array_equal(several[:2], several[4:])
    np.testing.assert_allclose(several, many, atol=0.02)
    with pytest.raises(InputError, match="needs a sample of texts, and got none"):
        engine.sample([], "tiny")


@pytest.mark.parametrize("arithmetic", ["trained", "published"])
def test_a_text_is_the_same_alone_and_in_a_batch(engine: LocalEngine, arithmetic: str) -> None:
    tiny.install("tiny", arithmetic)
    with engine.library.hold("tiny") as model:
        after = model.after(model.manifest, model.sample(TEXTS))  # type: ignore[attr-defined]
        texts = OTHERS * 4
        together = after.embed(texts, "document")
        alone = np.concatenate([after.embed([text], "document") for text in texts])
    assert least_cosine(together, alone) > 0.99999


def test_samples_of_several_indexes_share_batches(engine: LocalEngine) -> None:
    tiny.install("tiny")
    with engine.library.hold("tiny") as model:
        assert isinstance(model, TwoStage)
        context = model._contexts[0].context  # type: ignore[attr-defined]
        behind = [
            model.placed(Behind(model._before(sample), ids))
            for sample in (model.sample(TEXTS), model.sample(OTHERS))
            for ids in model._tokens(["no"], "document")
        ]
        together = context.compute(behind)
        alone = [context.compute([each])[0] for each in behind]
    for one, other in zip(together, alone, strict=True):
        np.testing.assert_allclose(one, other, atol=0.03)
    assert np.abs(together[0] - together[1]).max() > 0.3


def test_late_interaction_goes_by_the_tokens_of_the_text_alone(engine: LocalEngine) -> None:
    tiny.install("tiny")
    name, _ = engine.sample(TEXTS, "tiny")
    with engine.library.use(name) as model:
        (tokens,) = model.tokens(["dogs bark"], "document")
    assert len(tokens.each) == len(tiny.ids("dogs bark"))
    scores = engine.rerank("red fox", TEXTS, name)
    assert len(set(scores)) == len(TEXTS)


def test_without_a_sample_it_says_what_to_do(engine: LocalEngine) -> None:
    tiny.install("tiny")
    for call in (
        lambda name: engine.embed(["a tree"], name, "query"),
        lambda name: engine.rerank("a tree", ["a tree"], name),
    ):
        with pytest.raises(InputError, match="make an index with"):
            call("tiny")
        with pytest.raises(InputError, match="is not known in this process"):
            call("tiny@0123456789abcdef")
    assert engine.token_count(["a tree"], "tiny") == [6]
    assert len(engine.chunk(["a tree " * 60], "tiny")[0]) > 1
    with pytest.raises(InputError, match="and no scores"), engine.library.use("tiny") as model:
        model.score("a", ["b"])


def test_a_sample_that_is_not_what_its_name_says_is_refused(engine: LocalEngine) -> None:
    tiny.install("tiny")
    name, made = engine.sample(TEXTS, "tiny")
    other = LocalEngine()
    assert not other.knows_sample(name)
    for wrong in (made[:-4], made[:-4] + b"abcd", b""):
        with pytest.raises(SpaceError, match="damaged"):
            other.learn_sample(name, wrong)
    other.learn_sample(name, made)
    assert other.knows_sample(name)
    assert other.knows_sample("tiny")
    assert other.embed(["no"], name, "query") == engine.embed(["no"], name, "query")
    other.close()


def test_a_name_with_a_sample_is_of_no_other_model(engine: LocalEngine) -> None:
    tiny.install("tiny")
    with pytest.raises(OptionError, match="no sample of others before"):
        manifest.find("all-MiniLM-L6-v2@0123456789abcdef")
    found = manifest.find("tiny@0123456789abcdef")
    assert (found.name, found.base) == ("tiny@0123456789abcdef", "tiny")
    assert manifest.find("tiny").base == "tiny"


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("sample = 0", "a number from 1; got 0"),
        ("sample = true", "a number from 1; got True"),
        ('arithmetic = "theirs"', "trained or published; got 'theirs'"),
        ("size = 1", "unexpected keyword argument 'size'"),
    ],
)
def test_a_wrong_table_says_what_is_wrong(table: str, said: str) -> None:
    text = tiny.MANIFEST.format(name="tiny", sample=6, arithmetic="trained")
    with pytest.raises(ModelError, match=said):
        manifest.parse(text.partition("[corpus]")[0] + "[corpus]\n" + table, "a test")


def test_what_does_not_go_with_a_sample_is_refused() -> None:
    text = tiny.MANIFEST.format(name="tiny", sample=6, arithmetic="trained")
    for other in ('pooling = "cls"', 'kind = "reranker"', "dimensions = [32]"):
        key = other.partition(" ")[0]
        lines = [line for line in text.splitlines() if not line.startswith(key + " ")]
        with pytest.raises(ModelError, match="pools by the mean, and has one width"):
            manifest.parse("\n".join([other, *lines]), "a test")


def test_weights_for_another_sample_are_refused(engine: LocalEngine) -> None:
    tiny.install("tiny")
    for name, old, new, said in (
        ("seven", "sample = 6", "sample = 7", "for samples of 6 texts, its manifest says 7"),
        (
            "long",
            "context = 64",
            "context = 500",
            "512 positions; a sample and 500 tokens need 514",
        ),
    ):
        path = tiny.install(name).with_suffix(".toml")
        path.write_text(path.read_text().replace(old, new))
        with pytest.raises(ModelError, match=said):
            engine.load(name)


@pytest.mark.parametrize("kind", [beside.FIRST, beside.STAGES])
def test_a_stage_that_is_missing_or_altered_is_refused(engine: LocalEngine, kind: str) -> None:
    gguf = tiny.install("tiny")
    path = beside.path(gguf, kind)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(ModelError, match="is altered"):
        engine.load("tiny")
    path.unlink()
    with pytest.raises(ModelError, match="is altered: its sha256 is none"):
        engine.load("tiny")
    receipt.write_receipt("tiny", receipt.make_receipt(gguf, "f16", "tests"))
    with pytest.raises(ModelError, match="has two stages"):
        engine.load("tiny")


@pytest.mark.parametrize("file_type", ["f32", "q8_0", "q4_k_m"])
def test_both_stages_are_stored_as_they_are_asked_for(engine: LocalEngine, file_type: str) -> None:
    gguf = tiny.install("tiny", file_type=file_type)
    name, _ = engine.sample(TEXTS, "tiny")
    ours = floats(engine.embed(OTHERS, name, "query"))
    least = {"f32": 0.99999, "q8_0": 0.995, "q4_k_m": 0.8}[file_type]
    assert least_cosine(ours, reference(OTHERS, "query", "trained")) > least
    sizes = {path.stat().st_size // 1024 for path in (gguf, beside.path(gguf, beside.FIRST))}
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"transductive_tokens_per_document": 2}, "tokens_per_document is 2; only 1"),
        ({"disable_transductive_rotary_embedding": False}, "only True is supported"),
        ({"n_head": 3}, "and 3 heads has other tensors"),
    ],
)
def test_a_checkpoint_that_computes_otherwise_is_refused(
    tmp_path: Path, config: dict[str, object], said: str
) -> None:
    from sqlembed.weights.convert import convert

    source = tiny.write_directory(tmp_path / "source", **config)
    with pytest.raises(ModelError, match=said):
        convert(source, tmp_path / "made.gguf")
    assert not (tmp_path / "made.gguf").exists()


def test_transformers_of_another_kind_are_refused(tmp_path: Path) -> None:
    from sqlembed.weights.convert import convert

    source = tiny.write_directory(tmp_path / "source")
    config = json.loads((source / "config.json").read_text())
    del config["n_head"]
    (source / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="what can be converted is nomic-ai/nomic-bert-2048"):
        convert(source, tmp_path / "made.gguf")


@pytest.mark.skipif(not bert.lanes(), reason="not for this processor, or not compiled")
def test_what_is_not_quite_a_nomic_bert_is_left_to_llama_cpp(engine: LocalEngine) -> None:
    contents = gguf_tensors.read(tiny.install("tiny"))
    assert bert.reason_against(contents) is None
    for numbers, said in (
        ({"nomic-bert.rope.scaling.factor": 2.0}, "it says nomic-bert.rope.scaling.factor"),
        ({"nomic-bert.rope.dimension_count": 16}, "parts of its heads only"),
        ({"nomic-bert.attention.head_count": 0}, "no multiples"),
        ({"nomic-bert.block_count": 0}, "it is no BERT"),
    ):
        changed = replace(contents, numbers=contents.numbers | numbers)
        assert said in str(bert.reason_against(changed))
    for key in ("rope.freq_base", "context_length", "attention.layer_norm_epsilon"):
        numbers = {k: v for k, v in contents.numbers.items() if k != f"nomic-bert.{key}"}
        assert key in str(bert.reason_against(replace(contents, numbers=numbers)))
    for name, other in (("ffn_gate", "attn_output"), ("attn_qkv", "attn_output")):
        narrow = {f"blk.1.{name}.weight": contents.tensors[f"blk.1.{other}.weight"]}
        told = bert.reason_against(replace(contents, tensors=contents.tensors | narrow))
        assert f"blk.1.{name}.weight is of shape" in str(told)
    biased = contents.tensors | {"blk.0.attn_qkv.bias": contents.tensors["token_embd_norm.bias"]}
    assert "attn_qkv.bias" in str(bert.reason_against(replace(contents, tensors=biased)))


def context_of(path: Path, added: float = 0.0) -> RowsContext:
    weights = Weights(path)
    return RowsContext(weights, 512, np.full(tiny.WIDTH, added, np.float32))


def test_rows_that_fill_gaps_are_hidden(engine: LocalEngine) -> None:
    context = context_of(tiny.install("tiny"))
    drawn = np.random.default_rng(2).normal(size=(9, tiny.WIDTH)).astype(np.float32)
    gap = Placed(drawn[:4], np.array([0, 0, 30, 31], np.int32))
    plain = Placed(drawn[4:], np.arange(5, dtype=np.int32))
    expected = [context._encode([each], drawn[8])[0] for each in (gap, plain)]
    for filling in (drawn[8], 5 * drawn[7]):
        for texts, wanted in (([gap, plain], expected), ([plain, gap], expected[::-1])):
            for ours, alone in zip(context._encode(texts, filling), wanted, strict=True):
                np.testing.assert_allclose(ours, alone, atol=2e-3)
    shifted = Placed(drawn[:4], np.array([0, 0, 31, 32], np.int32))
    assert np.abs(context.compute([shifted])[0] - expected[0]).max() > 0.01


def test_a_build_that_shows_them_is_refused(
    engine: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tiny.install("tiny")
    # As if what fills a gap were the first text's own.
    monkeypatch.setattr(RowsContext, "_of_gap", lambda self, texts, filler: texts)
    with pytest.raises(ModelError, match="does not keep a batch's texts apart"):
        context_of(path)


def test_either_order_of_a_rows_texts_will_do(
    engine: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tiny.install("tiny")
    plain = context_of(path)
    of_gap = RowsContext._of_gap

    def turned(self: RowsContext, texts: list[int], filler: int) -> list[int]:
        return of_gap(self, texts, filler)[::-1]

    monkeypatch.setattr(RowsContext, "_of_gap", turned)
    assert context_of(path)._last is not plain._last


def test_a_batch_that_does_not_fit_is_an_error_and_no_crash(engine: LocalEngine) -> None:
    context = context_of(tiny.install("tiny"))
    row = np.zeros((1, tiny.WIDTH), np.float32)
    one = Placed(row, np.zeros(1, np.int32))
    far = Placed(np.repeat(row, 2, 0), np.array([0, 600], np.int32))
    for texts, said in (
        ([], "a batch of 0 texts"),
        ([far], "599 between them does not fit"),
        ([one] * (MOST_TOGETHER + 1), f"at most {MOST_TOGETHER}"),
        ([Placed(row[:0], np.zeros(0, np.int32))], "0 rows"),
    ):
        with pytest.raises(ModelError, match=said):
            context.compute(texts)
