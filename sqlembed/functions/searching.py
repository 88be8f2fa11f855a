"""SQL: the best answers, by meaning and by words. ``search``, ``more_like``, ``search_explain``."""

import json
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from sqlembed import vectors
from sqlembed.engine.interface import Engine
from sqlembed.errors import InputError, OptionError
from sqlembed.functions.neighbours import count_argument, query_vector
from sqlembed.functions.registry import Function, Restriction, Table, described, text_argument
from sqlembed.index import catalog, fresh, knn, search, snippet
from sqlembed.index import source as sources
from sqlembed.index.catalog import Index
from sqlembed.index.embedding import embed_rows, ready
from sqlembed.index.fusion import Candidate
from sqlembed.index.options import read, whole_number
from sqlembed.index.search import Answer, Asked
from sqlembed.plan import Plan, Row, SqlValue

COLUMNS = (
    "rank", "id", "score", "text", "start", "stop", "snippet",
    "distance", "vector_rank", "meaning", "bm25", "word_rank", "share", "standing", "rerank",
    "coverage",
)  # fmt: skip
OPTIONS = ("rerank", "reranker", "wait")
EXAMPLE = '{"rerank": 20}'


def find(engine: Engine, restriction: Restriction, *arguments: SqlValue) -> Plan[Iterable[Row]]:
    """``search(index, query [, k [, options]])``: the *k* best rows, best first.

    Columns: rank from 1, id, score, text, start, stop and a snippet of the best chunk; and what
    made the score. ``id IN (...)`` and bounds on distance restrict the chunks before anything
    else. Without *k*, LIMIT takes its place. *options* is a JSON object: ``rerank`` (rows to
    rerank, 0 for none), ``reranker`` (a model), ``wait`` (milliseconds to spend on rows without
    vectors).
    """
    searched = yield from _searched(engine, restriction, "search()", *arguments)
    if searched is None:
        return []
    _, _, answer = searched
    return [_row(rank, each, answer) for rank, each in enumerate(answer.found, 1)]


def explain(engine: Engine, restriction: Restriction, *arguments: SqlValue) -> Plan[Iterable[Row]]:
    """``search_explain(index, query [, k [, options]])``: how ``search`` finds, in words.

    Columns: step and detail, a row a step and then a row for each result; milliseconds of a
    step; id and distance of a result. Conditions on these two restrict what is searched.
    """
    searched = yield from _searched(engine, restriction, "search_explain()", *arguments)
    if searched is None:
        return []
    index, asked, answer = searched
    # A step has neither id nor distance, and so meets no condition on them.
    restricted = restriction.among is not None or restriction.bounds != knn.UNBOUNDED
    return [*([] if restricted else _steps(index, asked, answer)), *_reasons(answer)]


def _searched(
    engine: Engine,
    restriction: Restriction,
    who: str,
    index: SqlValue,
    query: SqlValue,
    k: SqlValue,
    options: SqlValue,
) -> Plan[tuple[Index, Asked, Answer] | None]:
    """The search that was asked for; None where the index or the query is NULL."""
    if index is None or query is None:
        return None
    chosen = yield from catalog.find(text_argument(index, f"{who}'s index"))
    wanted = count_argument(k, restriction.limit)
    asked = yield from _asked(engine, who, chosen, query, wanted, options)
    answer = yield from search.search(engine, chosen, asked, restriction.among, restriction.bounds)
    return chosen, asked, answer


def _asked(
    engine: Engine, who: str, index: Index, query: SqlValue, k: int, options: SqlValue
) -> Plan[Asked]:
    if isinstance(query, bytes):
        raise InputError(
            f"{who}'s query is a text; got {described(query)}; a vector has no words: give it to"
            " knn()"
        )
    text = text_argument(query, f"{who}'s query")
    asked = Asked(text, (yield from query_vector(engine, who, index, text)), k)
    if options is None:
        return asked
    given = read(text_argument(options, f"{who}'s options"), OPTIONS, EXAMPLE)
    if (rerank := given.get("rerank")) is not None:
        asked = replace(asked, reranked=_number("rerank", rerank, search.MOST_RERANKED))
    if (wait := given.get("wait")) is not None:
        asked = replace(asked, seconds=_number("wait", wait, 3_600_000) / 1000)
    if (reranker := given.get("reranker")) is not None:
        if not isinstance(reranker, str):
            raise OptionError(f"option reranker is a model's name; got {json.dumps(reranker)}")
        asked = replace(asked, reranker=reranker)
    return asked


def _number(name: str, value: Any, most: int) -> int:
    if not 0 <= whole_number(name, value) <= most:
        raise OptionError(f"option {name} is a whole number from 0 to {most}; got {value}")
    return int(value)


