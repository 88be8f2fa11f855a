"""Find rows by meaning and by words: both legs fused, the best reranked, and why each is there.

    score = meaning + (share ** 4 + standing) / 2 + LATE_WEIGHT * rerank / spread

Each leg tells of its candidates how far they stand out, so that no model's scale matters.
*meaning* is a softmax of the candidates' cosines, in units of *spread*: the standard deviation
of the query's cosine over the index. *share* is how much of what the query's words say a chunk
has, 0 to 1. *standing* is a softmax of their BM25, times the largest share: where no chunk has
much of the query, words tell little. *rerank* is added for the best rows only.
How this was chosen, and what it gives: docs/quality.md.
"""

import json
import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from time import perf_counter

import numpy as np
import numpy.typing as npt

from sqlembed import vectors
from sqlembed.engine.interface import Engine
from sqlembed.errors import TextTooLongError
from sqlembed.index import fresh, knn, words
from sqlembed.index.catalog import Index, check_watched
from sqlembed.index.embedding import Embedded
from sqlembed.index.knn import Hit
from sqlembed.plan import Plan, SqlValue, Statement

CANDIDATES = 50
"""Chunks that each leg proposes, or four times k if that is more."""
RERANKED = 20
"""Rows that are reranked, or k if that is more."""
MOST_RERANKED = 200
WORDS_WEIGHT = 0.5
"""Of share to its fourth power, and of standing."""
SOFTNESS = 2.0
"""BM25 that makes a chunk stand out e times more."""
LATE_WEIGHT = 0.03
"""Of late interaction, in spreads: on cosines, as it is one."""
CROSS_WEIGHT = 1.0
"""Of a cross-encoder's score, which is 0 to 1 for any model."""
SAMPLED = 256
"""Chunks that show the query's spread."""

# Not both in one: SQLite would read the whole table.
BOUNDS = "SELECT (SELECT min(chunk) FROM main.{0}), (SELECT max(chunk) FROM main.{0})"
SAMPLE = """
SELECT vec_distance_l2(vector, ?1) FROM main.{}
WHERE chunk IN (SELECT value FROM json_each(?2))"""
SPANS = """
SELECT key, start, stop, vec_distance_l2(vector, ?1) FROM main.{chunks}
WHERE chunk IN (SELECT value FROM json_each(?2)) AND {condition}"""

Query = npt.NDArray[np.float32]


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
    bm25: float = 0.0
    share: float = 0.0
    standing: float = 0.0
    meaning: float = 0.0
    rerank: float | None = None
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


@dataclass(frozen=True)
class Asked:
    """What is searched for, and how."""

    text: str
    vector: Query
    k: int
    reranked: int = RERANKED
    """Rows to rerank; 0 for none."""
    reranker: str | None = None
    """The model that reranks; None for a cross-encoder that is installed, else the index's own."""
    seconds: float | None = None
    """How long rows that wait may be embedded; None to bound their number alone."""

    @property
    def depth(self) -> int:
        """Chunks that each leg proposes."""
        return max(CANDIDATES, 4 * self.k)


@dataclass
class Answer:
    """Rows found, best first, and how that went."""

    found: list[Candidate]
    query: words.Query | None
    """The query's words; None if the index has none."""
    coverage: float = 1.0
    proposed: dict[str, int] = field(default_factory=dict)
    """Chunks by who proposed them: ``vectors``, ``words``, ``waiting``."""
    spread: float = 0.0
    """Standard deviation of the query's cosine over the index."""
    reranked: int = 0
    milliseconds: dict[str, float] = field(default_factory=dict)
    """By step, in their order."""


