"""The ways to search that are compared, over one table: knn(), FTS5, both, both reranked.

``rankings`` is the only door: where search() exists, it takes the place of ``fusion``.
"""

import json
from collections.abc import Sequence
from functools import cached_property

import apsw
import numpy as np

from quality import fusion
from sqlembed.engine.late import LATE_SHARE

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
RERANK = """
SELECT id, rerank(?1, body, ?2) FROM docs WHERE id IN (SELECT value FROM json_each(?3))"""


class Corpus:
    """Texts in a table with both indexes."""

    def __init__(self, connection: apsw.Connection, texts: Sequence[str], model: str) -> None:
        """Fill and index the table; *connection* has sqlembed and an empty database."""
        self._connection = connection
        self._model = model
        self._texts = len(texts)
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
            phrase: times * fusion.information(len(self._having(phrase)), self._texts)
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

    @cached_property
    def _sample(self) -> list[int]:
        evenly = np.linspace(0, self._texts - 1, min(SAMPLE, self._texts))
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
        bindings = (query, self._model, json.dumps(list(cosines)))
        mixed = self._connection.execute(RERANK, bindings)
        return {n: (score - (1 - LATE_SHARE) * cosines[n]) / LATE_SHARE for n, score in mixed}
