"""Find rows by meaning and by words: both legs propose, fusion weighs, the best are reranked."""

import json
from collections.abc import Collection
from dataclasses import dataclass, field
from time import perf_counter

import numpy as np
import numpy.typing as npt

from sqlembed import vectors
from sqlembed.engine.interface import Engine
from sqlembed.errors import TextTooLongError
from sqlembed.index import fresh, fusion, knn, terms, words
from sqlembed.index import source as sources
from sqlembed.index.catalog import Index, check_watched
from sqlembed.index.embedding import Embedded
from sqlembed.index.fusion import Candidate
from sqlembed.index.knn import Hit
from sqlembed.plan import Plan, SqlValue, Statement

DEPTH = 50
"""Chunks that each leg proposes, or four times k if that is more."""
RERANKED = 20
"""Rows that are reranked, or k if that is more."""
MOST_RERANKED = 200
LATE_WEIGHT = 0.03
"""Of late interaction, in spreads: on cosines, as it is one."""
CROSS_WEIGHT = 1.0
"""Of a cross-encoder's score, which is 0 to 1 for any model."""

SPANS = """
SELECT chunk, key, start, stop, vec_distance_l2(vector, ?1) FROM main.{chunks}
WHERE chunk IN (SELECT value FROM json_each(?2)) AND {current} AND {there}"""


@dataclass(frozen=True)
class Asked:
    """What is searched for, and how."""

    text: str
    vector: npt.NDArray[np.float32]
    k: int
    reranked: int | None = None
    """Rows to rerank; 0 for none, None for RERANKED or k, if that is more."""
    reranker: str | None = None
    """The model that reranks; None for a cross-encoder that is installed, else the index's own."""
    seconds: float | None = None
    """How long rows that wait may be embedded; None to bound their number alone."""

    @property
    def scanning(self) -> float | None:
        """Seconds of these to look for the query's words among the rows that wait."""
        return None if self.seconds is None else self.seconds / 2

    @property
    def depth(self) -> int:
        """Chunks that each leg proposes."""
        return max(DEPTH, 4 * self.k)


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
    reranker: str = ""
    """The model that did it."""
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
    keys = yield from knn.keys_among(index, among)
    of_query = terms.split(engine, asked.text, index.words) if index.words else []
    waiting = yield from fresh.read(index, keys, of_query, asked.scanning)
    order = waiting.texts
    if index.words:
        unstored = _unstored(engine, index, waiting)
        answer.query = yield from words.read(index, of_query, unstored)
        answer.milliseconds["words of the query"] = clock.lap()
        order = _by_words(answer.query, waiting.texts)
    embedded = yield from fresh.embed(engine, index, order, asked.seconds)
    new, worded = _fresh(engine, index, asked, answer.query, embedded)
    answer.milliseconds["rows that wait"] = clock.lap()
    scope = knn.Scope(keys, waiting.current, bounds)
    worded = knn.chosen(knn.within(worded, bounds), asked.depth, asked.k)
    if answer.query is not None:
        worded += yield from _worded(index, asked, answer.query, scope)
        answer.milliseconds["words"] = clock.lap()
    near, present = yield from _candidates(index, asked, new, worded, scope)
    answer.spread = yield from fusion.spread(index, asked.vector, new)
    answer.milliseconds["vectors"] = clock.lap()
    answer.proposed = {"vectors": len(near), "words": len(worded), "waiting": len(new)}
    answer.query = yield from fusion.weigh(engine, index, answer.query, present, answer.spread)
    answer.milliseconds["fusion"] = clock.lap()
    _rerank(engine, index, asked, answer, fusion.best(present))
    if answer.reranked:
        answer.milliseconds["reranking"] = clock.lap()
    if answer.query is not None:
        for each in answer.found:
            each.marks = answer.query.marks(engine.word_spans(each.text, index.words or ""))
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


def _unstored(engine: Engine, index: Index, waiting: fresh.Waiting) -> words.Unstored:
    tokens = engine.words(list(waiting.texts.values()), index.words or "")
    return words.Unstored(tokens, waiting.total, waiting.counts)


