"""Frames in Python: whatever bytes come, they are read, or refused in words.

``make fuzz`` tries more of them than ``make test``.
"""

import math
import os
import struct
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, example, given, settings
from service import raw

from sqlembed.functions import ALL
from sqlembed.functions.registry import Pushed
from sqlembed.plan import Row, SqlValue
from sqlembed.service import frames
from sqlembed.service.frames import FrameError, Reader, Tag

EXAMPLES = int(os.environ.get("SQLEMBED_FUZZ_EXAMPLES", "100"))
often = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)

INTEGERS = st.integers(-(2**63), 2**63 - 1)
VALUES = st.none() | INTEGERS | st.floats() | st.text() | st.binary()
TABLES = st.integers(1, 5).flatmap(lambda width: st.lists(st.tuples(*[VALUES] * width), min_size=1))
COUNTS = st.sampled_from([0, 1, 2, 255, 2**16, 2**31, 2**32 - 1])
READS = ("u8", "u16", "u32", "text", "value", "set", "rows", "end")


def same(one: SqlValue, other: SqlValue) -> bool:
    nan = isinstance(one, float) and math.isnan(one)
    return type(one) is type(other) and (one == other or (nan and one != one and other != other))


@often
@given(TABLES)
def test_what_is_written_is_read(table: list[Row]) -> None:
    payload = frames.rows(len(table[0]), table)
    reader = Reader(payload)
    read = reader.rows(len(table[0]))
    reader.end()
    cells = [pair for rows in zip(table, read, strict=True) for pair in zip(*rows, strict=True)]
    assert all(same(*pair) for pair in cells)


@often
@given(TABLES, st.data())
def test_what_ends_early_or_late_is_refused(table: list[Row], data: st.DataObject) -> None:
    payload = frames.rows(len(table[0]), table)
    cut = data.draw(st.integers(0, len(payload) - 1))
    with pytest.raises(FrameError):
        Reader(payload[:cut]).rows()
    late = Reader(payload + b"\0")
    late.rows()
    with pytest.raises(FrameError):
        late.end()


@often
@given(st.binary() | st.builds(lambda tag, n, rest: struct.pack("<BI", tag, n) + rest,
                               st.sampled_from(Tag), COUNTS, st.binary()),
       st.lists(st.sampled_from(READS), min_size=1, max_size=8))  # fmt: skip
def test_any_bytes(payload: bytes, reads: list[str]) -> None:
    reader = Reader(payload)
    try:
        for read in reads:
            getattr(reader, read)()
    except FrameError as error:
        assert str(error)


@often
@given(st.integers(0, 2**32 - 1))
def test_any_length(length: int) -> None:
    try:
        assert frames.payload_bytes(length) == length - 1 < frames.MOST_FRAME_BYTES
    except FrameError:
        assert not 1 <= length <= frames.MOST_FRAME_BYTES


# Requests as a service hears them: an argument, a restriction, an aggregate's head.
NAMES = st.sampled_from([function.name for function in ALL]) | st.text(max_size=5)
ENCODED = VALUES.map(frames.value)
SETS = st.lists(ENCODED, max_size=3).map(
    lambda each: struct.pack("<BI", Tag.SET, len(each)) + b"".join(each)
)
PUSHED = st.builds(lambda what, value: frames.u8(what) + value, st.integers(0, 10), ENCODED | SETS)


def counted(each: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    parts = st.lists(each, max_size=4)
    return parts.map(lambda found: frames.u16(len(found)) + b"".join(found))


CALLS = st.builds(lambda name, *rest: frames.text(name) + b"".join(rest),
                  NAMES, counted(ENCODED), counted(PUSHED))  # fmt: skip
STEPS = st.builds(lambda name, group, fresh, each: frames.text(name) + struct.pack(
                      "<IBI", group, fresh, len(each)) + b"".join(each),
                  NAMES, st.integers(0, 3), st.integers(0, 2), st.lists(ENCODED, max_size=4))  # fmt: skip
PAYLOADS = CALLS | STEPS | st.binary()


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """A request, perhaps with some bytes changed."""
    payload = bytearray(draw(PAYLOADS))
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, len(payload)))
        payload[at : at + draw(st.integers(0, 2))] = draw(st.binary(max_size=2))
    return raw.frame(draw(st.integers(2, 4) | st.integers(0, 255)), bytes(payload))


def called(name: str, *arguments: SqlValue, limit: SqlValue = None) -> bytes:
    values = frames.u16(len(arguments)) + b"".join(map(frames.value, arguments))
    pushed = frames.u16(1) + frames.u8(Pushed.LIMIT) + frames.value(limit)
    return raw.frame(raw.CALL, frames.text(name) + values + pushed)


@often
@example([called("sqlembed_store", None, "1")])
@example([called("knn", "sms", "dinner", limit=math.inf)])
@given(st.lists(requests(), min_size=1, max_size=4))
def test_a_service_that_hears_nonsense(service: Path, heard: list[bytes]) -> None:
    """No fault of the service's own, and it answers the next one."""
    connection = raw.connected(service, raw.GREETING + b"".join(heard))
    connection.shutdown(raw.socket.SHUT_WR)
    assert b"a fault in sqlembed's service" not in raw.everything(connection)
    sound = raw.connected(service, raw.GREETING + raw.asking("dinner"))
    sound.shutdown(raw.socket.SHUT_WR)
    vector = struct.pack("<BI", Tag.BLOB, 256)
    assert vector in raw.everything(sound)
