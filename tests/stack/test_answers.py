"""A reranker that answers yes or no: its template, the logits of two words, their softmax."""

import numpy as np
import pytest
import tiny_decoder as tiny
from harness import Sql

TEMPLATE = "[CLS] query : {query} document : {document} [SEP] the"
YES, NO = 5, 6
KEYS = {
    "kind": "reranker",
    "pooling": "last",
    "attention": "causal",
    "reading": "yes_no",
    "template": TEMPLATE,
    "dimension": 2,
}
QUERY, DOCUMENT = "red fox", "the fox sleeps at night"
WORDS = {piece: number for number, piece in enumerate(tiny.PIECES)}


def ids(query: str, document: str) -> list[int]:
    text = TEMPLATE.format(query=query, document=document)
    return [WORDS[word] for word in text.split()]


def probability(query: str, document: str, *, causal: bool = True) -> float:
    last = tiny.forward("qwen3", ids(query, document), causal=causal)[-1]
    logits = tiny.tensors("qwen3")["token_embd.weight"] @ last  # the head is tied
    return float(1 / (1 + np.exp(logits[NO] - logits[YES])))


def test_the_score_is_the_probability_of_yes(sql: Sql) -> None:
    tiny.install("judge", "qwen3", ends=False, **KEYS)
    pairs = [(QUERY, DOCUMENT), (DOCUMENT, QUERY), ("dogs", "bark loud"), ("a", "tree")]
    for query, document in pairs:
        score = sql.one("SELECT rerank(?, ?, 'judge')", query, document)
        assert score == pytest.approx(probability(query, document), abs=0.01)
    spread = [probability(*pair) for pair in pairs]
    assert max(spread) - min(spread) > 0.1
    assert abs(probability(QUERY, DOCUMENT, causal=False) - probability(QUERY, DOCUMENT)) > 0.02


def test_pairs_of_one_batch_are_scored_apart(sql: Sql) -> None:
    tiny.install("judge", "qwen3", ends=False, **KEYS)
    assert sql.engine is not None
    documents = [DOCUMENT, "bark", "the red fox sleeps under a tree at night", "no"]
    scores = sql.engine.rerank(QUERY, documents, "judge")
    expected = [probability(QUERY, document) for document in documents]
    assert scores == pytest.approx(expected, abs=0.01)


def test_a_long_documents_best_part_counts(sql: Sql) -> None:
    tiny.install("judge", "qwen3", ends=False, **KEYS | {"context": 20})
    long = " ".join(["the red fox sleeps under a tree at night"] * 4)
    assert 0 < sql.one("SELECT rerank('dogs', ?, 'judge')", long) < 1


def test_a_tokenizer_without_the_answers_is_refused(
    sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiny, "PIECES", [piece.replace("yes", "yep") for piece in tiny.PIECES])
    tiny.install("judge", "qwen3", ends=False, **KEYS)
    assert "no token for 'yes'" in sql.error("SELECT rerank('a', 'b', 'judge')")


@pytest.mark.parametrize("template", ["{query} only", "{query} {document} {document}", ""])
def test_a_template_without_both_places_is_refused(sql: Sql, template: str) -> None:
    tiny.install("judge", "qwen3", **KEYS | {"template": template})
    assert "needs a template" in sql.error("SELECT rerank('a', 'b', 'judge')")


def test_another_template_is_another_space(sql: Sql) -> None:
    tiny.install("judge", "qwen3", ends=False, **KEYS)
    tiny.install("other", "qwen3", ends=False, **KEYS | {"template": TEMPLATE + " red"})
    assert sql.engine is not None
    fingerprints = {sql.engine.space(name).fingerprint for name in ("judge", "other")}
    assert len(fingerprints) == 2
    call = "SELECT rerank('red fox', 'the fox sleeps', ?)"
    assert sql.one(call, "judge") != sql.one(call, "other")