def _by_words(query: words.Query, texts: dict[int, str]) -> dict[int, str]:
    """*texts* with those first that have the query's words; else they stay in their order."""
    if not query.terms:
        return texts
    fits = dict(zip(texts, map(query.bm25, query.unstored.texts), strict=True))
    return {key: texts[key] for key in sorted(texts, key=lambda key: -fits[key])}


def _fresh(
    engine: Engine,
    index: Index,
    asked: Asked,
    query: words.Query | None,
    embedded: dict[int, list[Embedded]],
) -> tuple[list[Hit], list[Hit]]:
    """The chunks of rows that wait; and those of them with words of the query, best first."""
    hits = knn.new_hits(asked.vector, embedded)
    if query is None or not query.terms:
        return hits, []
    texts = [part.text for parts in embedded.values() for part in parts]
    tokens = engine.words(texts, index.words or "")
    fits = dict(zip(hits, map(query.bm25, tokens), strict=True))
    return hits, sorted((hit for hit in hits if fits[hit] > 0), key=lambda hit: -fits[hit])


def _worded(index: Index, asked: Asked, query: words.Query, scope: knn.Scope) -> Plan[list[Hit]]:
    """The stored chunks in *scope* that have most of the query's words, best first.

    There are *k* rows among them, if so many have any.
    """
    vector, most = vectors.to_blob(asked.vector), asked.depth
    near = None if scope.bounds == knn.UNBOUNDED else (vector, *scope.bounds)
    there = sources.is_there(index.source, index.chunk_table, index.key_table)
    sql = SPANS.format(chunks=index.chunk_table, current=scope.current, there=there)
    while True:
        numbers = yield from words.find(index, query, most, scope.keys, near)
        rows = yield Statement(sql, (vector, json.dumps(numbers)))
        spans = knn.hits_of(index, (row[1:] for row in rows))
        found = {row[0]: hit for row, hit in zip(rows, spans, strict=True)}
        hits = [found[number] for number in numbers if number in found]
        if len(numbers) < most or len({hit.key for hit in hits}) >= asked.k:
            return knn.chosen(hits, asked.depth, asked.k)
        most *= 4  # chunks of the same rows, or of such as changed or went


def _candidates(
    index: Index, asked: Asked, new: list[Hit], worded: list[Hit], scope: knn.Scope
) -> Plan[tuple[list[Hit], list[Candidate]]]:
    """The nearest chunks; and of these and *worded* those whose row is still there."""
    rows = asked.k
    while True:
        near, whole = yield from knn.near_chunks(index, asked.vector, asked.depth, rows, new, scope)
        candidates = {hit[:3]: Candidate(hit, near=False) for hit in worded}
        candidates |= {hit[:3]: Candidate(hit, near=True) for hit in near}
        present = yield from _present(index, list(candidates.values()))
        if whole or len({each.hit.key for each in present}) >= asked.k:
            return near, present
        rows *= 4  # some of them are deleted


def _present(index: Index, candidates: list[Candidate]) -> Plan[list[Candidate]]:
    """Those whose row is still there, with its id and the chunk's text."""
    rows = yield from knn.present(index, [candidate.hit for candidate in candidates])
    known = {hit[:3]: (identity, text[hit.start : hit.stop]) for hit, identity, text in rows}
    found = [candidate for candidate in candidates if candidate.hit[:3] in known]
    for candidate in found:
        candidate.id, candidate.text = known[candidate.hit[:3]]
    return found


def _rerank(
    engine: Engine, index: Index, asked: Asked, answer: Answer, ranked: list[Candidate]
) -> None:
    """Put the first of *ranked* in order by the reranker, and keep the *k* best."""
    count = max(RERANKED, asked.k) if asked.reranked is None else asked.reranked
    count = min(count, MOST_RERANKED)
    first, rest = ranked[:count], ranked[count:]
    if first:
        answer.reranker, scores = _scores(engine, index, asked, [each.text for each in first])
        late = engine.is_embedder(answer.reranker)
        weight = (LATE_WEIGHT / answer.spread if answer.spread else 1.0) if late else CROSS_WEIGHT
        for each, score in zip(first, scores, strict=True):
            each.rerank, each.reranked = score, weight * score
            each.score += each.reranked
        first.sort(key=lambda each: (-each.score, each.hit))
    answer.found, answer.reranked = [*first, *rest][: asked.k], len(first)


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
