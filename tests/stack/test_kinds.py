"""An index on each kind of model answers a query, through every door; tokens without pooling."""

import numpy as np
import pytest
import tiny_decoder as tiny
from harness import Sql

KINDS = {
    "nomic": ("nomic-bert", {"dimensions": [32], "layer_norm": True}),
    "non-causal": ("qwen2", {"attention": "bidirectional", "end": "[SEP]"}),
    "last token": ("qwen3", {"attention": "causal", "pooling": "last", "end": "[SEP]"}),
}
BODIES = ("the red fox sleeps", "dogs bark loud at night", "a tree")


@pytest.mark.parametrize("kind", KINDS)
def test_an_index_finds_its_rows(sql: Sql, kind: str) -> None:
    architecture, keys = KINDS[kind]
    tiny.install("tiny", architecture, prompts={"query": "query : "}, **keys)
    sql("CREATE TABLE sms(id INTEGER PRIMARY KEY, body TEXT)")
    for body in BODIES:
        sql("INSERT INTO sms(body) VALUES (?)", body)
    sql("SELECT sqlembed_index('sms', 'body')")
    for row, body in enumerate(BODIES, 1):
        assert sql("SELECT id FROM knn('sms', embed(?), 1)", body) == [row]
        found = sql("SELECT id, distance FROM knn('sms', ?, 3)", body)
        assert len(found) == 3
        vectors = dict(enumerate(BODIES, 1))
        for number, distance in found:
            words = [tiny.PIECES.index(word) for word in vectors[number].split()]
            query = [2, 19, 21, *(tiny.PIECES.index(word) for word in body.split()), 3]
            expected = cosine(architecture, keys, query, [2, *words, 3])
            assert 1 - distance == pytest.approx(expected, abs=0.01)
    sql("INSERT INTO sms(body) VALUES ('the fox bark')")
    assert sql("SELECT id FROM knn('sms', embed('the fox bark'), 1)") == [4]


def cosine(architecture: str, keys: dict[str, object], *texts: list[int]) -> float:
    sides = []
    for ids in texts:
        rows = tiny.forward(architecture, ids, causal=keys.get("attention") == "causal")
        sides.append(tiny.unit(rows[-1] if keys.get("pooling") == "last" else rows.mean(0)))
    return float(sides[0] @ sides[1])


def test_without_pooling_a_model_reranks_and_does_not_embed(sql: Sql) -> None:
    tiny.install("tiny", "nomic-bert", pooling="none")
    assert "gives a vector for each token and none for a text" in sql.error("SELECT embed('a')")
    score = sql.one("SELECT rerank('red fox', 'the fox sleeps')")
    query = [tiny.unit(row) for row in tiny.forward("nomic-bert", [2, 8, 9, 3], causal=False)]
    rows = tiny.forward("nomic-bert", [2, 7, 9, 10, 3], causal=False)
    document = np.stack([tiny.unit(row) for row in rows])
    late = np.mean([(document @ token).max() for token in query])
    assert score == pytest.approx(late, abs=0.01)
