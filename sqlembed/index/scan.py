"""The chunks whose codes are nearest to a query: candidates, to be compared exactly.

First by the signs of all, then by the four bits of those that are likely. How many are likely
was measured on 117,000 glosses of WordNet, and on made vectors, which are more crowded.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from sqlembed.index import compare
from sqlembed.index.codes import Asked, Numbers, Together, Vectors

LEAST_LIKELY = 300
"""Codes of each frame that are chosen by their signs, at least;"""
LIKELY_SHARE = 1 / 200
"""of all, so many more;"""
LIKELY_EACH = 10
"""and for each chunk that is wanted."""
DOUBT = 2.0
"""Standard deviations of a level from what it stands for. More lay between the tenth nearest and
the last of its 70 candidates for 19 of 20 queries of a million made vectors."""
TIE = 1e-6
"""Cosines of equal vectors, computed beside different ones, may differ by so much."""


class Candidates(NamedTuple):
    """Chunks, nearest first by their codes."""

    chunks: Numbers
    cosines: Vectors
    """About."""
    whole: bool
    """Whether no other may be found."""
    doubt: float = 0.0
    """How far one that is not here may be nearer than its code says, as good as surely."""


def nearest(
    codes: Sequence[Together], query: Vectors, wanted: int, keys: Numbers | None = None
) -> Candidates:
    """The *wanted* chunks whose codes are nearest to *query*; more, if equal ones are beyond.

    :param query: float32 of shape (dimension,), unit length
    :param keys: of the rows that may be found; None for all
    """
    groups = [_Group(each, query, keys) for each in codes]
    count = sum(len(group) for group in groups)
    likely = int(LEAST_LIKELY + count * LIKELY_SHARE + LIKELY_EACH * wanted)
    found = [group.best(group.likely(likely), wanted) for group in groups]
    doubt = max((group.doubt for group in groups), default=0.0)
    return merged(found, wanted)._replace(whole=wanted >= count, doubt=doubt)


def within(
    codes: Sequence[Together], query: Vectors, least: float, keys: Numbers | None = None
) -> Candidates:
    """Every chunk whose cosine with *query* may be *least* or more."""
    found = []
    for each in codes:
        group = _Group(each, query, keys)
        cosines = group.cosines(group.places)
        places = group.places[cosines + each.error + TIE >= least]
        found.append(group.best(places, len(places)))
    return merged(found, sum(len(some.chunks) for some in found))


def best(chunks: Numbers, cosines: Vectors, wanted: int) -> Candidates:
    """The *wanted* of *chunks* with the highest *cosines*, and those that are equal to the last."""
    chosen = _best(cosines, wanted)
    return Candidates(chunks[chosen], cosines[chosen], len(chosen) == len(cosines))


def merged(parts: Sequence[Candidates], wanted: int) -> Candidates:
    """The best of several, each of which has the *wanted* best of its own."""
    if len(parts) == 1:
        return parts[0]
    chunks = np.concatenate([np.empty(0, np.int64), *(part.chunks for part in parts)])
    cosines = np.concatenate([np.empty(0, np.float32), *(part.cosines for part in parts)])
    found = best(chunks, cosines, wanted)
    return found._replace(
        whole=found.whole and all(part.whole for part in parts),
        doubt=max((part.doubt for part in parts), default=0.0),
    )


class _Group:
    """The codes of one frame, as a query sees them."""

    def __init__(self, codes: Together, query: Vectors, keys: Numbers | None) -> None:
        self._codes = codes
        self._asked = Asked(codes.frame, query)
        self.doubt = DOUBT * codes.frame.step / math.sqrt(12)
        self._among = None if keys is None else codes.among(keys)

    def __len__(self) -> int:
        return len(self._codes) if self._among is None else len(self._among)

    @property
    def places(self) -> Numbers:
        """Of those that may be found."""
        return np.arange(len(self)) if self._among is None else self._among

    def likely(self, wanted: int) -> Numbers:
        """The places of about the *wanted* that are least apart from the query, by their signs."""
        if 2 * wanted >= len(self):
            return self.places
        apart = self._asked.apart(self._codes)
        if self._among is None:
            return compare.least(apart, wanted)
        return self._among[compare.least(apart[self._among], wanted)]

    def cosines(self, places: Numbers) -> Vectors:
        """Of the codes at *places* with the query, about."""
        return self._asked.cosines(self._codes, places)

    def best(self, places: Numbers, wanted: int) -> Candidates:
        """The *wanted* of those at *places* with the highest cosines."""
        cosines = self.cosines(places)
        chosen = _best(cosines, wanted)
        chunks = self._codes.chunks(places[chosen])
        return Candidates(chunks, cosines[chosen], len(chosen) == len(self))


def _best(cosines: Vectors, wanted: int) -> Numbers:
    """Where the *wanted* highest are, highest first, and those that are equal to the last."""
    places = np.arange(len(cosines))
    if wanted < len(cosines):
        last = np.partition(cosines, len(cosines) - wanted)[len(cosines) - wanted]
        places = np.flatnonzero(cosines >= last - TIE)
    order = np.argsort(-cosines[places], kind="stable")
    return places[order][: 4 * wanted]
