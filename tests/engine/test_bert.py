"""Our own arithmetic gives what BERT's own formulas give, and what llama.cpp does."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import gguf
import numpy as np
import pytest
import tiny_bert
from datasets import sms
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sqlembed.engine import bert, computing
from sqlembed.engine.bert import Bert
from sqlembed.engine.bert_context import BertContext
from sqlembed.engine.llama import Context, TokenIds, Weights
from sqlembed.engine.pooling import Vectors, mean, unit
from sqlembed.engine.tokenize import tokenizer_of
from sqlembed.errors import ModelError, ModelFileError, OptionError
from sqlembed.weights import gguf_tensors, manifest, receipt
from sqlembed.weights.convert import convert

pytestmark = pytest.mark.skipif(not bert.lanes(), reason="not for this processor, or not compiled")

WIDTHS = [
    width for width in (4, 8, 16) if width <= bert.lanes() and (width == 4) == (bert.lanes() == 4)
]
VOCABULARY, POSITIONS = tiny_bert.ARCHITECTURE.vocabulary, tiny_bert.ARCHITECTURE.positions
CLOSE = 2e-5
"""Of sums of a hundred products in 32 bits, in another order."""


def tiny(directory: Path, file_type: str = "f32", labels: int = 0) -> Path:
    path = directory / f"{file_type}_{labels}.gguf"
    if not path.exists():
        convert(tiny_bert.write_directory(directory / f"source_{labels}", labels), path, file_type)
    return path


def loaded(
    path: Path, width: int | None = None, most_tokens: int = 256, rank: bool = False
) -> BertContext:
    contents = gguf_tensors.read(path)
    assert bert.reason_against(contents, rank=rank) is None
    return BertContext(Bert(contents, width), most_tokens, rank=rank)


def ids(*numbers: int) -> TokenIds:
    return np.array(numbers, np.int32)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bert")


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("threads", [1, 2, 3])
@settings(
    deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    texts=st.lists(
        st.lists(st.integers(0, VOCABULARY - 1), min_size=1, max_size=POSITIONS),
        min_size=1,
        max_size=9,
    )
)
def test_any_batch_is_what_the_formulas_give(
    directory: Path, width: int, threads: int, texts: list[list[int]]
) -> None:
    context = loaded(tiny(directory), width)
    context.use_threads(threads)
    for text, rows in zip(texts, context.encode([ids(*text) for text in texts]), strict=True):
        expected = tiny_bert.forward(tiny_bert.tensors(), text, [0] * len(text))
        np.testing.assert_allclose(rows, expected, atol=CLOSE, rtol=1e-4)


@pytest.mark.parametrize("file_type", ["f16", "q8_0", "q4_0"])
def test_weights_of_fewer_bits_are_computed_as_they_are(directory: Path, file_type: str) -> None:
    path, text = tiny(directory, file_type), [2, 5, 6, 7, 15, 3]
    (rows,) = loaded(path).encode([ids(*text)])
    stored = {
        t.name: gguf.quants.dequantize(t.data, t.tensor_type) for t in gguf.GGUFReader(path).tensors
    }
    from sqlembed.weights.gguf_file import llama_name

    weights = {
        name: stored.get(llama_name(name), tensor) for name, tensor in tiny_bert.tensors().items()
    }
    expected = tiny_bert.forward(weights, text, [0] * len(text))
    np.testing.assert_allclose(rows, expected, atol=3e-3)  # widened to 16 bits, not to 32


def test_a_cross_encoder_gives_its_labels(directory: Path) -> None:
    context = loaded(tiny(directory, labels=3), rank=True)
    pairs, offset = [[2, 5, 6, 3, 7, 15, 3], [2, 9, 3, 8, 3]], VOCABULARY
    segments = [[0, 0, 0, 0, 1, 1, 1], [0, 0, 0, 1, 1]]
    shifted = [
        ids(*(i + s * offset for i, s in zip(*each, strict=True)))
        for each in zip(pairs, segments, strict=True)
    ]
    for pair, kinds, found in zip(pairs, segments, context.encode(shifted), strict=True):
        assert found.shape == (1, 3)
        expected = tiny_bert.classify(tiny_bert.tensors(3), pair, kinds)
        np.testing.assert_allclose(found[0], expected, atol=CLOSE, rtol=1e-4)


def test_what_it_cannot_compute_is_an_error_and_no_crash(directory: Path) -> None:
    context = loaded(tiny(directory), most_tokens=30)
    for texts, said in (
        ([], "a batch of 0 texts"),
        ([ids(2), ids()], "does not fit"),
        ([ids(*[2] * 20)] * 2, "40 tokens"),
        ([ids(*[2] * (POSITIONS + 1))], f"at most {POSITIONS + 1} in a text"),
        ([ids(VOCABULARY)], f"outside the vocabulary of {VOCABULARY}"),
        ([ids(-1)], "outside the vocabulary"),
    ):
        with pytest.raises(ModelError, match=said):
            context.encode(texts)


def test_what_is_not_quite_a_bert_is_left_to_llama_cpp(directory: Path) -> None:
    contents = gguf_tensors.read(tiny(directory))

    def reason(
        *, without: str = "", numbers: dict[str, int] | None = None, rank: bool = False, **more: str
    ) -> str | None:
        tensors = {name: each for name, each in contents.tensors.items() if name != without}
        tensors |= {name: contents.tensors[like] for name, like in more.items()}
        changed = replace(contents, numbers=contents.numbers | (numbers or {}), tensors=tensors)
        return bert.reason_against(changed, rank=rank)

    assert reason() is None
    assert reason(without="blk.1.attn_q.bias") == "it differs from BERT in blk.1.attn_q.bias"
    assert (
        reason(**{"blk.0.attn_q_norm.weight": "blk.0.attn_q.weight"})
        == "it differs from BERT in blk.0.attn_q_norm.weight"
    )
    assert reason(numbers={"bert.block_count": 0}) == "it is no BERT"
    assert "no multiples" in str(reason(numbers={"bert.attention.head_count": 8}))
    assert "cls.output" in str(reason(rank=True))


@pytest.fixture(scope="module")
def texts() -> list[str]:
    return [text for text in dict.fromkeys(sms()) if len(text) < 400][::25]


def vectors(context: Context | BertContext, batches: Iterator[list[TokenIds]]) -> Vectors:
    return np.stack([unit(mean(rows)) for batch in batches for rows in context.encode(batch)])


@pytest.mark.model
@pytest.mark.parametrize(
    ("name", "least"), [("all-MiniLM-L6-v2", 0.99999), ("multilingual-e5-small", 0.9995)]
)
def test_real_models_give_what_llama_cpp_gives(name: str, least: float, texts: list[str]) -> None:
    path = receipt.gguf_path(name)
    weights = Weights(path)
    encoded = tokenizer_of(weights).encode(texts)
    batches = [encoded[at : at + 3] for at in range(0, len(encoded), 3)]
    theirs, ours = Context(weights, 512), loaded(path, most_tokens=512)
    cosines = (vectors(theirs, iter(batches)) * vectors(ours, iter(batches))).sum(1)
    assert cosines.min() > least
    theirs.close()
    weights.close()


@pytest.mark.model
@pytest.mark.parametrize("name", ["all-MiniLM-L6-v2", "judge-nli"])
def test_both_are_chosen_by_the_setting_and_pass_the_probes(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sqlembed.engine.model import Model

    found, path = manifest.find(name), receipt.gguf_path(name)
    for chosen, kind in (("own", BertContext), ("llama.cpp", Context)):
        monkeypatch.setenv("SQLEMBED_ARITHMETIC", chosen)
        model = Model(found, path)
        assert {type(context) for context in model._contexts} == {kind}
        model.close()
    monkeypatch.setenv("SQLEMBED_ARITHMETIC", "mine")
    with pytest.raises(OptionError, match="got 'mine'"):
        computing.way(name)


def test_tensors_are_those_that_the_reference_reads(directory: Path) -> None:
    for file_type in ("f32", "f16", "q8_0", "q4_0"):
        path = tiny(directory, file_type)
        read = gguf_tensors.read(path).tensors
        reference = {each.name: each for each in gguf.GGUFReader(path).tensors}
        assert read.keys() == reference.keys()
        for name, each in reference.items():
            np.testing.assert_array_equal(
                read[name].floats(),
                gguf.quants.dequantize(each.data, each.tensor_type),
                strict=True,
            )


def test_a_file_that_is_cut_is_an_error(directory: Path, tmp_path: Path) -> None:
    data = tiny(directory).read_bytes()
    path = tmp_path / "cut.gguf"
    for length in [*range(1, 4000, 37), len(data) - 40]:
        path.write_bytes(data[:length])
        with pytest.raises(ModelFileError, match="truncated or damaged"):
            gguf_tensors.read(path)
