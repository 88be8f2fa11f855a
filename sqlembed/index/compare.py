"""Compare codes with a query: by ``compare.c`` where it was compiled, else by numpy.

C takes a quarter of numpy's time, and what takes longest it does on every core.
"""

import ctypes
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from sqlembed import settings

LIBRARY = Path(__file__).with_name("libcompare.so")
SCANNED = 16_384
"""Codes that numpy compares at once: what that needs stays in the processor's cache."""
SAMPLED = 1 << 15
"""About so many codes tell how far the nearest ones are apart from the query."""
PART_BYTES = 1 << 18
"""What another thread is worth: it takes as long to begin as to compare this much."""
_POINTER, _SIZE, _INT = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int

Number = TypeVar("Number", bound=np.generic)
Floats = npt.NDArray[np.float32]


class Parts(Generic[Number]):
    """Arrays in C's order that stay where they are; numpy takes long to tell where."""

    def __init__(
        self, arrays: Sequence[npt.NDArray[Number]], counts: npt.NDArray[np.int64]
    ) -> None:
        """Keep *arrays*, of so many codes each."""
        self.arrays = arrays
        self.counts = counts
        self._addresses = np.array([_at(array) for array in arrays], np.uintp)
        self.at, self.counts_at = _at(self._addresses), _at(counts)
        """Where C finds the arrays' addresses, and how many codes each has."""
        self.total = int(counts.sum())


@cache
def library() -> ctypes.CDLL | None:
    """What ``compare.c`` was compiled to; None where it was not, or for another machine."""
    try:
        found = ctypes.CDLL(str(LIBRARY))
        found.sqlembed_least  # noqa: B018  # what an older one has not
    except (OSError, AttributeError):
        return None
    found.sqlembed_apart.argtypes = [
        _POINTER, _POINTER, _SIZE, _SIZE, _POINTER, _POINTER, _POINTER, _INT,
    ]  # fmt: skip
    found.sqlembed_products.argtypes = [
        _POINTER, _POINTER, _SIZE, _POINTER, _SIZE, _POINTER, _POINTER, _POINTER, _INT,
    ]  # fmt: skip
    found.sqlembed_cosines.argtypes = [_POINTER, _SIZE, _SIZE, _POINTER, _POINTER, _INT]
    for each in (found.sqlembed_apart, found.sqlembed_products, found.sqlembed_cosines):
        each.restype = None
    found.sqlembed_least.argtypes = [_POINTER, _SIZE, _SIZE, _SIZE, _POINTER]
    found.sqlembed_least.restype = _SIZE
    return found


def apart(
    signs: Parts[np.uint64], query: npt.NDArray[np.uint64], large: npt.NDArray[np.uint64]
) -> npt.NDArray[np.uint16]:
    """In how many bits each code differs from *query*; those that are set in *large* count thrice.

    :param signs: of each block, of shape (words, its codes)
    :param query: of shape (words,), as *large*
    :returns: of shape (all codes,)
    """
    found = np.empty(signs.total, np.uint16)
    if compiled := library():
        where = (_at(query), _at(large), _at(found), _threads(signs.total * query.nbytes))
        compiled.sqlembed_apart(signs.at, signs.counts_at, signs.total, len(query), *where)
        return found
    ends = np.cumsum(signs.counts)[:-1]
    for each, part in zip(signs.arrays, np.split(found, ends), strict=True):
        for start in range(0, len(part), SCANNED):
            differ = each[:, start : start + SCANNED] ^ query[:, np.newaxis]
            some = part[start : start + SCANNED]
            np.bitwise_count(differ).sum(axis=0, dtype=np.uint16, out=some)
            differ &= large[:, np.newaxis]
            some += 2 * np.bitwise_count(differ).sum(axis=0, dtype=np.uint16)
    return found


def least(distances: npt.NDArray[np.uint16], wanted: int) -> npt.NDArray[np.int64]:
    """The places of about the *wanted* least *distances*, and of all that are as near.

    :param distances: what :func:`apart` gave, of at least one code
    :returns: ascending
    """
    step = 1 + len(distances) // SAMPLED
    before = min(wanted, len(distances) - 1) // step
    if compiled := library():
        found = np.empty(len(distances), np.int64)
        what = (_at(distances), len(distances), step, before)
        return found[: compiled.sqlembed_least(*what, _at(found))].copy()
    limit = np.partition(distances[::step], before)[before]
    return np.flatnonzero(distances <= limit)


def products(
    levels: Parts[np.uint8], places: npt.NDArray[np.int64], high: Floats, low: Floats
) -> Floats:
    """The sum of the levels of codes, times the query's weights for them.

    :param levels: of each block, two a byte, of shape (its codes, bytes)
    :param places: of the codes that are wanted, numbered through the blocks, ascending
    :param high: the weights of the higher ones, of shape (bytes,); *low* of the lower ones
    :returns: of the shape of *places*
    """
    found = np.empty(len(places), np.float32)
    places = np.ascontiguousarray(places, np.int64)
    if compiled := library():
        what = (levels.at, levels.counts_at, len(high), _at(places), len(places))
        where = (_at(high), _at(low), _at(found), _threads(len(places) * len(high)))
        compiled.sqlembed_products(*what, *where)
        return found
    ends = np.cumsum(levels.counts)
    starts = np.searchsorted(places, ends - levels.counts)
    for array, end, count, start in zip(levels.arrays, ends, levels.counts, starts, strict=True):
        stop = np.searchsorted(places, end)
        chosen = array[places[start:stop] - (end - count)]
        of_high = (chosen >> 4).astype(np.float32) @ high
        found[start:stop] = of_high + (chosen & 15).astype(np.float32) @ low
    return found


def cosines(vectors: Floats, query: Floats) -> Floats:
    """The product of each of *vectors*, of shape (n, dimension), with *query*.

    OpenBLAS's threads take longer to come to rest than these few take.
    """
    if not (compiled := library()):
        return vectors @ query
    found = np.empty(len(vectors), np.float32)
    what = (_at(vectors), len(vectors), len(query), _at(query))
    compiled.sqlembed_cosines(*what, _at(found), _threads(vectors.nbytes))
    return found


def _threads(size: int) -> int:
    """How many work on so many bytes."""
    return min(_most_threads(), 1 + size // PART_BYTES)


@cache
def _most_threads() -> int:
    return settings.threads()


def _at(array: npt.NDArray[Any]) -> int:
    if not array.flags.c_contiguous:
        raise ValueError("an array for C has to be in its order")
    return array.ctypes.data
