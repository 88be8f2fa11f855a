"""Late interaction ranks better than the embedder alone, on real questions and answers."""

import datasets
import numpy as np
import pytest
from harness import Sql

pytestmark = pytest.mark.model


def reciprocal_ranks(scores: np.ndarray) -> np.ndarray:
    """1 / rank of each question's own answer, 0 beyond the tenth; rows are questions."""
    own = np.diag(scores)[:, None]
    ranks = 1 + (scores > own).sum(axis=1)
    return np.where(ranks <= 10, 1 / ranks, 0)


def test_rerank_gains_on_the_chatterbot_pairs(real: Sql) -> None:
    pairs = datasets.chatterbot_pairs()
    assert len(pairs) == 108
    real("CREATE TABLE answers(id INTEGER PRIMARY KEY, body)")
    for n, (_, answer) in enumerate(pairs):
        real("INSERT INTO answers VALUES (?, ?)", n, answer)
    real("SELECT sqlembed_index('answers', 'body')")
    dense = np.zeros((108, 108))
    late = np.zeros((108, 108))
    for n, (question, _) in enumerate(pairs):
        dense[n] = real("SELECT -distance FROM knn('answers', ?, 108) ORDER BY id", question)
        answers = [answer for _, answer in pairs]
        late[n] = real.engine.rerank(question, answers, None)
    assert reciprocal_ranks(dense).mean() == pytest.approx(0.93, abs=0.01)
    gain = reciprocal_ranks(late).mean() - reciprocal_ranks(dense).mean()
    assert gain >= 0.005


def test_one_call_gives_what_many_give(real: Sql) -> None:
    documents = ["Dinner is at eight.", "The train leaves at nine.", "You won a prize."]
    together = real.engine.rerank("evening meal", documents, None)
    alone = [real.one("SELECT rerank('evening meal', ?)", document) for document in documents]
    assert alone == pytest.approx(together, abs=1e-4)
    assert max(range(3), key=together.__getitem__) == 0


def test_a_long_document_is_ranked_by_all_of_it(real: Sql) -> None:
    filler = "The weather report says nothing of note about the coming days. " * 60
    needle = "The spare key lies under the blue flower pot."
    scores = real.engine.rerank("where is the spare key", [filler, filler + needle], None)
    assert scores[1] > scores[0] + 0.1
