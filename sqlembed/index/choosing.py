"""Which of very many rows that wait have a query's words: told by LIKE, before a text is read.

LIKE finds a word inside of others too, where it is not a short one, and no accent that the query
lacks. That is enough to choose: what is chosen is read, and compared as what is stored is.
"""

import json
import re
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from sqlembed.index import source as sources
from sqlembed.index import waiting
from sqlembed.index.catalog import Index
from sqlembed.index.spelling import Words
from sqlembed.index.terms import Term
from sqlembed.index.words import idf
from sqlembed.plan import Plan, Rows, Statement, StatementError

MOST_SCANNED = 1_000_000
"""Waiting rows that are looked at, the newest first."""
PAGE = 20_000
"""Rows that one statement looks at."""
MOST_TERMS = 12
"""Terms that are looked for: numbers and codes, then the longest words."""

PARTING = re.compile(r"(unicode61|ascii)\b(?!.*(separators|categories))", re.I)
"""Tokenizers that part words at whatever is no letter and no digit."""
MOST_SHORT = 2
"""Short words that are looked for where they stand apart, which takes long; of a query with more of
them, inside of other words too."""
SHORTEST = 2
"""Letters of words that are not looked for then, since they are inside of most texts."""
MOST_FAILED = 500
"""Rows of a page on which the expression fails; if there are more, it fails on most."""

# LIMIT -1: a row's expression is asked once, not once for each term. lower() though LIKE knows
# both cases: PRAGMA case_sensitive_like may have told it otherwise.
SCAN = """
SELECT had, count(*), group_concat(key) FROM (
    SELECT key, {had} AS had FROM (
        SELECT key, ' ' || lower(text) || ' ' AS text FROM ({texts}) LIMIT -1
    )
) WHERE had GROUP BY had"""


class Chosen(NamedTuple):
    """Rows that wait and have words of a query."""

    keys: list[int]
    """Those that have most of what the query says, first; of equal ones the newest."""
    counts: dict[Words, int]
    """How many of all that were looked at have a term, by its tokens."""


def choose(
    index: Index, terms: Sequence[Term], keys: list[int] | None, most: int, seconds: float | None
) -> Plan[Chosen]:
    """The *most* rows that wait and fit *terms* best, of those among *keys*, if given.

    :param seconds: after which no more rows are looked at; None for MOST_SCANNED alone
    """
    asked = _telling(index, terms)
    until = None if seconds is None else time.monotonic() + seconds
    fitting: dict[int, list[int]] = {}  # by the terms they have, a bit each
    numbers = Counter[int]()
    newest, scanned = waiting.Newest(index, PAGE, keys), 0
    while asked and scanned < MOST_SCANNED and (until is None or time.monotonic() < until):
        page = yield from newest.page()
        if not page:
            break
        scanned += len(page)
        place = {key: n for n, key in reversed([*enumerate(page)])}
        for had, number, listed in (yield from _scan(index, asked, page)):
            numbers[had] += number
            fit = fitting.setdefault(had, [])
            if len(fit) < most:
                fit += sorted(listed, key=place.__getitem__)[: most - len(fit)]
    counts = [sum(n for had, n in numbers.items() if had >> bit & 1) for bit in range(len(asked))]
    says = [term.weight * idf(n, scanned) for term, n in zip(asked, counts, strict=True)]

    def worth(had: int) -> float:
        return sum(value for bit, value in enumerate(says) if had >> bit & 1)

    best = sorted(fitting, key=worth, reverse=True)
    chosen = dict.fromkeys(key for had in best for key in fitting[had])
    by_tokens = dict(zip((term.tokens for term in asked), counts, strict=True))
    return Chosen(list(chosen)[:most], by_tokens)


def _telling(index: Index, terms: Sequence[Term]) -> dict[Term, str | None]:
    """The terms to look for; and of short ones the GLOB pattern that wants them to stand apart."""
    asked = sorted(dict.fromkeys(terms), key=lambda term: (-term.weight, -len(term.text)))
    if not PARTING.match(index.words or ""):
        return dict.fromkeys(asked[:MOST_TERMS])
    if sum(term.apart is not None for term in asked) <= MOST_SHORT:
        return {term: term.apart for term in asked[:MOST_TERMS]}
    others = [term for term in asked if len(term.text) > SHORTEST or not term.apart]
    return dict.fromkeys((others or asked)[:MOST_TERMS])


def _scan(
    index: Index, terms: Mapping[Term, str | None], keys: list[int]
) -> Plan[list[tuple[int, int, list[int]]]]:
    """Of the rows with these keys, by the terms they have: how many there are, and their keys.

    Those on which the expression fails are left out; if they are very many, others are, too.
    """
    patterns: list[str] = []
    tests = [_test(term, apart, patterns) for term, apart in terms.items()]
    had = " + ".join(f"({test} << {bit})" for bit, test in enumerate(tests))
    sql = SCAN.format(had=had, texts=sources.texts(index.source, index.key_table))
    found: Rows = []
    pages, failed = [keys], 0
    while pages and failed < MOST_FAILED:
        page = pages.pop()
        try:
            found += yield Statement(sql, (json.dumps(page), *patterns))
        except StatementError:  # the expression fails on some row: look at its neighbours
            middle = len(page) // 2
            pages += [page[middle:], page[:middle]] if middle else []
            failed += not middle
    return [
        (int(str(had)), int(str(number)), [int(key) for key in str(listed).split(",")])
        for had, number, listed in found
    ]


def _test(term: Term, apart: str | None, patterns: list[str]) -> str:
    """SQL that is 1 where ``text`` has a term, else 0; what is bound from ?2 on, to *patterns*."""

    def bound(pattern: str) -> str:
        patterns.append(pattern)
        return f"?{1 + len(patterns)}"

    test = " OR ".join(f"text LIKE lower({bound(pattern)})" for pattern in term.likes)
    if apart:
        # Not AND: SQLite may ask both sides of it, and GLOB takes three times as long.
        test = f"CASE WHEN {test} THEN text GLOB {bound(apart)} ELSE 0 END"
    return f"({test})"