def _row(rank: int, found: Candidate, answer: Answer) -> Row:
    hit = found.hit
    worded = found.bm25 > 0
    return (
        rank, found.id, found.score, found.text, hit.start, hit.stop,
        snippet.snippet(found.text, found.marks),
        hit.distance, found.vector_rank, found.meaning,
        found.bm25 if worded else None, found.word_rank,
        found.share, found.standing, found.rerank, answer.coverage,
    )  # fmt: skip


def _steps(index: Index, asked: Asked, answer: Answer) -> list[Row]:
    proposed, spent = answer.proposed, answer.milliseconds
    details = {"rows that wait": _waiting(proposed["waiting"], answer.coverage)}
    if answer.query is not None:
        terms = ", ".join(f"{term.shown} in {chunks:,}" for term, _, chunks in answer.query.terms)
        details["words of the query"] = f"of {answer.query.chunks:,} chunks: {terms or 'none'}"
        details["words"] = f"{proposed['words']} chunks with most of these words (bm25)"
    details["vectors"] = f"{proposed['vectors']} nearest chunks, by {index.model}"
    details["fusion"] = (
        "score = meaning + (share^4 + standing) / 2; a cosine stands out by"
        f" {answer.spread:.3f}, the query's spread over the index"
    )
    details["reranking"] = f"the {answer.reranked} best rows, by {answer.reranker}, added to it"
    return [(step, details[step], round(spent[step], 1), None, None) for step in spent]


def _waiting(chunks: int, coverage: float) -> str:
    if coverage == 1.0:
        return f"{chunks} chunks of rows written since the last flush; nothing is left out"
    return f"{chunks} chunks of rows written since the last flush; {coverage:.0%} was searched"


def _reasons(answer: Answer) -> list[Row]:
    rows: list[Row] = []
    for rank, each in enumerate(answer.found, 1):
        made = f"meaning {each.meaning:.2f} (cosine {each.cosine:.2f})"
        if each.matched:
            made += f" + words {each.worded:.2f}"
            made += f" (has {', '.join(each.matched)}: share {each.share:.2f},"
            made += f" standing {each.standing:.2f})"
        if each.rerank is not None:
            made += f" + rerank {each.reranked:.2f} (score {each.rerank:.2f})"
        places = [
            f"{which} {place}"
            for which, place in (("vectors", each.vector_rank), ("words", each.word_rank))
            if place is not None
        ]
        what = f"id {each.id!r}: {each.score:.2f} = {made}; place by {', by '.join(places)}"
        rows.append((f"rank {rank}", what, None, each.id, each.hit.distance))
    return rows


def more_like(
    engine: Engine, restriction: Restriction, index: SqlValue, id: SqlValue, k: SqlValue
) -> Plan[Iterable[Row]]:
    """``more_like(index, id [, k])``: the rows nearest to a row of the index, without itself.

    Columns as those of ``knn``. A row of several chunks is compared by their mean.
    """
    if index is None or id is None:
        return []
    wanted = count_argument(k, restriction.limit)
    found = yield from catalog.find(text_argument(index, "more_like()'s index"))
    yield from catalog.check_watched(found)
    own_id, vector = yield from _centroid(engine, found, id)
    near = yield from knn.nearest(
        engine, found, vector, wanted + 1, restriction.among, restriction.bounds
    )
    return [each for each in near if each.id != own_id][:wanted]


def _centroid(
    engine: Engine, index: Index, id: SqlValue
) -> Plan[tuple[SqlValue, "npt.NDArray[np.float32]"]]:
    """The id of a row as its table has it, and the mean of its chunks."""
    keys = yield from knn.keys_of(index, [id])
    encoding = yield from sources.text_encoding()
    found = yield from sources.read_rows(index.source, index.key_table, keys, encoding)
    for key, reason in found.failed.items():
        raise InputError(f"the expression of index {index.name} fails on row {key}: {reason}")
    if not found.rows:
        raise InputError(f"index {index.name} has no row whose id is {described(id)}")
    ((key, (own_id, text)),) = found.rows.items()
    waiting = yield from fresh.read(index, keys)
    own = [] if waiting.total else (yield from knn.vectors_of(index, keys))
    if text is not None and not own:
        yield from ready(engine, index)
        embedded = embed_rows(engine, index, {key: text})
        own = [part.vector for part in embedded[key]]
    if not own:
        raise InputError(f"the row of index {index.name} whose id is {described(id)} has no text")
    return own_id, vectors.centroid(own)


FUNCTIONS: tuple[Function, ...] = (
    Table(
        "search", COLUMNS, find, parameters=("index_name", "query", "k", "options"), least=2,
        restricted="id", bounded="distance", ordered="rank",
    ),
    Table(
        "search_explain", ("step", "detail", "milliseconds", "id", "distance"), explain,
        parameters=("index_name", "query", "k", "options"), least=2,
        restricted="id", bounded="distance",
    ),
    Table(
        "more_like", ("id", "distance", "text", "start", "stop", "coverage"), more_like,
        parameters=("index_name", "row_id", "k"), least=2,
        restricted="id", bounded="distance", ordered="distance",
    ),
)  # fmt: skip
