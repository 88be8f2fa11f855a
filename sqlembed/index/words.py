"""The words leg: chunks that share words with a query, and how much of the query they share.

An FTS5 table beside the vectors finds chunks; BM25 is computed here, by FTS5's formula, so that
texts which wait, and texts that only the vectors found, are measured alike. What waits counts in
how rare a word is, too. A word may be spelt otherwise than the query has it: see ``spelling.py``.
"""

import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple

from sqlembed.engine.interface import Span
from sqlembed.index import spelling
from sqlembed.index.catalog import Index
from sqlembed.index.terms import CODE_WEIGHT, OTHER_SPELLING, Term, occurrences
from sqlembed.plan import Plan, Row, SqlValue, Statement

AVERAGES = "SELECT block FROM main.{}_data WHERE id = 1"
# How many chunks have a term, up to ?2; if there are so many, the number of the last of them.
COUNTS = """
SELECT
    (SELECT count(*) FROM (SELECT 1 FROM main.{words} WHERE {words} MATCH term.value LIMIT ?2)),
    (SELECT rowid FROM main.{words} WHERE {words} MATCH term.value LIMIT 1 OFFSET ?2 - 1),
    (SELECT max(chunk) FROM main.{chunks})
FROM json_each(?1) AS term ORDER BY term.key"""
HAVE = """
SELECT value FROM json_each(?) WHERE EXISTS (
    SELECT 1 FROM main.{words} WHERE {words} MATCH '"' || replace(value, '"', '""') || '"'
)"""
FIND = """
SELECT rowid FROM main.{words} WHERE {words} MATCH ? {conditions}
ORDER BY bm25({words}), rowid LIMIT ?"""
# Not a plain rowid: FTS5 would look for the terms once for each of them.
AMONG = """
AND +rowid IN (SELECT chunk FROM main.{chunks} WHERE key IN (SELECT value FROM json_each(?)))"""
NEAR = """
AND (SELECT l2 * l2 / 2 BETWEEN ? AND ? FROM (
    SELECT vec_distance_l2(vector, ?) AS l2 FROM main.{chunks} WHERE chunk = {words}.rowid))"""

MENDED_LETTERS = 4
"""Shorter words have too many others one mistake away."""
MOST_TERMS = 64
"""Terms of a query that are looked for, of a longer one those that say most. For 22 queries of some
pages (MRR of words alone): these 64 0.90, the first 32 0.74, the rarest 32 0.76; all 0.86, in three
times the time."""
MOST_COUNTED = 5000
"""Chunks with a term that are counted; if there are more, it is estimated how many."""
CHUNK_TOKENS = 200
"""FTS5's tokens in a chunk of a long text, about: so many chunks it is before it is cut."""
K1, B = 1.2, 0.75
LEAST_IDF = 1e-6
"""All three are FTS5's."""


@dataclass(frozen=True)
class Unstored:
    """The words of what waits: of the texts that were read, and what is known of the others."""

    texts: Sequence[Sequence[str]] = ()
    """The tokens of each text."""
    rows: int = 0
    """How many rows wait."""
    counts: Mapping[spelling.Words, int] = field(default_factory=dict)
    """How many rows have a term's tokens, where more than these texts was looked at for it."""

    @property
    def chunks(self) -> int:
        """How many there will be."""
        chunks = sum(max(1, math.ceil(len(tokens) / CHUNK_TOKENS)) for tokens in self.texts)
        return round(chunks * self._scale)

    @property
    def tokens(self) -> int:
        """In all of them."""
        return round(sum(map(len, self.texts)) * self._scale)

    def having(self, term: Term) -> int:
        """How many rows have a term."""
        here = self.read_with(term)
        return max(here, self.counts.get(term.tokens, round(here * self._scale)))

    def read_with(self, term: Term) -> int:
        """How many of the texts have a term."""
        return len({n for sequence in term.sequences for n in self._with(sequence)})

    def _with(self, sequence: spelling.Words) -> Iterable[int]:
        """The numbers of the texts with these tokens, one after the other."""
        rarest = min((self._by_word[word] for word in sequence), key=len)
        if len(sequence) == 1:
            return rarest
        return (n for n in rarest if occurrences(sequence, self.texts[n]))

    @cached_property
    def _by_word(self) -> Mapping[str, Sequence[int]]:
        """The numbers of the texts that have each word; none for other words."""
        found = defaultdict[str, list[int]](list)
        for n, tokens in enumerate(self.texts):
            for word in set(tokens):
                found[word].append(n)
        return found

    @property
    def _scale(self) -> float:
        return self.rows / len(self.texts) if self.texts else 0.0


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
    unstored: Unstored
    """Counted in all of this."""

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
        had = sum(idf * term.presence(tokens) for term, idf, _ in self.terms)
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


