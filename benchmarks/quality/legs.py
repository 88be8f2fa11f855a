"""The ways to search that are compared, over one table: knn(), FTS5, both, both reranked.

``rankings`` is the only door: where search() exists, it takes the place of ``fusion``.
"""

import json
from collections.abc import Sequence
from functools import cached_property

import numpy as np

import sqlembed
from quality import fusion
from sqlembed.engine.late import LATE_SHARE
from sqlembed.engine.local import LocalEngine

LEGS = ("knn", "words", "fused", "reranked")
SAMPLE = 256
"""Texts that tell how a query's cosines spread."""

TABLE = """
CREATE TABLE docs(id INTEGER PRIMARY KEY, body TEXT);
CREATE VIRTUAL TABLE words USING fts5(
    body, content='docs', content_rowid='id', tokenize='unicode61 remove_diacritics 2'
)"""
FILL = "INSERT INTO docs VALUES (?, ?)"
INDEX_WORDS = "INSERT INTO words(words) VALUES ('rebuild')"
INDEX = "SELECT sqlembed_index('docs', 'body', ?)"
KNN = "SELECT id, distance FROM knn('docs', ?, ?)"
KNN_AMONG = f"{KNN} WHERE id IN (SELECT value FROM json_each(?))"
WORDS = "SELECT rowid, -bm25(words) FROM words WHERE words MATCH ? ORDER BY rank LIMIT ?"
HAVING = "SELECT rowid FROM words WHERE words MATCH ?"


class Corpus:
    """Texts in a table with both indexes."""

    def __init__(self, engine: LocalEngine, texts: Sequence[str], model: str) -> None:
        """Fill and index a table in memory."""
        self._engine = engine
        self._connection = connection = sqlembed.connect(":memory:", engine=engine)
        self._model = model
        self._texts = texts
        self._holders: dict[str, set[int]] = {}
        connection.execute(TABLE)
        with connection:
            connection.executemany(FILL, enumerate(texts))
            connection.execute(INDEX_WORDS)
        connection.execute(INDEX, (json.dumps({"model": model}),))

    def rankings(self, query: str) -> dict[str, list[int]]:
        """The ids that each of ``LEGS`` finds, best first."""
        near = dict(self._connection.execute(KNN, (query, fusion.CANDIDATES)))
        worded: dict[int, float] = {}
        if wanted := fusion.match(query):
            worded = dict(self._connection.execute(WORDS, (wanted, fusion.CANDIDATES)))
        both = [*near, *(n for n in worded if n not in near)]
        distances = near | self._distances(query, [n for n in worded if n not in near])
        weights = {
            phrase: times * fusion.information(len(self._having(phrase)), len(self._texts))
            for phrase, times in fusion.phrases(query).items()
        }
        total = sum(weights.values()) or 1.0
        candidates = {
            n: fusion.Candidate(
                cosine=1 - distances[n],
                bm25=worded.get(n, 0.0),
                share=sum(w for phrase, w in weights.items() if n in self._having(phrase)) / total,
            )
            for n in both
        }
        spread = float(np.std([*self._distances(query, self._sample).values()])) or 1.0
        scores = fusion.fused(candidates, spread)
        best = fusion.by_score(scores)
        late = self._late(query, {n: candidates[n].cosine for n in best[: fusion.RERANKED]})
        return {
            "knn": list(near),
            "words": list(worded),
            "fused": best,
            "reranked": fusion.reranked(scores, late, spread),
        }

    def close(self) -> None:
        """Forget the table."""
        self._connection.close()

    @cached_property
    def _sample(self) -> list[int]:
        evenly = np.linspace(0, len(self._texts) - 1, min(SAMPLE, len(self._texts)))
        return [int(n) for n in evenly]

    def _distances(self, query: str, ids: Sequence[int]) -> dict[int, float]:
        if not ids:
            return {}
        bindings = (query, len(ids), json.dumps(ids))
        return dict(self._connection.execute(KNN_AMONG, bindings))

    def _having(self, phrase: str) -> set[int]:
        if phrase not in self._holders:
            self._holders[phrase] = {n for (n,) in self._connection.execute(HAVING, (phrase,))}
        return self._holders[phrase]

    def _late(self, query: str, cosines: dict[int, float]) -> dict[int, float]:
        """Late interaction alone: what rerank() adds to the cosine."""
        mixed = self._engine.rerank(query, [self._texts[n] for n in cosines], self._model)
        return {
            n: (score - (1 - LATE_SHARE) * cosine) / LATE_SHARE
            for (n, cosine), score in zip(cosines.items(), mixed, strict=True)
        }