def search(
    engine: Engine,
    index: Index,
    asked: Asked,
    among: Collection[SqlValue] | None = None,
    bounds: tuple[float, float] = knn.UNBOUNDED,
) -> Plan[Answer]:
    """The *k* rows that answer best.

    :param among: ids that may be found; None for all. It applies before anything is cut.
    :param bounds: the lowest and the highest distance of a chunk, both included; likewise
    """
    yield from check_watched(index)
    answer, clock = Answer([], None), _Clock()
    keys: list[int] | None = None
    if among is not None:
        keys = yield from knn.keys_of(index, [value for value in among if value is not None])
    if index.words:
        answer.query = yield from words.read(engine, index, asked.text)
        answer.milliseconds["words of the query"] = clock.lap()
    waiting = yield from fresh.read(index, keys)
    order = _by_words(engine, index, answer.query, waiting.texts)
    embedded = fresh.embed(engine, index, order, asked.seconds)
    new, new_worded = _fresh(engine, index, asked, answer.query, embedded)
    answer.milliseconds["rows that wait"] = clock.lap()
    scope = knn.Scope(keys, waiting.current, bounds)
    worded = knn.within(new_worded, bounds)[: asked.depth]
    if answer.query is not None:
        worded += yield from _worded(index, asked, answer.query, scope)
        answer.milliseconds["words"] = clock.lap()
    near, present = yield from _candidates(index, asked, new, worded, scope)
    answer.spread = yield from _spread(index, asked.vector)
    answer.milliseconds["vectors"] = clock.lap()
    answer.proposed = {"vectors": len(near), "words": len(worded), "waiting": len(new)}
    _weigh_meaning(present, answer.spread)
    answer.query = yield from _weigh_words(engine, index, answer.query, present)
    for each in present:
        each.score = each.meaning + each.worded
    ranked = _best(present)
    answer.milliseconds["fusion"] = clock.lap()
    answer.found, answer.reranked = _reranked(engine, index, asked, ranked, answer.spread)
    if answer.reranked:
        answer.milliseconds["reranking"] = clock.lap()
    answer.coverage = yield from fresh.coverage(index, waiting, embedded)
    return answer


class _Clock:
    def __init__(self) -> None:
        self._since = perf_counter()

    def lap(self) -> float:
        """Milliseconds since the last lap."""
        now = perf_counter()
        passed, self._since = 1000 * (now - self._since), now
        return passed


def _by_words(
    engine: Engine, index: Index, query: words.Query | None, texts: dict[int, str]
) -> dict[int, str]:
    """*texts* with those first that have the query's words; else the newest stay first."""
    if query is None or not query.terms or not texts:
        return texts
    tokens = engine.words(list(texts.values()), index.words or "")
    fits = dict(zip(texts, map(query.bm25, tokens), strict=True))
    return {key: texts[key] for key in sorted(texts, key=lambda key: -fits[key])}


def _fresh(
    engine: Engine,
    index: Index,
    asked: Asked,
    query: words.Query | None,
    embedded: dict[int, list[Embedded]],
) -> tuple[list[Hit], list[Hit]]:
    """The chunks of rows that wait; and those of them with words of the query, best first."""
    parts = [(key, part) for key, parts in embedded.items() for part in parts]
    hits = [
        Hit(key, part.start, part.stop, knn.distance(asked.vector, part.vector))
        for key, part in parts
    ]
    if query is None or not query.terms:
        return hits, []
    tokens = engine.words([part.text for _, part in parts], index.words or "")
    fits = dict(zip(hits, map(query.bm25, tokens), strict=True))
    return hits, sorted((hit for hit in hits if fits[hit] > 0), key=lambda hit: -fits[hit])


def _worded(index: Index, asked: Asked, query: words.Query, scope: knn.Scope) -> Plan[list[Hit]]:
    """The stored chunks in *scope* that have most of the query's words."""
    vector = vectors.to_blob(asked.vector)
    near = None if scope.bounds == knn.UNBOUNDED else (vector, *scope.bounds)
    numbers = yield from words.find(index, query, asked.depth, scope.keys, near)
    if not numbers:
        return []
    sql = SPANS.format(chunks=index.chunk_table, condition=scope.current)
    return knn.hits_of((yield Statement(sql, (vector, json.dumps(numbers)))))


def _candidates(
    index: Index, asked: Asked, new: list[Hit], worded: list[Hit], scope: knn.Scope
) -> Plan[tuple[list[Hit], list[Candidate]]]:
    """The nearest chunks; and of these and *worded* those whose row is still there."""
    rows = asked.k
    while True:
        near, whole = yield from knn.near_chunks(
            index, asked.vector, (asked.depth, rows), new, scope
        )
        candidates = {hit[:3]: Candidate(hit, near=False) for hit in worded}
        candidates |= {hit[:3]: Candidate(hit, near=True) for hit in near}
        present = yield from _present(index, list(candidates.values()))
        if whole or len({each.hit.key for each in present}) >= asked.k:
            return near, present
        rows *= 4  # some of them are deleted


