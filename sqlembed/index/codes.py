"""Codes of vectors, and how near they are to a query: what chooses candidates in a large index.

A component has four bits, of its distance from the centre of the vectors; and its sign stands once
more by itself. So most vectors are ruled out by how many signs they share with the query, which is
a count of bits, and the best of the others by the four bits. What is left is compared exactly.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from sqlembed.index import compare

Vectors: TypeAlias = npt.NDArray[np.float32]
Numbers: TypeAlias = npt.NDArray[np.int64]

LEVELS = 16
REACH = 3.0
"""The outermost level lies at so many times the root mean square distance from the centre."""
LARGE_SHARE = 3
"""A sign counts three times in this part of the components, where the query is farthest from the
centre. So a third as many codes have to be looked at again, of 200,000, for the same recall."""
WORD_BITS = 64
_HEAD = struct.Struct("<IIfIfI")


@dataclass(frozen=True, eq=False)
class Frame:
    """What codes are relative to. Those of one frame can be put together."""

    centre: Vectors
    """Float32 of shape (dimension,)."""
    step: float
    """Between two levels."""
    made_of: int
    """How many chunks the index had when the frame was made."""

    @staticmethod
    def of(vectors: Vectors, made_of: int = 0) -> "Frame":
        """The one that suits *vectors* best, at least one."""
        centre = vectors.mean(axis=0, dtype=np.float64).astype("<f4")
        spread = float(np.sqrt(np.mean((vectors - centre) ** 2, dtype=np.float64)))
        # Of a single vector, or many equal ones, everything is at the centre.
        step = float(np.float32(2 * REACH * max(spread, 1e-6) / LEVELS))
        return _frame(centre.tobytes(), step, made_of)


@lru_cache(maxsize=256)
def _frame(centre: bytes, step: float, made_of: int) -> Frame:
    """The same object for the same frame."""
    return Frame(np.frombuffer(centre, "<f4"), step, made_of)


@dataclass(frozen=True)
class Codes:
    """Codes of n chunks, in the order of their numbers."""

    frame: Frame
    chunks: Numbers
    """Int64 of shape (n,), ascending."""
    keys: Numbers
    """Of the chunks' rows; int64 of shape (n,)."""
    signs: npt.NDArray[np.uint64]
    """A bit a component, set where it is not below the centre; of shape (words, n)."""
    levels: npt.NDArray[np.uint8]
    """Two components a byte, the first of them high; of shape (n, ceil(dimension / 2))."""
    error: float
    """The largest distance of a vector from what its code stands for."""

    @classmethod
    def of(cls, frame: Frame, chunks: Numbers, keys: Numbers, vectors: Vectors) -> "Codes":
        """The codes of *vectors*, of shape (n, dimension)."""
        apart = vectors - frame.centre
        levels = np.clip(np.floor(apart / np.float32(frame.step)) + LEVELS // 2, 0, LEVELS - 1)
        apart -= (levels - (LEVELS - 1) / 2) * np.float32(frame.step)
        error = float(np.sqrt(np.square(apart).sum(axis=1).max(initial=0.0)))
        signs = _signs(levels >= LEVELS // 2)
        bytes_ = levels.astype(np.uint8)
        if bytes_.shape[1] % 2:
            bytes_ = np.pad(bytes_, ((0, 0), (0, 1)))
        return cls(
            frame,
            np.ascontiguousarray(chunks, "<i8"),
            np.ascontiguousarray(keys, "<i8"),
            signs,
            np.ascontiguousarray(bytes_[:, ::2] << 4 | bytes_[:, 1::2]),
            error,
        )

    @classmethod
    def from_bytes(cls, content: bytes) -> "Codes":
        """What :meth:`to_bytes` wrote.

        :raises ValueError: it is something else
        """
        count, dimension, frame, error = _head(content)
        if not count or not dimension or len(content) != size(count, dimension):
            raise ValueError(
                f"{len(content)} bytes are not {count} codes of {dimension} dimensions"
            )
        at = frame_bytes(dimension)

        def read(kind: str, number: int) -> npt.NDArray[Any]:
            nonlocal at
            array = np.frombuffer(content, kind, number, at)
            at += array.nbytes
            return array

        chunks, keys = read("<i8", count), read("<i8", count)
        signs = read("<u8", count * _words(dimension)).reshape(-1, count)
        levels = read("u1", count * _half(dimension)).reshape(count, -1)
        return cls(frame, chunks, keys, signs, levels, error)

    def to_bytes(self) -> bytes:
        """As it is stored; when it is read, nothing of it is copied."""
        centre = self.frame.centre
        parts = [
            _HEAD.pack(len(self), len(centre), self.frame.step, self.frame.made_of, self.error, 0),
            np.pad(centre, (0, len(centre) % 2)).tobytes(),
            *(part.tobytes() for part in (self.chunks, self.keys, self.signs, self.levels)),
        ]
        return b"".join(parts)

    def __len__(self) -> int:
        return len(self.chunks)

    @cached_property
    def nbytes(self) -> int:
        """Memory that they take."""
        return size(len(self), len(self.frame.centre))

    def some(self, which: npt.NDArray[np.generic]) -> "Codes":
        """Those chosen by a mask or by their places."""
        return Codes(
            self.frame,
            self.chunks[which],
            self.keys[which],
            np.ascontiguousarray(self.signs[:, which]),
            self.levels[which],
            self.error,
        )


class Together:
    """Codes of one frame in several blocks, numbered through, as a query is compared with them."""

    def __init__(self, blocks: Sequence[Codes]) -> None:
        """Take *blocks* together, at least one."""
        self.blocks = blocks
        self.frame = blocks[0].frame
        self.error = max(block.error for block in blocks)
        counts = np.array([len(block) for block in blocks], np.int64)
        self.ends: Numbers = np.cumsum(counts)
        """The place behind the last code of each block."""
        self.signs = compare.Parts([block.signs for block in blocks], counts)
        self.levels = compare.Parts([block.levels for block in blocks], counts)

    def __len__(self) -> int:
        return self.signs.total

    def chunks(self, places: Numbers) -> Numbers:
        """The chunks whose codes are at *places*."""
        which = np.searchsorted(self.ends, places, side="right")
        from_end = (places - self.ends[which]).tolist()
        return np.array(
            [
                self.blocks[block].chunks.item(place)
                for block, place in zip(which.tolist(), from_end, strict=True)
            ],
            np.int64,
        )

    def among(self, keys: Numbers) -> Numbers:
        """The places of codes of rows with these *keys*."""
        return among(np.concatenate([each.keys for each in self.blocks]), keys)


def among(of_chunks: Numbers, keys: Numbers) -> Numbers:
    """Where *of_chunks*, the keys of chunks, are any of *keys*."""
    return np.flatnonzero(np.isin(of_chunks, keys))


def together(blocks: Sequence[Codes]) -> list[Together]:
    """Those of each frame together."""
    frames = dict.fromkeys(block.frame for block in blocks)
    return [Together([each for each in blocks if each.frame is frame]) for frame in frames]


class Asked:
    """A query, as codes of one frame are compared with it."""

    def __init__(self, frame: Frame, query: Vectors) -> None:
        """*query* is a unit vector of shape (dimension,)."""
        apart = query - frame.centre
        rank = len(query) - max(1, len(query) // LARGE_SHARE)
        least = np.partition(np.abs(apart), rank)[rank]
        self._signs = _signs(apart[np.newaxis] >= 0)[:, 0].copy()
        self._large = _signs(np.abs(apart)[np.newaxis] >= least)[:, 0].copy()
        weights = query * np.float32(frame.step)
        # A level stands for the middle of what it spans.
        self._least = np.float32(frame.centre @ query - (LEVELS - 1) / 2 * weights.sum())
        self._high, self._low = weights[::2].copy(), np.zeros(_half(len(query)), np.float32)
        self._low[: len(query) // 2] = weights[1::2]

    def apart(self, codes: Together) -> npt.NDArray[np.uint16]:
        """How far each of *codes* is apart from the query, by its signs; of shape (n,)."""
        return compare.apart(codes.signs, self._signs, self._large)

    def cosines(self, codes: Together, places: Numbers) -> Vectors:
        """About what the cosines of the query and the codes at *places*, which ascend, are."""
        found = compare.products(codes.levels, places, self._high, self._low)
        found += self._least
        return found


def joined(parts: Sequence[Codes]) -> Codes:
    """Codes of one frame, at least one of them, put together in their order."""
    return Codes(
        parts[0].frame,
        np.concatenate([part.chunks for part in parts]),
        np.concatenate([part.keys for part in parts]),
        np.concatenate([part.signs for part in parts], axis=1),
        np.concatenate([part.levels for part in parts]),
        max(part.error for part in parts),
    )


def frame_of(content: bytes) -> Frame:
    """The frame of codes of which at least the first :func:`frame_bytes` are *content*.

    :raises ValueError: it is something else
    """
    return _head(content)[2]


def frame_bytes(dimension: int) -> int:
    """Bytes before the codes."""
    return _HEAD.size + 4 * (dimension + dimension % 2)


def size(count: int, dimension: int) -> int:
    """Bytes of so many codes."""
    each = 8 + 8 + 8 * _words(dimension) + _half(dimension)
    return frame_bytes(dimension) + count * each


def _head(content: bytes) -> tuple[int, int, Frame, float]:
    """How many codes these are, of how many dimensions, their frame and error."""
    if len(content) >= _HEAD.size:
        count, dimension, step, made_of, error, _ = _HEAD.unpack_from(content)
        if len(content) >= frame_bytes(dimension):
            centre = content[_HEAD.size : _HEAD.size + 4 * dimension]
            return count, dimension, _frame(centre, step, made_of), error
    raise ValueError(f"{len(content)} bytes are too few for codes")


def _signs(above: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint64]:
    """The bits of *above*, of shape (n, dimension), as words of shape (words, n)."""
    packed = np.packbits(above, axis=1, bitorder="little")
    filled = np.zeros((len(packed), 8 * _words(above.shape[1])), np.uint8)
    filled[:, : packed.shape[1]] = packed
    return np.ascontiguousarray(filled.view("<u8").T)


def _words(dimension: int) -> int:
    return -(-dimension // WORD_BITS)


def _half(dimension: int) -> int:
    return -(-dimension // 2)
