"""The numbers and the tensors of a GGUF, mapped into memory: nothing is read before it is used.

The ``gguf`` library's own reader makes an object of each word of a vocabulary, which takes it
23 seconds for the 250,000 of multilingual-e5-small; words are skipped here.
"""

import mmap
import struct
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sqlembed.errors import ModelFileError
from sqlembed.weights.gguf_header import ARRAY, SCALARS, STRING

Floats = npt.NDArray[np.float32]

F32, F16 = 0, 1
"""The types of GGML that are read without its tables."""
ALIGNMENT = "general.alignment"
ALIGNED = 32
"""Bytes to whose multiples tensors are aligned, where the file says nothing else."""


@dataclass(frozen=True)
class Tensor:
    """A tensor where it lies in the file."""

    kind: int
    """GGML's number of its type."""
    shape: tuple[int, ...]
    """As numpy has it: outputs first."""
    data: npt.NDArray[np.uint8]
    """From its first byte to the end of the file."""

    @cached_property
    def rows(self) -> npt.NDArray[np.uint8]:
        """Its bytes, of shape (rows, bytes a row)."""
        count = int(np.prod(self.shape[:-1], dtype=np.int64))
        size = self._row_bytes()
        return self.data[: count * size].reshape(count, size)

    def floats(self) -> Floats:
        """All of it."""
        return self.some(slice(None)).reshape(self.shape)

    def some(self, which: npt.NDArray[np.int32] | slice) -> Floats:
        """Rows of a matrix, as float32 of shape (rows, columns)."""
        chosen = np.ascontiguousarray(self.rows[which])
        if self.kind == F32:
            return chosen.view("<f4").astype(np.float32, copy=False)
        if self.kind == F16:
            return chosen.view("<f2").astype(np.float32)
        from gguf import GGMLQuantizationType, quants

        found: Floats = quants.dequantize(chosen, GGMLQuantizationType(self.kind))
        return found

    def _row_bytes(self) -> int:
        if self.kind in (F32, F16):
            return self.shape[-1] * (4 if self.kind == F32 else 2)
        from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

        weights, size = GGML_QUANT_SIZES[GGMLQuantizationType(self.kind)]
        return self.shape[-1] // weights * size


@dataclass(frozen=True)
class Contents:
    """What a GGUF holds, but for texts."""

    numbers: dict[str, float | int]
    """By key; of an array its length."""
    tensors: dict[str, Tensor]


def read(path: Path) -> Contents:
    """The numbers and tensors of the GGUF at *path*.

    :raises ModelFileError: it is no GGUF, or cut
    """
    try:
        with path.open("rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return _Reader(mapped).contents()
    except (struct.error, KeyError, ValueError, IndexError, OverflowError) as error:
        raise ModelFileError(f"{path} is truncated or damaged ({error})") from error


class _Reader:
    """Goes through the head of a file."""

    def __init__(self, mapped: mmap.mmap) -> None:
        self._mapped = mapped
        self._at = 0

    def contents(self) -> Contents:
        _magic, _version, tensors, keys = self._take("<IIQQ")
        numbers: dict[str, float | int] = {}
        for _ in range(keys):
            key, (kind,) = self._text(), self._take("<I")
            value = self._value(kind)
            if value is not None:
                numbers[key] = value
        heads = [self._head() for _ in range(tensors)]
        aligned = int(numbers.get(ALIGNMENT, ALIGNED))
        begin = -(-self._at // aligned) * aligned
        whole = np.frombuffer(self._mapped, np.uint8)
        found = {
            name: Tensor(kind, shape, whole[begin + offset :])
            for name, shape, kind, offset in heads
        }
        for tensor in found.values():
            _ = tensor.rows  # raises where the file is too short for it
        return Contents(numbers, found)

    def _head(self) -> tuple[str, tuple[int, ...], int, int]:
        name, (count,) = self._text(), self._take("<I")
        shape = self._take(f"<{count}Q")
        kind, offset = self._take("<IQ")
        return name, tuple(int(size) for size in reversed(shape)), int(kind), int(offset)

    def _value(self, kind: int) -> float | int | None:
        """A number, an array's length, or None for a text."""
        if kind == STRING:
            self._text()
            return None
        if kind == ARRAY:
            element, length = self._take("<IQ")
            if element in SCALARS:
                self._at += length * struct.calcsize("<" + SCALARS[element])
            else:
                for _ in range(length):
                    self._value(element)
            return int(length)
        (value,) = self._take("<" + SCALARS[kind])
        return value

    def _text(self) -> str:
        (size,) = self._take("<Q")
        self._at += size
        if self._at > len(self._mapped):
            raise ValueError("a text ends behind the file")
        return self._mapped[self._at - size : self._at].decode("utf-8", "replace")

    def _take(self, form: str) -> tuple[int, ...]:
        found = struct.unpack_from(form, self._mapped, self._at)
        self._at += struct.calcsize(form)
        return found
