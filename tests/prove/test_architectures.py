"""Each architecture on tiny weights gives its reference's vectors, scores and token ids."""

import numpy as np
import pytest
from cases import CASES, PAIRS, TEXTS
from tiny import COSINE, PEARSON, ROLES, Load, Tiny, cosines, pearson

from sqlembed.engine.model import Model
from sqlembed.engine.tokenize import SEGMENT_KEY

EMBEDDERS = [case.name for case in CASES if case.kind == "embedder"]
RERANKERS = [case.name for case in CASES if case.kind == "reranker"]
RIGHT = [name for name in RERANKERS if name != "bert-ranker-theirs"]
"""``test_mutations.py`` says what llama.cpp's converter does to the other."""


OWN = [case.name for case in CASES if case.architecture in ("bert", "nomic-bert")]
"""What our own arithmetic computes, where it was compiled."""


@pytest.mark.parametrize("tiny", EMBEDDERS, indirect=True)
def test_vectors_are_the_references(tiny: Tiny, load: Load) -> None:
    check_vectors(tiny, load(tiny))


@pytest.mark.parametrize("tiny", RIGHT, indirect=True)
def test_scores_are_the_references(tiny: Tiny, load: Load) -> None:
    check_scores(tiny, load(tiny))


@pytest.mark.parametrize("tiny", sorted({*OWN} & {*EMBEDDERS, *RIGHT}), indirect=True)
def test_llama_cpps_arithmetic_gives_them_too(
    tiny: Tiny, load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SQLEMBED_ARITHMETIC", "llama.cpp")
    (check_scores if tiny.case.kind == "reranker" else check_vectors)(tiny, load(tiny))


def check_vectors(tiny: Tiny, model: Model) -> None:
    """Each is the reference's, and of unit length."""
    for key, reference in tiny.reference.items():
        vectors = tiny.ours(model, key)
        assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(len(TEXTS)), abs=1e-3)
        found = cosines(vectors, reference)
        assert found.min() >= COSINE, (key, TEXTS[int(found.argmin())])


def check_scores(tiny: Tiny, model: Model) -> None:
    """They rise and fall as the reference's do."""
    reference = tiny.reference["scores"]
    assert reference.std() > 0.02
    assert pearson(tiny.scores(model), reference) >= PEARSON


@pytest.mark.parametrize("tiny", EMBEDDERS, indirect=True)
def test_token_ids_are_the_references(tiny: Tiny, load: Load) -> None:
    model = load(tiny)
    for role in ROLES:
        ids = [found.tolist() for found in model._tokens(TEXTS, role)]
        assert ids == tiny.ids[role]


@pytest.mark.parametrize("tiny", EMBEDDERS, indirect=True)
def test_the_references_tell_texts_apart(tiny: Tiny) -> None:
    for reference in tiny.reference.values():
        apart = (reference @ reference.T)[np.triu_indices(len(TEXTS), 1)]
        assert np.median(apart) < 0.99


@pytest.mark.parametrize("tiny", RERANKERS, indirect=True)
def test_token_ids_of_pairs_are_the_references(tiny: Tiny, load: Load) -> None:
    model = load(tiny)
    # Ids of a second text are shifted where it is a segment of its own.
    words = int(model._weights.metadata(SEGMENT_KEY) or model._weights.tokens)
    ids = [(found % words).tolist() for found in model._tokenizer.encode_pairs(PAIRS)]
    assert ids == tiny.ids["pairs"]
