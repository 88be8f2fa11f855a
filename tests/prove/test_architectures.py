"""Each architecture on tiny weights gives its reference's vectors, scores and token ids."""

import numpy as np
import pytest
from cases import CASES, PAIRS, TEXTS
from tiny import COSINE, PEARSON, ROLES, Load, Tiny, cosines, pearson

from sqlembed.engine.tokenize import SEGMENT_KEY

EMBEDDERS = [case.name for case in CASES if case.kind == "embedder"]
RERANKERS = [case.name for case in CASES if case.kind == "reranker"]
RIGHT = [name for name in RERANKERS if name != "bert-ranker-theirs"]
"""``test_mutations.py`` says what llama.cpp's converter does to the other."""


@pytest.mark.parametrize("tiny", EMBEDDERS, indirect=True)
def test_vectors_are_the_references(tiny: Tiny, load: Load) -> None:
    model = load(tiny)
    for key, reference in tiny.reference.items():
        found = cosines(tiny.ours(model, key), reference)
        assert found.min() >= COSINE, (key, TEXTS[int(found.argmin())])


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


@pytest.mark.parametrize("tiny", RIGHT, indirect=True)
def test_scores_are_the_references(tiny: Tiny, load: Load) -> None:
    model = load(tiny)
    reference = tiny.reference["scores"]
    assert reference.std() > 0.02
    assert pearson(tiny.scores(model), reference) >= PEARSON


@pytest.mark.parametrize("tiny", RERANKERS, indirect=True)
def test_token_ids_of_pairs_are_the_references(tiny: Tiny, load: Load) -> None:
    model = load(tiny)
    # Ids of a second text are shifted where it is a segment of its own.
    words = int(model._weights.metadata(SEGMENT_KEY) or model._weights.tokens)
    ids = [(found % words).tolist() for found in model._tokenizer.encode_pairs(PAIRS)]
    assert ids == tiny.ids["pairs"]
