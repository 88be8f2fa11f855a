"""The proof bites: with any one setting wrong, vectors and scores are not the reference's."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import CASES, TEMPLATE, TEXTS
from tiny import COSINE, PEARSON, Load, Tiny, cosines, pearson

from sqlembed.errors import ModelError
from sqlembed.weights import beside

EMBEDDERS = [case for case in CASES if case.kind == "embedder"]
OTHER_POOLINGS = {"mean": ("cls", "last"), "cls": ("mean", "last"), "last": ("mean", "cls")}
DECODERS = [
    case for case in CASES if case.architecture in ("qwen2", "qwen3") and case.kind == "embedder"
]
PROMPTED = [case for case in EMBEDDERS if case.prompts.get("query")]
STARTS = {"gemma-embedding": "<bos>"}
"""The token that begins each text, where its tokenizer adds one."""
WITH_HEADS = [case for case in EMBEDDERS if case.dense and not case.inside]


def lowest(tiny: Tiny, load: Load, **changes: Any) -> float:
    """The worst cosine of any text to its reference, with *changes* to the manifest.

    The first text is empty, and without an end token there would be nothing to compute.
    """
    model = load(tiny, **changes)
    return min(
        float(cosines(tiny.ours(model, key, TEXTS[1:]), reference[1:]).min())
        for key, reference in tiny.reference.items()
    )


@pytest.mark.parametrize(
    ("tiny", "pooling"),
    [(case.name, other) for case in EMBEDDERS for other in OTHER_POOLINGS[case.pooling]],
    indirect=["tiny"],
)
def test_pooling(tiny: Tiny, pooling: str, load: Load) -> None:
    assert lowest(tiny, load, pooling=pooling) < COSINE


@pytest.mark.parametrize("tiny", [case.name for case in DECODERS], indirect=True)
def test_attention(tiny: Tiny, load: Load) -> None:
    other = {"causal": "bidirectional", "bidirectional": "causal"}[tiny.case.attention]
    assert lowest(tiny, load, attention=other) < COSINE


@pytest.mark.parametrize("tiny", [case.name for case in EMBEDDERS], indirect=True)
def test_an_encoder_is_never_causal(tiny: Tiny, load: Load) -> None:
    if tiny.case in DECODERS:
        return
    with pytest.raises(ModelError, match="bidirectional attention only"):
        load(tiny, attention="causal")


@pytest.mark.parametrize("tiny", [case.name for case in PROMPTED], indirect=True)
def test_prompt(tiny: Tiny, load: Load) -> None:
    assert lowest(tiny, load, prompts={}) < COSINE


@pytest.mark.parametrize("tiny", [case.name for case in PROMPTED], indirect=True)
def test_the_documents_prompt_on_a_query(tiny: Tiny, load: Load) -> None:
    swapped = {"query": tiny.case.prompts.get("document", ""), "document": ""}
    assert lowest(tiny, load, prompts=swapped) < COSINE


@pytest.mark.parametrize("tiny", [case.name for case in WITH_HEADS], indirect=True)
def test_a_missing_head_is_refused(tiny: Tiny, load: Load) -> None:
    with pytest.raises(ModelError, match="without them its vectors would look right"):
        load(tiny, heads=False)


@pytest.mark.parametrize("tiny", ["gemma-embedding"], indirect=True)
def test_a_head_that_nobody_names(tiny: Tiny, load: Load) -> None:
    assert lowest(tiny, load, heads=False, dense=()) < COSINE


@pytest.mark.parametrize("tiny", ["gemma-embedding"], indirect=True)
def test_one_head_of_two(tiny: Tiny, load: Load) -> None:
    with pytest.raises(ModelError):
        load(tiny, dense=tiny.manifest.dense[1:])


@pytest.mark.parametrize("tiny", ["stella"], indirect=True)
def test_the_head_of_another_width(tiny: Tiny, load: Load) -> None:
    model = load(tiny)
    wide = tiny.ours(model, "document-96")[:, :32]
    wide = wide / np.linalg.norm(wide, axis=1, keepdims=True)
    assert cosines(wide, tiny.reference["document-32"]).min() < COSINE


@pytest.mark.parametrize(
    "tiny", [case.name for case in EMBEDDERS if case.layer_norm], indirect=True
)
def test_layer_norm_before_a_cut(tiny: Tiny, load: Load) -> None:
    assert lowest(tiny, load, layer_norm=False) < COSINE


@pytest.mark.parametrize("tiny", [case.name for case in EMBEDDERS if case.end], indirect=True)
def test_a_tokenizer_that_adds_no_end_token(tiny: Tiny, load: Load, proofs: Path) -> None:
    """As the first GGUFs of these models had it; the manifest's ``end`` puts it right."""
    bare, start = Bare(tiny.case, tiny.place), STARTS.get(tiny.case.architecture)
    assert lowest(bare, load, start=start) >= COSINE
    assert lowest(bare, load, start=start, end=None) < COSINE


class Bare(Tiny):
    """A tiny model whose tokenizer has lost what it adds to a text."""

    def install(self, directory: Path, *, tokenizer: bool = True, heads: bool = True) -> Path:
        """Its files, with the ``tokenizer.json`` changed."""
        target = super().install(directory, tokenizer=tokenizer, heads=heads)
        path = beside.path(target, beside.TOKENIZER)
        definition = json.loads(path.read_text()) | {"post_processor": None}
        path.write_text(json.dumps(definition))
        return target


@pytest.mark.parametrize("tiny", ["bert-ranker"], indirect=True)
def test_segment_ids(tiny: Tiny, load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load(tiny)
    monkeypatch.setattr(model._tokenizer, "_segment_offset", 0)
    assert pearson(tiny.scores(model), tiny.reference["scores"]) < PEARSON


@pytest.mark.parametrize("tiny", ["bert-ranker-theirs"], indirect=True)
def test_a_missing_pooler(tiny: Tiny, load: Load) -> None:
    """llama.cpp's converter leaves the pooler out of BERT, and its graph has no segments."""
    assert pearson(tiny.scores(load(tiny)), tiny.reference["scores"]) < PEARSON


@pytest.mark.parametrize("tiny", ["jina-bert-ranker"], indirect=True)
def test_a_rankers_head_that_nobody_names(tiny: Tiny, load: Load) -> None:
    """llama.cpp's own head of JinaBERT lacks the pooler, and takes the tanh of the score."""
    scores = tiny.scores(load(tiny, heads=False, dense=(), pooling="rank"))
    assert pearson(scores, tiny.reference["scores"]) < PEARSON


@pytest.mark.parametrize("tiny", ["jina-bert-ranker"], indirect=True)
def test_a_rankers_missing_head_is_refused(tiny: Tiny, load: Load) -> None:
    with pytest.raises(ModelError, match="without them"):
        load(tiny, heads=False)


@pytest.mark.parametrize("tiny", ["qwen3-reranker"], indirect=True)
@pytest.mark.parametrize(
    "changes",
    [
        {"attention": "bidirectional"},
        {"template": "{query}\n{document}"},
        {"template": TEMPLATE.removesuffix("<think>\n\n</think>\n\n")},
    ],
    ids=["attention", "template", "the template's end"],
)
def test_what_a_reranker_is_asked(tiny: Tiny, changes: dict[str, Any], load: Load) -> None:
    model = load(tiny, **changes)
    assert pearson(tiny.scores(model), tiny.reference["scores"]) < PEARSON
