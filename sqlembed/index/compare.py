"""Compare codes with a query: by ``compare.c`` where it was compiled, else by numpy.

C takes a quarter of numpy's time, and numpy's many short steps gain nothing from more threads.
"""

import ctypes
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt

LIBRARY = Path(__file__).with_name("libcompare.so")
SCANNED = 16_384
"""Codes that numpy compares at once: what that needs stays in the processor's cache."""
_POINTER, _SIZE = ctypes.c_void_p, ctypes.c_size_t

Number = TypeVar("Number", bound=np.generic)


class Fixed(Generic[Number]):
    """An array in C's order that stays where it is; numpy takes long to tell where."""

    def __init__(self, array: npt.NDArray[Number]) -> None:
        """Keep *array*."""
        assert array.flags.c_contiguous
        self.array = array
        self.at = array.ctypes.data
        """Its address."""


@cache
def library() -> ctypes.CDLL | None:
    """What ``compare.c`` was compiled to; None where it was not, or for another machine."""
    try:
        found = ctypes.CDLL(str(LIBRARY))
    except OSError:
        return None
    pointers = [_POINTER] * 3
    found.sqlembed_apart.argtypes = [_POINTER, _POINTER, _SIZE, _SIZE, *pointers]
    found.sqlembed_products.argtypes = [_POINTER, _SIZE, _SIZE, *pointers]
    found.sqlembed_apart.restype = found.sqlembed_products.restype = None
    return found


def apart(
    signs: Sequence[Fixed[np.uint64]],
    query: npt.NDArray[np.uint64],
    large: npt.NDArray[np.uint64],
) -> npt.NDArray[np.uint16]:
    """In how many bits each code differs from *query*; those that are set in *large* count thrice.

    :param signs: of each block, of shape (words, its codes)
    :param query: of shape (words,), as *large*
    :returns: of shape (all codes,)
    """
    counts = np.array([each.array.shape[1] for each in signs], np.int64)
    found = np.empty(int(counts.sum()), np.uint16)
    if compiled := library():
        blocks = np.array([each.at for each in signs], np.uintp)
        where = (_at(query), _at(large), _at(found))
        compiled.sqlembed_apart(_at(blocks), _at(counts), len(signs), len(query), *where)
        return found
    for each, part in zip(signs, np.split(found, np.cumsum(counts)[:-1]), strict=True):
        for start in range(0, len(part), SCANNED):
            differ = each.array[:, start : start + SCANNED] ^ query[:, np.newaxis]
            some = part[start : start + SCANNED]
            np.bitwise_count(differ).sum(axis=0, dtype=np.uint16, out=some)
            differ &= large[:, np.newaxis]
            some += 2 * np.bitwise_count(differ).sum(axis=0, dtype=np.uint16)
    return found


def products(
    levels: Sequence[Fixed[np.uint8]],
    blocks: npt.NDArray[np.int64],
    places: npt.NDArray[np.int64],
    high: npt.NDArray[np.float32],
    low: npt.NDArray[np.float32],
) -> npt.NDArray[np.float32]:
    """The sum of the levels of codes, times the query's weights for them.

    :param levels: of each block, two a byte, of shape (its codes, bytes)
    :param blocks: the block of each code that is wanted; *places* where it is in there
    :param high: the weights of the higher ones, of shape (bytes,); *low* of the lower ones
    :returns: of the shape of *places*
    """
    found = np.empty(len(places), np.float32)
    if compiled := library():
        begins = np.array([each.at for each in levels], np.int64)
        codes = begins[blocks] + places * len(high)
        where = (_at(high), _at(low), _at(found))
        compiled.sqlembed_products(_at(codes), len(high), len(codes), *where)
        return found
    for block in np.unique(blocks):
        of_block = blocks == block
        chosen = levels[block].array[places[of_block]]
        of_high = (chosen >> 4).astype(np.float32) @ high
        found[of_block] = of_high + (chosen & 15).astype(np.float32) @ low
    return found


def _at(array: npt.NDArray[Any]) -> int:
    assert array.flags.c_contiguous
    return array.ctypes.data
