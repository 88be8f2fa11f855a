"""What a candidate is worth: both legs' opinions of it, in units that need no model's scale.

    score = meaning + (share ** 4 + standing) / 2

*meaning* is a softmax of the candidates' cosines, in units of *spread*: the standard deviation
of the query's cosine over the index. *share* is how much of what the query's words say a chunk
has, 0 to 1. *standing* is a softmax of their BM25, times the largest share: where no chunk has
much of the query, words tell little. How this was chosen, and what it gives: docs/quality.md.
"""

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from sqlembed import vectors
from sqlembed.engine.interface import Engine
from sqlembed.index import words
from sqlembed.index.catalog import Index
from sqlembed.index.knn import Hit
from sqlembed.plan import Plan, SqlValue, Statement

WORDS_WEIGHT = 0.5
"""Of share to its fourth power, and of standing."""
SOFTNESS = 2.0
"""BM25 that makes a chunk stand out e times more."""
SAMPLED = 256
"""Chunks that show the query's spread."""

# Not both in one: SQLite would read the whole table.
NUMBERS = "SELECT (SELECT min(chunk) FROM main.{0}), (SELECT max(chunk) FROM main.{0})"
# Deletes leave holes among the numbers.
SAMPLE = """
SELECT vec_distance_l2(vector, ?1) FROM main.{0} WHERE chunk IN (
    SELECT (SELECT min(chunk) FROM main.{0} WHERE chunk >= value) FROM json_each(?2)
)"""


@dataclass
class Candidate:
    """A chunk that may be the answer, and all that is known of it."""

    hit: Hit
    near: bool
    """Whether the vectors proposed it."""
    id: SqlValue = None
    text: str = ""
    matched: list[str] = field(default_factory=list)
    """Terms of the query that it has."""
    marks: list[tuple[int, int]] = field(default_factory=list)
    """Where its text has them, in characters; of those that are found."""
    bm25: float = 0.0
    share: float = 0.0
    standing: float = 0.0
    meaning: float = 0.0
    rerank: float | None = None
    """The reranker's score."""
    reranked: float = 0.0
    """What that adds to its score."""
    score: float = 0.0
    """What it is ranked by, high is better; comparable within one search."""
    vector_rank: int | None = None
    word_rank: int | None = None

    @property
    def cosine(self) -> float:
        """Of the query and the chunk, -1 to 1."""
        return 1.0 - self.hit.distance

    @property
    def worded(self) -> float:
        """What its words add to its score."""
        return WORDS_WEIGHT * (self.share**4 + self.standing)


def spread(index: Index, query: npt.NDArray[np.float32], new: Iterable[Hit]) -> Plan[float]:
    """The standard deviation of the query's cosine over the index: stored chunks and *new* ones.

    The stored ones are a sample, evenly spread.
    """
    cosines = [1.0 - hit.distance for hit in new]
    ((first, last),) = yield Statement(NUMBERS.format(index.chunk_table))
    if isinstance(first, int) and isinstance(last, int):
        count = min(SAMPLED, last - first + 1)
        numbers = [first + (last - first) * n // max(1, count - 1) for n in range(count)]
        sql = SAMPLE.format(index.chunk_table)
        rows = yield Statement(sql, (vectors.to_blob(query), json.dumps(numbers)))
        cosines += [1.0 - float(str(l2)) ** 2 / 2 for (l2,) in rows]
    return float(np.std(cosines)) if cosines else 0.0


def weigh(
    engine: Engine,
    index: Index,
    query: words.Query | None,
    candidates: list[Candidate],
    of_query: float,
) -> Plan[words.Query | None]:
    """Give every candidate its score.

    :param of_query: the spread of the query
    :returns: the query with its misspelt words mended
    """
    _weigh_meaning(candidates, of_query)
    if query is not None and query.terms:
        split = engine.words([each.text for each in candidates], index.words or "")
        query = yield from words.mend(index, query, split)
        _weigh_words(query, candidates, split)
    for each in candidates:
        each.score = each.meaning + each.worded
    return query


def best(candidates: Iterable[Candidate]) -> list[Candidate]:
    """Each row once, by its best chunk, best first."""
    found: dict[int, Candidate] = {}
    for candidate in sorted(candidates, key=lambda each: (-each.score, each.hit)):
        found.setdefault(candidate.hit.key, candidate)
    return list(found.values())


def _weigh_meaning(candidates: list[Candidate], of_query: float) -> None:
    """How far each stands out by its cosine: in all 1."""
    cosines = [each.cosine for each in candidates]
    for each, share in zip(candidates, _softmax(cosines, of_query), strict=True):
        each.meaning = share
    near = [each for each in candidates if each.near]
    for rank, each in enumerate(sorted(near, key=lambda each: each.hit.distance), 1):
        each.vector_rank = rank


def _weigh_words(
    query: words.Query, candidates: list[Candidate], split: Sequence[Sequence[str]]
) -> None:
    for each, tokens in zip(candidates, split, strict=True):
        each.bm25, each.share = query.bm25(tokens), query.share(tokens)
        each.matched = query.matched(tokens)
    worded = sorted((each for each in candidates if each.bm25 > 0), key=lambda each: -each.bm25)
    most = max((each.share for each in worded), default=0.0)
    shares = _softmax([each.bm25 for each in worded], SOFTNESS)
    for rank, (each, share) in enumerate(zip(worded, shares, strict=True), 1):
        each.standing, each.word_rank = most * share, rank


def _softmax(values: Sequence[float], scale: float) -> list[float]:
    """Shares of 1, larger by e where a value is larger by *scale*; equal ones if that is 0."""
    if not values or not scale:
        return [1 / len(values) for _ in values]
    most = max(values)
    weights = [math.exp((value - most) / scale) for value in values]
    total = sum(weights)
    return [weight / total for weight in weights]
