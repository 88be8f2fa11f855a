"""The words leg: chunks that share words with a query, and how much of the query they share.

An FTS5 table beside the vectors finds chunks; BM25 is computed here, by FTS5's formula, so that
texts which wait, and texts that only the vectors found, are measured alike. A word that no chunk
has may be misspelt: it counts as those of the candidates' words that are one mistake away.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from sqlembed.engine.interface import Engine, Span
from sqlembed.index.catalog import Index
from sqlembed.plan import Plan, Row, SqlValue, Statement

AVERAGES = "SELECT block FROM main.{}_data WHERE id = 1"
# How many chunks have a term, up to ?2; if there are so many, the number of the last of them.
COUNTS = """
SELECT
    (SELECT count(*) FROM (SELECT 1 FROM main.{words} WHERE {words} MATCH term.value LIMIT ?2)),
    (SELECT rowid FROM main.{words} WHERE {words} MATCH term.value LIMIT 1 OFFSET ?2 - 1),
    (SELECT max(chunk) FROM main.{chunks})
FROM json_each(?1) AS term ORDER BY term.key"""
FIND = """
SELECT rowid FROM main.{words} WHERE {words} MATCH ? {conditions}
ORDER BY bm25({words}), rowid LIMIT ?"""
# Not a plain rowid: FTS5 would look for the terms once for each of them.
AMONG = """
AND +rowid IN (SELECT chunk FROM main.{chunks} WHERE key IN (SELECT value FROM json_each(?)))"""
NEAR = """
AND (SELECT l2 * l2 / 2 BETWEEN ? AND ? FROM (
    SELECT vec_distance_l2(vector, ?) AS l2 FROM main.{chunks} WHERE chunk = {words}.rowid))"""

EDGES = re.compile(r"^\W+|\W+$")
"""What is around a piece of a query, as the mark of a question."""
CODE_DIGITS = 2
CODE_WEIGHT = 3
"""Measured: "who sent me 0871..." found its message at 0.93 in place of 0.25 (MRR)."""
MENDED_LETTERS = 4
"""Shorter words have too many others one mistake away."""
MOST_TERMS = 64
"""Terms of a query that are looked for, of a longer one those that say most. For 22 queries of some
pages (MRR of words alone): these 64 0.90, the first 32 0.74, the rarest 32 0.76; all 0.86, in three
times the time."""
MOST_COUNTED = 5000
"""Chunks with a term that are counted; if there are more, it is estimated how many."""
K1, B = 1.2, 0.75
LEAST_IDF = 1e-6
"""All three are FTS5's."""


@dataclass(frozen=True)
class Term:
    """A piece of a query up to the next white space: a word, or several as in ``0800-123``."""

    text: str
    tokens: tuple[str, ...]
    meant: tuple[str, ...] = ()
    """The words that count in its place, where no chunk has it."""

    @property
    def shown(self) -> str:
        """It as a person reads it: ``diner (as dinner)``."""
        return f"{self.text} (as {' or '.join(self.meant)})" if self.meant else self.text

    @property
    def weight(self) -> int:
        """How often it counts: numbers and codes say more than their rarity tells."""
        return CODE_WEIGHT if sum(map(str.isdigit, self.text)) >= CODE_DIGITS else 1

    @property
    def match(self) -> str:
        """It as an FTS5 query."""
        texts = self.meant or (self.text,)
        return " OR ".join('"' + text.replace('"', '""') + '"' for text in texts)

    @property
    def sequences(self) -> list[tuple[str, ...]]:
        """The tokens of which any, one after the other, is it."""
        return [(word,) for word in self.meant] or [self.tokens]

    def occurrences(self, tokens: Sequence[str]) -> int:
        """How often a text has it."""
        if self.meant:
            return sum(map(self.meant.__contains__, tokens))
        size = len(self.tokens)
        if size == 1 or self.tokens[0] not in tokens:
            return tokens.count(self.tokens[0])
        places = range(len(tokens) - size + 1)
        return sum(tuple(tokens[at : at + size]) == self.tokens for at in places)


class Weighed(NamedTuple):
    """A term, and what it says in an index."""

    term: Term
    idf: float
    """Inverse document frequency, times the term's weight."""
    chunks: int
    """How many have it."""


@dataclass(frozen=True)
class Query:
    """A query's terms, and how much each one says in this index."""

    terms: tuple[Weighed, ...]
    chunks: int
    """Of the index."""
    average: float
    """Tokens of a chunk."""

    @property
    def match(self) -> str:
        """Chunks with any of the terms, as an FTS5 query."""
        # A word of every second chunk tells nothing, and takes longest.
        telling = [
            term for term, idf, chunks in self.terms if chunks and idf > CODE_WEIGHT * LEAST_IDF
        ]
        terms = telling or [term for term, *_ in self.terms]
        # A term given three times counts three times in FTS5's bm25().
        return " OR ".join(term.match for term in terms for _ in range(term.weight))

    def bm25(self, tokens: Sequence[str]) -> float:
        """BM25 of a text, high is better; 0 if it has none of the terms."""
        length = 1 - B + B * len(tokens) / self.average if self.average else 1.0
        score = 0.0
        for term, idf, _ in self.terms:
            if frequency := term.occurrences(tokens):
                score += idf * frequency * (K1 + 1) / (frequency + K1 * length)
        return score

    def share(self, tokens: Sequence[str]) -> float:
        """How much of what all terms say those say that a text has, 0 to 1."""
        had = sum(idf for term, idf, _ in self.terms if term.occurrences(tokens))
        return had / total if (total := sum(idf for _, idf, _ in self.terms)) else 0.0

    def matched(self, tokens: Sequence[str]) -> list[str]:
        """The terms that a text has."""
        return [term.shown for term, *_ in self.terms if term.occurrences(tokens)]

    def marks(self, spans: Sequence[Span]) -> list[tuple[int, int]]:
        """Where a text has them, in characters, in order."""
        tokens = tuple(span.token for span in spans)
        found = {
            (spans[at].start, spans[at + size - 1].stop)
            for term, *_ in self.terms
            for wanted in term.sequences
            for size in [len(wanted)]
            for at in range(len(tokens) - size + 1)
            if tokens[at : at + size] == wanted
        }
        return sorted(found)