def read(index: Index, terms: Sequence[Term], unstored: Unstored) -> Plan[Query]:
    """How much each of a query's *terms* says in *index*."""
    times = Counter(terms)
    chunks, tokens = averages((yield Statement(AVERAGES.format(index.word_table))))
    chunks, tokens = chunks + unstored.chunks, tokens + unstored.tokens
    average = tokens / chunks if chunks else 0.0
    spelt = yield from _spelt(index, terms, unstored)
    weighed = yield from _weigh(index, list(spelt.values()), chunks, unstored)
    # A term that no chunk has can find nothing.
    says = [
        times[term] * each.idf * bool(each.chunks)
        for term, each in zip(spelt, weighed, strict=True)
    ]
    most = sorted(range(len(says)), key=lambda n: -says[n])[:MOST_TERMS]
    return Query(tuple(weighed[n] for n in sorted(most)), chunks, average, unstored)


def _spelt(index: Index, terms: Sequence[Term], unstored: Unstored) -> Plan[dict[Term, Term]]:
    """Each of *terms* once, with the other spellings of numbers and codes that chunks have."""
    found = {term: term for term in terms}
    codes = {term: "".join(term.tokens) for term in found if term.weight > 1}
    if any(len(code) > len(term.text) for term, code in codes.items()):
        return found  # tokens that overlap, as trigrams do
    codes = dict(list(codes.items())[: spelling.MOST_CODES])
    together = spelling.together([term.tokens for term in terms])
    parts = {part for code in codes.values() for part in spelling.parts(code)}
    known = yield from _known(index, {*parts, *set().union(*together.values())}, unstored)
    apart = {term: spelling.apart(code, known) for term, code in codes.items()}
    typed = {" ".join(term.tokens) for term in terms}
    ways = {" ".join(way) for each in apart.values() for way in each}
    known |= yield from _known(index, typed | ways if ways or together else (), unstored)
    for term in found:
        words = [(word,) for word in sorted(together.get(term.tokens, ()))]
        also = [way for way in (*words, *apart.get(term, ())) if " ".join(way) in known]
        also = [way for way in also if way != term.tokens][: spelling.MOST_SPELLINGS]
        worth = OTHER_SPELLING if " ".join(term.tokens) in known else 1.0
        found[term] = replace(term, also=tuple(also), worth=worth)
    return found


def _known(index: Index, texts: Iterable[str], unstored: Unstored) -> Plan[set[str]]:
    """Those of *texts*, words in a row, that chunks or rows that wait have."""
    listed = sorted(texts)
    if not listed:
        return set()
    rows = yield Statement(HAVE.format(words=index.word_table), (json.dumps(listed),))
    known = {str(text) for (text,) in rows}
    words = {text: Term(text, tuple(text.split(" "))) for text in listed}
    return known | {text for text in listed if unstored.read_with(words[text])}


def mend(index: Index, query: Query, candidates: Iterable[Sequence[str]]) -> Plan[Query]:
    """*query*, its misspelt words read as words of the *candidates*."""
    known: set[str] = set()
    terms = [each.term for each in query.terms]
    for n, (term, _, chunks) in enumerate(query.terms):
        if not chunks and _may_be_misspelt(term):
            known = known or {token for tokens in candidates for token in tokens}
            # A known word that no count includes is the end of one that a chunk cuts.
            if term.tokens[0] not in known:
                near = spelling.near(term.tokens[0], known)
                terms[n] = replace(term, also=tuple((word,) for word in near))
    if terms == [each.term for each in query.terms]:
        return query
    weighed = yield from _weigh(index, terms, query.chunks, query.unstored)
    return replace(query, terms=weighed)


def _weigh(
    index: Index, terms: Sequence[Term], chunks: int, unstored: Unstored
) -> Plan[tuple[Weighed, ...]]:
    """How many of *chunks* have each term, and what it says therefore."""
    listed = json.dumps([term.match for term in terms])
    sql = COUNTS.format(words=index.word_table, chunks=index.chunk_table)
    rows = yield Statement(sql, (listed, MOST_COUNTED))
    counts = [
        _estimate(*(int(str(number or 0)) for number in row)) + unstored.having(term)
        for term, row in zip(terms, rows, strict=True)
    ]
    return tuple(
        Weighed(term, term.weight * idf(count, chunks), count)
        for term, count in zip(terms, counts, strict=True)
    )


def _may_be_misspelt(term: Term) -> bool:
    return len(term.tokens) == 1 and len(term.tokens[0]) >= MENDED_LETTERS and term.weight == 1


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


def idf(count: int, chunks: int) -> float:
    """What a term says that *count* of *chunks* have; by FTS5's formula."""
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
