"""Read a Parquet file of one column of strings, as pyarrow writes it: Snappy, no null.

Enough for a vocabulary, without a library of 100 MB. The format:
https://parquet.apache.org/docs/file-format/ and format_description.txt of
https://github.com/google/snappy.
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from sqlembed.errors import ModelFileError

MAGIC = b"PAR1"
BYTE_ARRAY, SNAPPY, PLAIN = 6, 1, 0
DICTIONARIES = (2, 8)
"""The encodings of places in the dictionary."""
DATA_PAGE, DICTIONARY_PAGE = 0, 2
Fields = dict[int, Any]
"""A Thrift struct, by field number."""


def strings(path: Path) -> list[str]:
    """The strings of the file's only column, in order.

    :raises ModelFileError: it is cut, or not of that form
    """
    data = path.read_bytes()
    if data[:4] != MAGIC or data[-4:] != MAGIC:
        raise ModelFileError(f"{path} is truncated or no Parquet file")
    try:
        (size,) = struct.unpack_from("<I", data, len(data) - 8)
        footer = _Thrift(data, len(data) - 8 - size).fields()
        values = [value for group in footer[4] for value in _column(data, group)]
        found = [value.decode() for value in values]
    except (KeyError, IndexError, ValueError, struct.error) as error:
        raise ModelFileError(
            f"{path} is damaged, or not one column of strings as pyarrow writes it"
            f" ({type(error).__name__}: {error})"
        ) from error
    if len(found) != footer[3]:
        raise ModelFileError(f"{path} has {len(found)} strings, and says {footer[3]}")
    return found


def _column(data: bytes, group: Fields) -> Iterator[bytes]:
    """The values of a row group."""
    (column,) = group[1]
    about = column[3]
    if about[1] != BYTE_ARRAY or about[4] != SNAPPY:
        raise ValueError(f"a column of type {about[1]}, packed as {about[4]}")
    left, at, words = about[5], about.get(11, about[9]), []
    while left > 0:
        thrift = _Thrift(data, at)
        header = thrift.fields()
        at = thrift.at + header[3]
        page = unsnappy(data[thrift.at : at])
        if header[1] == DICTIONARY_PAGE:
            words = _plain(page, 0, header[7][1])
        elif header[1] == DATA_PAGE:
            yield from _values(page, header[5], words)
            left -= header[5][1]
        else:
            raise ValueError(f"a page of kind {header[1]}")


def _values(page: bytes, header: Fields, words: list[bytes]) -> list[bytes]:
    count, encoding = header[1], header[2]
    (size,) = struct.unpack_from("<I", page)
    if not (_packed(page[4 : 4 + size], 1, count) == 1).all():
        raise ValueError("a value is null")
    at = 4 + size
    if encoding == PLAIN:
        return _plain(page, at, count)
    if encoding not in DICTIONARIES:
        raise ValueError(f"values of encoding {encoding}")
    return [words[place] for place in _packed(page[at + 1 :], page[at], count)]


def _plain(page: bytes, at: int, count: int) -> list[bytes]:
    values = []
    for _ in range(count):
        (size,) = struct.unpack_from("<I", page, at)
        values.append(page[at + 4 : at + 4 + size])
        at += 4 + size
    return values


def _packed(data: bytes, width: int, count: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Numbers of *width* bits, in runs of equal ones and in packs of eight."""
    found, total, at = [], 0, 0
    while total < count:
        run, at = _varint(data, at)
        size = (width + 7) // 8
        if run & 1:
            packs = run >> 1
            bits = np.unpackbits(
                np.frombuffer(data, np.uint8, packs * width, at), bitorder="little"
            )
            part = bits.reshape(-1, width).astype(np.int64) @ (1 << np.arange(width))
            at += packs * width
        else:
            part = np.full(run >> 1, int.from_bytes(data[at : at + size], "little"))
            at += size
        found.append(part)
        total += len(part)
    return np.concatenate(found)[:count]


def unsnappy(data: bytes) -> bytes:
    """What *data* was before Snappy packed it.

    :raises ValueError: it is damaged
    """
    size, at = _varint(data, 0)
    out = bytearray()
    while at < len(data):
        tag = data[at]
        at += 1
        kind, length = tag & 3, (tag >> 2) + 1
        if kind == 0:
            if length > 60:
                wide = length - 60
                length = int.from_bytes(data[at : at + wide], "little") + 1
                at += wide
            out += data[at : at + length]
            at += length
            continue
        if kind == 1:
            length, distance = (tag >> 2 & 7) + 4, (tag >> 5) << 8 | data[at]
            at += 1
        else:
            wide = 2 if kind == 2 else 4
            distance = int.from_bytes(data[at : at + wide], "little")
            at += wide
        start = len(out) - distance
        if distance == 0 or start < 0:
            raise ValueError(f"a copy from {distance} bytes before place {len(out)}")
        # A copy may overlap itself: then what it has just written repeats.
        piece = bytes(out[start : start + length])
        out += (piece * (length // len(piece) + 1))[:length]
    if len(out) != size:
        raise ValueError(f"{len(out)} bytes unpacked, expected {size}")
    return bytes(out)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7


class _Thrift:
    """Reads Thrift's compact protocol, as Parquet's headers are written in."""

    def __init__(self, data: bytes, at: int) -> None:
        """Begin at *at*."""
        self._data = data
        self.at = at

    def fields(self) -> Fields:
        """The struct here."""
        found: Fields = {}
        number = 0
        while (head := self._byte()) & 15:
            number = number + (head >> 4) if head >> 4 else self._signed()
            found[number] = self._value(head & 15)
        return found

    def _value(self, kind: int) -> Any:
        if kind in (1, 2):  # true and false, which the kind itself says
            return kind == 1
        if kind == 3:
            return self._byte()
        if kind in (4, 5, 6):
            return self._signed()
        if kind == 7:
            self.at += 8
            return struct.unpack_from("<d", self._data, self.at - 8)[0]
        if kind == 8:
            size = self._unsigned()
            self.at += size
            return self._data[self.at - size : self.at]
        if kind in (9, 10):
            head = self._byte()
            size = head >> 4 if head >> 4 < 15 else self._unsigned()
            return [self._value(head & 15) for _ in range(size)]
        if kind == 12:
            return self.fields()
        raise ValueError(f"a field of Thrift's type {kind}")

    def _byte(self) -> int:
        self.at += 1
        return self._data[self.at - 1]

    def _unsigned(self) -> int:
        value, self.at = _varint(self._data, self.at)
        return value

    def _signed(self) -> int:
        value = self._unsigned()
        return value >> 1 ^ -(value & 1)
