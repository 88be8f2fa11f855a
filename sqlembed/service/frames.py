"""The bytes of a frame: a length, a type, and values; little-endian, bounded, docs/protocol.md.

Pure: no socket here. What does not make sense is a :class:`FrameError`, never a crash.
"""

import struct
from collections.abc import Iterable, Sequence
from enum import IntEnum

from sqlembed.plan import Row, SqlValue

PROTOCOL = 1
"""The version of all this; a client of another is told so."""

HEADER = struct.Struct("<IB")
"""The length of all that follows it, and the type."""
MOST_FRAME_BYTES = 64 << 20
PART_BYTES = 256 << 10
"""Rows are sent in frames of about this size."""


class FrameError(Exception):
    """Bytes that are no frame, or a value that does not fit one."""


class Type(IntEnum):
    """What a frame is."""

    HELLO = 0x01
    CALL = 0x02
    STEP = 0x03
    FINAL = 0x04
    ROWS = 0x11
    DONE = 0x12
    FAILED = 0x13
    WELCOME = 0x21
    VALUE = 0x22
    END = 0x23
    ERROR = 0x24
    WORKING = 0x25
    RUN = 0x31
    MANY = 0x32
    BEGIN = 0x33
    COMMIT = 0x34


class Tag(IntEnum):
    """What a value is."""

    NULL = 0
    INTEGER = 1
    REAL = 2
    TEXT = 3
    BLOB = 4
    SET = 5


_U16 = struct.Struct("<H")
_U32 = struct.Struct("<I")
_INTEGER = struct.Struct("<Bq")
_REAL = struct.Struct("<Bd")
_BYTES = struct.Struct("<BI")
_ROWS = struct.Struct("<HI")
_I64 = struct.Struct("<q")
_F64 = struct.Struct("<d")


def frame(kind: Type, *parts: bytes) -> bytes:
    """A whole frame of these parts of a payload.

    :raises FrameError: it would be over the limit
    """
    payload = b"".join(parts)
    if len(payload) >= MOST_FRAME_BYTES:
        raise FrameError(
            f"{len(payload):,} bytes do not fit a frame, which has at most {MOST_FRAME_BYTES:,}"
        )
    return HEADER.pack(len(payload) + 1, kind) + payload


def payload_bytes(length: int) -> int:
    """The payload's length, from a header's.

    :raises FrameError: no frame is so long, or so short
    """
    if not 1 <= length <= MOST_FRAME_BYTES:
        raise FrameError(f"a frame has 1 to {MOST_FRAME_BYTES:,} bytes; got one of {length:,}")
    return length - 1


def u8(number: int) -> bytes:
    """A byte."""
    return bytes((number,))


def u16(number: int) -> bytes:
    """Two bytes."""
    return _U16.pack(number)


def u32(number: int) -> bytes:
    """Four bytes."""
    return _U32.pack(number)


def text(words: str) -> bytes:
    """A text, its length in front; half of a surrogate pair becomes a question mark."""
    data = words.encode("utf-8", "replace")
    return _U32.pack(len(data)) + data


def value(of: SqlValue) -> bytes:
    """A SQL value, its tag in front.

    :raises FrameError: an integer of more than 64 bits, or half of a surrogate pair in a text
    """
    try:
        match of:
            case bytes():
                return _BYTES.pack(Tag.BLOB, len(of)) + of
            case str():
                data = of.encode()
                return _BYTES.pack(Tag.TEXT, len(data)) + data
            case bool() | int():
                return _INTEGER.pack(Tag.INTEGER, of)
            case float():
                return _REAL.pack(Tag.REAL, of)
            case None:
                return b"\x00"
    except (struct.error, UnicodeEncodeError) as error:
        raise FrameError(f"{of!r:.40} is no SQL value: {error}") from error
    raise FrameError(f"{of!r:.40} is no SQL value")


def rows(columns: int, each: Sequence[Row]) -> bytes:
    """The payload of a ROWS frame, or the end of a MANY frame."""
    return _ROWS.pack(columns, len(each)) + b"".join(value(cell) for row in each for cell in row)


def parts(each: Iterable[Row]) -> Iterable[list[Row]]:
    """Rows in lists of about ``PART_BYTES``."""
    part: list[Row] = []
    size = 0
    for row in each:
        part.append(row)
        size += sum(len(cell) if isinstance(cell, str | bytes) else 8 for cell in row)
        if size >= PART_BYTES:
            yield part
            part, size = [], 0
    if part:
        yield part


class Reader:
    """A payload, read from its beginning."""

    def __init__(self, payload: bytes) -> None:
        """Stand at the beginning."""
        self._payload = payload
        self._at = 0

    def _take(self, size: int) -> int:
        at = self._at
        if size > len(self._payload) - at:
            raise FrameError(f"a frame ends after {len(self._payload)} bytes, in the middle of it")
        self._at = at + size
        return at

    def u8(self) -> int:
        """A byte."""
        return self._payload[self._take(1)]

    def u16(self) -> int:
        """Two bytes."""
        return int(_U16.unpack_from(self._payload, self._take(2))[0])

    def u32(self) -> int:
        """Four bytes."""
        return int(_U32.unpack_from(self._payload, self._take(4))[0])

    def text(self) -> str:
        """A text, its length in front."""
        data = self._bytes()
        try:
            return data.decode()
        except UnicodeDecodeError as error:
            raise FrameError(f"a text is not valid UTF-8: {error}") from error

    def value(self) -> SqlValue:
        """A SQL value."""
        tag = self.u8()
        if tag == Tag.TEXT:
            return self.text()
        if tag == Tag.BLOB:
            return self._bytes()
        if tag == Tag.INTEGER:
            return int(_I64.unpack_from(self._payload, self._take(8))[0])
        if tag == Tag.REAL:
            return float(_F64.unpack_from(self._payload, self._take(8))[0])
        if tag == Tag.NULL:
            return None
        raise FrameError(f"no value has the tag {tag}")

    def set(self) -> list[SqlValue]:
        """The values of a set."""
        tag = self.u8()
        if tag != Tag.SET:
            raise FrameError(f"a set has the tag {Tag.SET:d}; got {tag}")
        return [self.value() for _ in range(self.u32())]

    def rows(self, columns: int | None = None) -> list[Row]:
        """Rows; of *columns* each, if that is known."""
        width, count = self.u16(), self.u32()
        if columns is not None and width != columns:
            raise FrameError(f"rows of {columns} columns were expected; got {width}")
        if width == 0 and count:
            raise FrameError("rows without columns")
        return [tuple([self.value() for _ in range(width)]) for _ in range(count)]

    def end(self) -> None:
        """See that nothing is left."""
        if self._at != len(self._payload):
            raise FrameError(f"a frame has {len(self._payload) - self._at} bytes too many")

    def _bytes(self) -> bytes:
        size = self.u32()
        at = self._take(size)
        return self._payload[at : at + size]