def _spread(index: Index, vector: Query) -> Plan[float]:
    """The standard deviation of the query's cosine with chunks evenly spread over the index."""
    ((first, last),) = yield Statement(BOUNDS.format(index.chunk_table))
    if not isinstance(first, int) or not isinstance(last, int):
        return 0.0
    count = min(SAMPLED, last - first + 1)
    numbers = [first + (last - first) * n // max(1, count - 1) for n in range(count)]
    sql = SAMPLE.format(index.chunk_table)
    rows = yield Statement(sql, (vectors.to_blob(vector), json.dumps(numbers)))
    squares = [float(str(l2)) ** 2 for (l2,) in rows]
    return float(np.std(squares)) / 2 if squares else 0.0  # |a - b|^2 = 2 (1 - cosine)


def _present(index: Index, candidates: list[Candidate]) -> Plan[list[Candidate]]:
    """Those whose row is still there, with its id and the chunk's text."""
    rows = yield from knn.present(index, [candidate.hit for candidate in candidates])
    known = {hit[:3]: (identity, text[hit.start : hit.stop]) for hit, identity, text in rows}
    found = [candidate for candidate in candidates if candidate.hit[:3] in known]
    for candidate in found:
        candidate.id, candidate.text = known[candidate.hit[:3]]
    return found


def _weigh_meaning(candidates: list[Candidate], spread: float) -> None:
    """How far each stands out by its cosine: in all 1."""
    cosines = [each.cosine for each in candidates]
    for each, share in zip(candidates, _softmax(cosines, spread), strict=True):
        each.meaning = share
    near = [each for each in candidates if each.near]
    for rank, each in enumerate(sorted(near, key=lambda each: each.hit.distance), 1):
        each.vector_rank = rank


def _weigh_words(
    engine: Engine, index: Index, query: words.Query | None, candidates: list[Candidate]
) -> Plan[words.Query | None]:
    """What the words of each are worth; returns the query with its misspelt words mended."""
    if query is None or not query.terms:
        return query
    split = engine.words([each.text for each in candidates], index.words or "")
    query = yield from words.mend(index, query, split)
    for each, tokens in zip(candidates, split, strict=True):
        each.bm25, each.share = query.bm25(tokens), query.share(tokens)
        each.matched = query.matched(tokens)
    worded = sorted((each for each in candidates if each.bm25 > 0), key=lambda each: -each.bm25)
    most = max((each.share for each in worded), default=0.0)
    shares = _softmax([each.bm25 for each in worded], SOFTNESS)
    for rank, (each, share) in enumerate(zip(worded, shares, strict=True), 1):
        each.standing, each.word_rank = most * share, rank
    return query


def _softmax(values: list[float], scale: float) -> list[float]:
    """Shares of 1, larger by e where a value is larger by *scale*; equal ones if that is 0."""
    if not values or not scale:
        return [1 / len(values) for _ in values]
    most = max(values)
    weights = [math.exp((value - most) / scale) for value in values]
    total = sum(weights)
    return [weight / total for weight in weights]


def _best(candidates: Iterable[Candidate]) -> list[Candidate]:
    """Each row once, by its best chunk, best first."""
    best: dict[int, Candidate] = {}
    for candidate in sorted(candidates, key=lambda each: (-each.score, each.hit)):
        best.setdefault(candidate.hit.key, candidate)
    return list(best.values())


def _reranked(
    engine: Engine, index: Index, asked: Asked, ranked: list[Candidate], spread: float
) -> tuple[list[Candidate], int]:
    """The *k* best, the first of *ranked* put in order by the reranker; and how many these were."""
    count = min(max(asked.reranked, asked.k), MOST_RERANKED) if asked.reranked else 0
    first, rest = ranked[:count], ranked[count:]
    if first:
        model, scores = _scores(engine, index, asked, [each.text for each in first])
        late = engine.is_embedder(model)
        weight = (LATE_WEIGHT / spread if spread else 1.0) if late else CROSS_WEIGHT
        for each, score in zip(first, scores, strict=True):
            each.rerank = score
            each.score += weight * score
        first.sort(key=lambda each: (-each.score, each.hit))
    return [*first, *rest][: asked.k], len(first)


def _scores(
    engine: Engine, index: Index, asked: Asked, texts: list[str]
) -> tuple[str, list[float]]:
    """The reranker, and its score of each text."""
    model = asked.reranker or engine.reranker(index.model)
    try:
        return model, engine.rerank(asked.text, texts, model)
    except TextTooLongError:  # a cross-encoder reads the query and a text together
        if asked.reranker:
            raise
    return index.model, engine.rerank(asked.text, texts, index.model)
