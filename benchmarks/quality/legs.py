"""The ways to search that are compared, over one table: meaning, words, both, both reranked."""

import json
from collections.abc import Sequence

import sqlembed
from sqlembed.engine.local import LocalEngine

LEGS = ("knn", "words", "fused", "reranked")

TABLE = "CREATE TABLE docs(id INTEGER PRIMARY KEY, body TEXT)"
FILL = "INSERT INTO docs VALUES (?, ?)"
INDEX = "SELECT sqlembed_index('docs', 'body', ?)"
KNN = "SELECT id FROM knn('docs', ?, 10)"
WORDS = """
SELECT key FROM sqlembed_word_1 JOIN sqlembed_chunk_1 ON chunk = sqlembed_word_1.rowid
WHERE sqlembed_word_1 MATCH ? ORDER BY bm25(sqlembed_word_1) LIMIT 10"""
FUSED = """SELECT id FROM search('docs', ?, 10, '{"rerank": 0}')"""
RERANKED = "SELECT id FROM search('docs', ?, 10)"


class Corpus:
    """Texts in an indexed table."""

    def __init__(self, engine: LocalEngine, texts: Sequence[str], model: str) -> None:
        """Fill and index a table in memory."""
        self._connection = connection = sqlembed.connect(":memory:", engine=engine)
        connection.execute(TABLE)
        with connection:
            connection.executemany(FILL, enumerate(texts))
        connection.execute(INDEX, (json.dumps({"model": model}),))

    def rankings(self, query: str) -> dict[str, list[int]]:
        """The ids that each of ``LEGS`` finds, best first."""
        wanted = match(query)
        return {
            "knn": self._ids(KNN, query),
            "words": self._ids(WORDS, wanted) if wanted else [],
            "fused": self._ids(FUSED, query),
            "reranked": self._ids(RERANKED, query),
        }

    def close(self) -> None:
        """Forget the table."""
        self._connection.close()

    def _ids(self, sql: str, query: str) -> list[int]:
        return list(dict.fromkeys(n for (n,) in self._connection.execute(sql, (query,))))


def match(query: str) -> str:
    """*query* for FTS5's MATCH, as a careful user writes it: any of its pieces, each a phrase."""
    pieces = dict.fromkeys(query.lower().split())
    doubled = (piece.replace('"', '""') for piece in pieces if any(map(str.isalnum, piece)))
    return " OR ".join(f'"{piece}"' for piece in doubled)