def read(engine: Engine, index: Index, text: str) -> Plan[Query]:
    """Take *text* apart, and look up how much each of its terms says in *index*."""
    terms = split(engine, text, index.words or "")
    chunks, tokens = averages((yield Statement(AVERAGES.format(index.word_table))))
    average = tokens / chunks if chunks else 0.0
    weighed = yield from _weigh(index, list(terms), chunks)
    # A term that no chunk has can find nothing.
    says = {each.term: terms[each.term] * each.idf * bool(each.chunks) for each in weighed}
    most = sorted(says, key=lambda term: -says[term])[:MOST_TERMS]
    return Query(tuple(each for each in weighed if each.term in most), chunks, average)


def mend(index: Index, query: Query, candidates: Iterable[Sequence[str]]) -> Plan[Query]:
    """*query*, its misspelt words read as words of the *candidates*."""
    known: set[str] = set()
    terms = [each.term for each in query.terms]
    for n, (term, _, chunks) in enumerate(query.terms):
        if not chunks and _may_be_misspelt(term):
            known = known or {token for tokens in candidates for token in tokens}
            if meant := _one_mistake_away(term.tokens[0], known):
                terms[n] = replace(term, meant=meant)
    if not any(term.meant for term in terms):
        return query
    return replace(query, terms=(yield from _weigh(index, terms, query.chunks)))


def _weigh(index: Index, terms: Sequence[Term], chunks: int) -> Plan[tuple[Weighed, ...]]:
    """How many of the index's *chunks* have each term, and what it says therefore."""
    listed = json.dumps([term.match for term in terms])
    sql = COUNTS.format(words=index.word_table, chunks=index.chunk_table)
    rows = yield Statement(sql, (listed, MOST_COUNTED))
    counts = [_estimate(*(int(str(number or 0)) for number in row)) for row in rows]
    return tuple(
        Weighed(term, term.weight * _idf(count, chunks), count)
        for term, count in zip(terms, counts, strict=True)
    )


def _may_be_misspelt(term: Term) -> bool:
    return len(term.tokens) == 1 and len(term.tokens[0]) >= MENDED_LETTERS and term.weight == 1


def _one_mistake_away(token: str, known: set[str]) -> tuple[str, ...]:
    """Those of *known* with one letter more, less, other, or swapped; none if it is known."""
    if token in known:  # of a row that waits, and that no count includes
        return ()
    from rapidfuzz import process  # here, since it takes 20 ms, and most words are spelt well
    from rapidfuzz.distance import OSA

    near = process.extract(token, known, scorer=OSA.distance, score_cutoff=1, limit=None)
    return tuple(sorted(word for word, *_ in near))


def split(engine: Engine, text: str, tokenizer: str) -> dict[Term, int]:
    """The terms of a query, and how often it has each."""
    # FTS5's queries end at a NUL.
    pieces = [EDGES.sub("", piece) for piece in text.replace("\0", " ").split()]
    found: dict[tuple[str, ...], str] = {}
    times = Counter[tuple[str, ...]]()
    for piece, tokens in zip(pieces, engine.words(pieces, tokenizer), strict=True):
        if tokens:
            found.setdefault(tuple(tokens), piece)
            times[tuple(tokens)] += 1
    return {Term(text, tokens): times[tokens] for tokens, text in found.items()}


def find(
    index: Index,
    query: Query,
    most: int,
    among: Iterable[int] | None,
    near: tuple[bytes, float, float] | None,
) -> Plan[list[int]]:
    """The numbers of the *most* chunks that fit best.

    :param among: the keys of rows that they must be of; None for all
    :param near: a vector, and the lowest and highest cosine distance from it; None for any
    """
    if not query.terms:
        return []
    conditions, values = "", list[SqlValue]()
    if among is not None:
        conditions += AMONG
        values.append(json.dumps(list(among)))
    if near is not None:
        vector, lowest, highest = near
        conditions += NEAR
        values += [lowest, highest, vector]
    sql = FIND.replace("{conditions}", conditions)
    sql = sql.format(words=index.word_table, chunks=index.chunk_table)
    rows = yield Statement(sql, (query.match, *values, most))
    return [int(str(number)) for (number,) in rows]


def averages(rows: Sequence[Row]) -> tuple[int, int]:
    """How many chunks and tokens an FTS5 table has, from its record of averages."""
    block = rows[0][0] if rows else b""
    numbers = list(_varints(block)) if isinstance(block, bytes) else []
    return (numbers[0], numbers[1]) if len(numbers) > 1 else (0, 0)


def _estimate(counted: int, last: int, highest: int) -> int:
    """How many chunks have a term of which *counted* were found up to the number *last*."""
    return counted * highest // last if last else counted


def _idf(count: int, chunks: int) -> float:
    ratio = (chunks - count + 0.5) / (count + 0.5)
    return max(LEAST_IDF, math.log(ratio)) if ratio > 0 else LEAST_IDF


def _varints(block: bytes) -> Iterable[int]:
    """SQLite's integers of one to nine bytes, seven bits in each but a ninth."""
    value = length = 0
    for byte in block:
        length += 1
        if length == 9:
            yield value << 8 | byte
        elif byte < 0x80:
            yield value << 7 | byte
        else:
            value = value << 7 | byte & 0x7F
            continue
        value = length = 0
