"""Inputs for ``fuzz_frames.c``: answers of a service, and what chance makes of them."""

import random
import struct
from collections.abc import Iterator

from sqlembed.service import frames
from sqlembed.service.frames import Type, frame

SCALAR, ONE, THREE, SIX = range(4)
"""The first byte of an input: how many columns the function has."""
ROWS = [(1, 0.5, "text"), (-(2**63), None, b"\x00blob"), (0, float("inf"), "")]
VALUE = frame(Type.VALUE, frames.value(b"\x01\x02\x03\x04" * 9))
END = frame(Type.END)
WORKING = frame(Type.WORKING)


def run(sql: str, *bindings: frames.SqlValue) -> bytes:
    """A RUN frame."""
    values = map(frames.value, bindings)
    return frame(Type.RUN, frames.text(sql), frames.u16(len(bindings)), *values)


def many(sql: str, rows: list[frames.Row]) -> bytes:
    """A MANY frame."""
    return frame(Type.MANY, frames.text(sql), frames.rows(len(rows[0]), rows))


def seeds() -> list[bytes]:
    """Answers that make sense."""
    begin, commit = frame(Type.BEGIN), frame(Type.COMMIT)
    insert = many("INSERT INTO t VALUES (?, ?)", [(1, "a"), (None, b"b"), (2.5, "\0")])
    select = run("SELECT a, b, ? FROM t; SELECT count(*) FROM t", "bound")
    rows = frame(Type.ROWS, frames.rows(3, ROWS))
    answers = (
        (SCALAR, VALUE),
        (SCALAR, WORKING, WORKING, frame(Type.VALUE, frames.value("words \0 and more"))),
        (SCALAR, frame(Type.VALUE, frames.value(-1))),
        (SCALAR, frame(Type.ERROR, frames.text("InputError"), frames.text("in words"))),
        (SCALAR, begin, insert, select, commit, VALUE),
        (SCALAR, begin, insert, frame(Type.ERROR, frames.text("x"), frames.text("undone"))),
        (SCALAR, begin, begin, commit, VALUE),
        (SCALAR, run("no SQL"), run("SELECT zeroblob(2000000)"), VALUE),
        (SCALAR, run("WITH n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n) SELECT * FROM n")),
        (SCALAR, run("INSERT INTO t SELECT * FROM t", 1, 2), VALUE),
        (THREE, rows, rows, END),
        (THREE, select, rows, END),
        (ONE, frame(Type.ROWS, frames.rows(1, [(n,) for n in range(40)])), END),
        (SIX, frame(Type.ROWS, frames.rows(6, [(None,) * 6] * 20)), WORKING, END),
        (SIX, END),
        (THREE, VALUE),
        (SCALAR, END),
    )
    return [bytes((kind,)) + b"".join(parts) for kind, *parts in answers]


def mutated(count: int, seed: int) -> Iterator[bytes]:
    """*count* inputs, the same for the same *seed*."""
    chance = random.Random(seed)
    sound = seeds()
    yield from sound
    for _ in range(count - len(sound)):
        data = bytearray(chance.choice(sound))
        for _ in range(chance.choice((1, 1, 2, 5))):
            _mutate(data, chance, sound)
        yield bytes(data)


def _mutate(data: bytearray, chance: random.Random, sound: list[bytes]) -> None:
    at = chance.randrange(len(data) + 1)
    match chance.randrange(7):
        case 0:
            del data[at:]
        case 1:
            del data[at : at + chance.randrange(1, 9)]
        case 2:
            data[at:at] = chance.randbytes(chance.randrange(1, 9))
        case 3:
            data[at : at + 1] = bytes((chance.choice((0, 1, 4, 5, 0x7F, 0x80, 0xFF)),))
        case 4:
            other = chance.choice(sound)
            data[at:] = other[chance.randrange(len(other)) :]
        case 5:
            data[at : at + 4] = struct.pack(
                "<I", chance.choice((0, 1, 4, 2**31, 2**32 - 1, 64 << 20))
            )
        case 6 if at < len(data):
            data[at] ^= 1 << chance.randrange(8)
    if not data:
        data += b"\0"
