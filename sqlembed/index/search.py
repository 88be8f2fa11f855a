"""Find rows by meaning and by words: both legs fused, the best reranked, and why each is there.

    score = relevance + SHARE_WEIGHT * share ** 2 + STANDING_WEIGHT * standing

*relevance* is the reranker's score, or the cosine where nothing is reranked. *share* is how much
of what the query's words say the chunk has, 0 to 1. *standing* is how far its BM25 stands out
among the candidates, 0 to 1 for all together: a number or a name that one chunk alone has.
How this was chosen, and what it gives: docs/quality.md.
"""

import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from time import perf_counter

import numpy as np
import numpy.typing as npt

from sqlembed import vectors
from sqlembed.engine.interface import Engine
from sqlembed.index import fresh, knn, words
from sqlembed.index.catalog import Index, check_watched
from sqlembed.index.fresh import NOT_WAITING
from sqlembed.index.knn import Hit
from sqlembed.plan import Plan, SqlValue, Statement

CANDIDATES = 50
"""Chunks that each leg proposes, or four times k if that is more."""
RERANKED = 20
"""Rows that are reranked, or k if that is more."""
MOST_RERANKED = 200
SHARE_WEIGHT = 0.5
STANDING_WEIGHT = 0.5
SOFTNESS = 2.0
"""BM25 that makes a chunk stand out e times more."""

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
    rerank: float | None = None
    vector_rank: int | None = None
    word_rank: int | None = None

    @property
    def cosine(self) -> float:
        """Of the query and the chunk, -1 to 1."""
        return 1.0 - self.hit.distance

    @property
    def score(self) -> float:
        """What it is ranked by, high is better."""
        relevance = self.cosine if self.rerank is None else self.rerank
        return relevance + SHARE_WEIGHT * self.share**2 + STANDING_WEIGHT * self.standing


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


@dataclass
class Answer:
    """Rows found, best first, and how that went."""

    found: list[Candidate]
    query: words.Query | None
    """The query's words; None if the index has none."""
    coverage: float = 1.0
    proposed: dict[str, int] = field(default_factory=dict)
    """Chunks by who proposed them: ``vectors``, ``words``, ``waiting``."""
    reranked: int = 0
    milliseconds: dict[str, float] = field(default_factory=dict)
    """By step, in their order."""


def search(
    engine: Engine, index: Index, asked: Asked, among: Collection[SqlValue] | None = None
) -> Plan[Answer]:
    """The *k* rows that answer best.

    :param among: ids that may be found; None for all. It applies before anything is cut.
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
    new = [
        Hit(key, part.start, part.stop, knn.distance(asked.vector, part.vector))
        for key, parts in embedded.items()
        for part in parts
    ]
    answer.milliseconds["rows that wait"] = clock.lap()
    depth = max(CANDIDATES, 4 * asked.k)
    some_wait = bool(waiting.total)
    near, _ = yield from knn.stored_hits(index, asked.vector, depth, keys, some_wait)
    near = near[:depth]
    answer.milliseconds["vectors"] = clock.lap()
    worded: list[Hit] = []
    if answer.query is not None:
        numbers = yield from words.find(index, answer.query, depth, keys)
        worded = yield from _spans(index, asked.vector, numbers, some_wait)
        answer.milliseconds["words"] = clock.lap()
    answer.proposed = {"vectors": len(near), "words": len(worded), "waiting": len(new)}
    candidates = {hit[:3]: Candidate(hit, near=False) for hit in worded}
    candidates |= {hit[:3]: Candidate(hit, near=True) for hit in (*near, *new)}
    present = yield from _present(index, list(candidates.values()))
    _weigh(engine, index, answer.query, present)
    ranked = _best(present)
    answer.milliseconds["fusion"] = clock.lap()
    answer.found, answer.reranked = _reranked(engine, index, asked, ranked)
    if answer.reranked:
        answer.milliseconds["reranking"] = clock.lap()
    answer.coverage = yield from fresh.coverage(index, waiting.total, waiting.missed(embedded))
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


def _spans(index: Index, vector: Query, numbers: list[int], some_wait: bool) -> Plan[list[Hit]]:
    if not numbers:
        return []
    condition = NOT_WAITING.format(index.index_id) if some_wait else "true"
    sql = SPANS.format(chunks=index.chunk_table, condition=condition)
    chosen = "[" + ",".join(map(str, numbers)) + "]"
    return knn.hits_of((yield Statement(sql, (vectors.to_blob(vector), chosen))))


def _present(index: Index, candidates: list[Candidate]) -> Plan[list[Candidate]]:
    """Those whose row is still there, with its id and the chunk's text."""
    rows = yield from knn.present(index, [candidate.hit for candidate in candidates])
    known = {hit[:3]: (identity, text[hit.start : hit.stop]) for hit, identity, text in rows}
    found = [candidate for candidate in candidates if candidate.hit[:3] in known]
    for candidate in found:
        candidate.id, candidate.text = known[candidate.hit[:3]]
    return found


def _weigh(
    engine: Engine, index: Index, query: words.Query | None, candidates: list[Candidate]
) -> None:
    """Tell of each candidate what its words are worth."""
    if query is not None and query.terms:
        split = engine.words([each.text for each in candidates], index.words or "")
        for candidate, tokens in zip(candidates, split, strict=True):
            candidate.bm25 = query.bm25(tokens)
            candidate.share = query.share(tokens)
            candidate.matched = query.matched(tokens)
        worded = [each for each in candidates if each.bm25 > 0]
        most = max((each.bm25 for each in worded), default=0.0)
        total = sum(math.exp((each.bm25 - most) / SOFTNESS) for each in worded)
        for candidate in worded:
            candidate.standing = math.exp((candidate.bm25 - most) / SOFTNESS) / total
        for rank, candidate in enumerate(sorted(worded, key=lambda each: -each.bm25), 1):
            candidate.word_rank = rank
    near = [each for each in candidates if each.near]
    for rank, candidate in enumerate(sorted(near, key=lambda each: each.hit.distance), 1):
        candidate.vector_rank = rank


def _best(candidates: Iterable[Candidate]) -> list[Candidate]:
    """Each row once, by its best chunk, best first."""
    best: dict[int, Candidate] = {}
    for candidate in sorted(candidates, key=lambda each: (-each.score, each.hit)):
        best.setdefault(candidate.hit.key, candidate)
    return list(best.values())


def _reranked(
    engine: Engine, index: Index, asked: Asked, ranked: list[Candidate]
) -> tuple[list[Candidate], int]:
    """The *k* best, the first of *ranked* put in order by the reranker; and how many these were."""
    count = min(max(asked.reranked, asked.k), MOST_RERANKED) if asked.reranked else 0
    first, rest = ranked[:count], ranked[count:]
    if first:
        model = asked.reranker or engine.reranker(index.model)
        scores = engine.rerank(asked.text, [each.text for each in first], model)
        for candidate, score in zip(first, scores, strict=True):
            candidate.rerank = score
        first.sort(key=lambda each: (-each.score, each.hit))
    return [*first, *rest][: asked.k], len(first)
