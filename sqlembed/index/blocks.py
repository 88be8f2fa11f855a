"""Blocks: the codes of an index's stored chunks, as its tables keep them. A block is never changed.

Chunks with higher numbers than any in a block are the tail, which has no codes. A small index has
no blocks; in a large one the tail is sealed as a block before it is long, and a block takes in
those before it that are not larger than itself. Of a chunk that is deleted the code stays, until
so many are deleted that it is worth to write the blocks anew.
"""

import json
import secrets
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from sqlembed.errors import SchemaError
from sqlembed.index import catalog
from sqlembed.index.catalog import Index
from sqlembed.index.codes import Codes, Frame, Numbers, Vectors, frame_bytes, frame_of, joined, size
from sqlembed.plan import Boundary, Plan, Row, Statement
from sqlembed.vectors import FLOAT_BYTES

SMALL = 10_000
"""Chunks up to which an index has no codes, and every vector is compared."""
TAIL = 1024
"""Chunks of a larger one that are sealed together, about."""
CHECKED = 256
"""The tail is looked at whenever the chunks' numbers pass a multiple of this."""
BLOCK_BYTES = 900_000
"""Of a block's codes, at most: a host may have been told to refuse values of a megabyte."""
LEAST_DEAD = 4096
"""Codes of deleted chunks that are worth the work; of 384 dimensions, 1 MB."""
DEAD_SHARE = 8
"""One of so many that are deleted is too many: they take the place of others that are near."""
SAMPLED = 2048
"""Chunks that a frame is made of."""
OUTGROWN = 2
"""An index of so many times the chunks that its frame was made of gets a new one."""

LIST = """
SELECT stamp, block, first, last, count
FROM main.sqlembed_catalog LEFT JOIN main.sqlembed_block USING (index_id)
WHERE index_id = ? ORDER BY first"""
SEALED = """
SELECT last FROM main.sqlembed_block WHERE index_id = ? ORDER BY first DESC LIMIT 1"""
READ = "SELECT codes FROM main.sqlembed_block WHERE block = ?"
READ_FRAME = "SELECT substr(codes, 1, ?) FROM main.sqlembed_block WHERE block = ?"
INSERT = "INSERT INTO main.sqlembed_block VALUES (?, ?, ?, ?, ?, ?)"
DELETE = "DELETE FROM main.sqlembed_block WHERE block = ?"
DELETE_EVERY = "DELETE FROM main.sqlembed_block WHERE index_id = ?"
STAMP = "UPDATE main.sqlembed_catalog SET stamp = ? WHERE index_id = ?"
ENDS = "SELECT (SELECT min(chunk) FROM main.{0}), (SELECT max(chunk) FROM main.{0})"
COUNT = "SELECT count(*) FROM main.{}"
TAIL_LENGTH = "SELECT count(*) FROM (SELECT 1 FROM main.{} WHERE chunk > ? LIMIT ?)"
VECTORS = """
SELECT chunk, key, vector FROM main.{} WHERE chunk > ? AND chunk <= ? ORDER BY chunk LIMIT ?"""
SAMPLE = """
SELECT vector FROM main.{0} WHERE chunk IN (
    SELECT (SELECT min(chunk) FROM main.{0} WHERE chunk >= value) FROM json_each(?)
)"""
ALIVE = "SELECT chunk FROM main.{} WHERE chunk BETWEEN ? AND ?"


class Listed(NamedTuple):
    """A block without its codes."""

    block: int
    first: int
    last: int
    chunks: int


def listed(index: Index) -> Plan[list[Listed]]:
    """The blocks of *index*, in the order of their chunks."""
    return (yield from stamped(index))[1]


def stamped(index: Index) -> Plan[tuple[int | None, list[Listed]]]:
    """The stamp of *index* as it is now, and its blocks."""
    if not index.has_blocks:
        return None, []
    rows = yield Statement(LIST, (index.index_id,))
    found = [Listed(*map(int, map(str, row))) for _, *row in rows if row[0] is not None]
    stamp = rows[0][0] if rows else None
    return stamp if isinstance(stamp, int) else None, found


def sealed(blocks: Sequence[Listed]) -> int:
    """The highest number that a chunk in a block had; those of the tail are higher."""
    return max((each.last for each in blocks), default=0)


def read(index: Index, block: Listed) -> Plan[Codes]:
    """The codes of a block.

    :raises SchemaError: they are damaged
    """
    rows = yield Statement(READ, (block.block,))
    content = rows[0][0] if rows else None
    try:
        codes = Codes.from_bytes(content if isinstance(content, bytes) else b"")
        if len(codes) != block.chunks or len(codes.frame.centre) != index.dimension:
            raise ValueError(f"there are {len(codes)} of {len(codes.frame.centre)} dimensions")
    except ValueError as error:
        raise SchemaError(
            f"the codes of index {index.name} are damaged ({error}); make them anew: SELECT"
            f" sqlembed_repair('{index.name}')"
        ) from error
    return codes


def coded(index: Index, rows: list[Row], frame: Frame) -> Codes:
    """The codes of (chunk, key, vector)."""
    chunks = np.array([chunk for chunk, *_ in rows], np.int64)
    keys = np.array([key if isinstance(key, int) else 0 for _, key, _ in rows], np.int64)
    return Codes.of(frame, chunks, keys, _floats(index, [(vector,) for *_, vector in rows]))


def _floats(index: Index, rows: list[Row]) -> Vectors:
    """(vector) as an array; what is no vector of this width is zero."""
    size = index.dimension * FLOAT_BYTES
    zeros = bytes(size)
    whole = [v if isinstance(v, bytes) and len(v) == size else zeros for (v,) in rows]
    floats = np.frombuffer(b"".join(whole), "<f4").reshape(-1, index.dimension)
    finite: Vectors = np.nan_to_num(floats, posinf=0.0, neginf=0.0)
    return finite


def stamp(index: Index) -> Plan[None]:
    """Note that the stored vectors of *index* change, within the transaction that changes them.

    Where two see the same stamp, they see the same vectors: whatever is rolled back, and in
    whatever process, or copy of the file, they are.
    """
    yield Statement(STAMP, (_lot(), index.index_id))


def _lot() -> int:
    return secrets.randbits(63)


def following(index: Index) -> Plan[int]:
    """The number for a new chunk: that of a chunk in a block is not used again."""
    ((_, highest),) = yield Statement(ENDS.format(index.chunk_table))
    rows = yield Statement(SEALED, (index.index_id,))
    return max(int(str(highest or 0)), *(int(str(last)) for (last,) in rows), 0) + 1


def grow(index: Index, first: int, last: int) -> Plan[None]:
    """Seal the tail if it is long enough, after chunks were stored with these numbers."""
    if (first - 1) // CHECKED != last // CHECKED:
        more, left = True, CHECKED // _room(index) + 1  # of wide vectors few find room in a block
        while more and left:
            more, left = (yield from _seal(index)), left - 1


def seal(index: Index) -> Plan[None]:
    """Seal what has grown beyond measure, each block in a transaction of its own."""
    more = True
    while more:
        yield Boundary.BEGIN
        more = (yield from catalog.still(index)) and (yield from _seal(index))
        yield Boundary.COMMIT


def _seal(index: Index) -> Plan[bool]:
    """Make the tail a block, if it is long enough; whether there may be more."""
    known = yield from listed(index)
    end, most = sealed(known), TAIL if known else SMALL
    ((_, highest),) = yield Statement(ENDS.format(index.chunk_table))
    last = int(str(highest or 0))
    if last - end <= most:
        return False
    counted = yield Statement(TAIL_LENGTH.format(index.chunk_table), (end, most + 1))
    if int(str(counted[0][0])) <= most:  # the others were deleted
        return False
    room = _room(index)
    rows = yield Statement(VECTORS.format(index.chunk_table), (end, last, room))
    frame = (yield from _frame(index, known[-1])) if known else None
    frame = frame or (yield from _new_frame(index))
    if frame is not None:
        yield from _add(index, known, coded(index, rows, frame))
    return len(rows) == room


def _room(index: Index) -> int:
    """How many codes a block has at most."""
    none = size(0, index.dimension)
    return max(1, (BLOCK_BYTES - none) // (size(1, index.dimension) - none))


def _frame(index: Index, block: Listed) -> Plan[Frame | None]:
    """The frame of a block; None if that is damaged."""
    asked = (frame_bytes(index.dimension), block.block)
    rows = yield Statement(READ_FRAME, asked)
    try:
        frame = frame_of(rows[0][0] if rows and isinstance(rows[0][0], bytes) else b"")
    except ValueError:
        return None
    return frame if len(frame.centre) == index.dimension else None


def _new_frame(index: Index) -> Plan[Frame | None]:
    """A frame made of chunks that are evenly spread over the index; None if it has none."""
    ((first, last),) = yield Statement(ENDS.format(index.chunk_table))
    if first is None:
        return None
    low, high = int(str(first)), int(str(last))
    count = min(SAMPLED, high - low + 1)
    numbers = [low + (high - low) * n // max(1, count - 1) for n in range(count)]
    sql = SAMPLE.format(index.chunk_table)
    rows = yield Statement(sql, (json.dumps(numbers),))
    ((chunks,),) = yield Statement(COUNT.format(index.chunk_table))
    return Frame.of(_floats(index, rows), int(str(chunks)))


def _add(index: Index, known: list[Listed], codes: Codes) -> Plan[None]:
    """Store a block after the *known* ones; it takes in those before it that are not larger."""
    before, room = list(known), _room(index)
    while before and before[-1].chunks <= min(len(codes), room - len(codes)):
        block = before.pop()
        try:
            older = yield from read(index, block)
        except SchemaError:
            break  # that is not ours to say, while something is stored
        if older.frame is not codes.frame:
            break
        yield Statement(DELETE, (block.block,))
        codes = joined([older, codes])
    first, last = int(codes.chunks[0]), int(codes.chunks[-1])
    row = (_lot(), index.index_id, first, last, len(codes), codes.to_bytes())
    yield Statement(INSERT, row)
    yield from stamp(index)


def tidy(index: Index) -> Plan[bool]:
    """Write blocks anew: of many deleted chunks, or where the index has outgrown their frame.

    :returns: whether many codes were those of deleted chunks
    """
    known = yield from listed(index)
    if not known:
        return False
    ((alive,),) = yield Statement(COUNT.format(index.chunk_table))
    count, codes = int(str(alive)), sum(each.chunks for each in known)
    dead = codes - count > max(count // DEAD_SHARE, LEAST_DEAD)
    frame = yield from _frame(index, known[-1])
    if count <= SMALL:
        yield from _drop(index)
    elif frame is not None and count >= OUTGROWN * frame.made_of:
        yield from renew(index)
    elif dead:
        for block in known:
            yield from _thin(index, block)
    return dead


def _thin(index: Index, block: Listed) -> Plan[None]:
    """Write a block anew without the chunks that are deleted, if these are many."""
    yield Boundary.BEGIN
    known = (yield from listed(index)) if (yield from catalog.still(index)) else []
    if block in known:
        asked = (block.first, block.last)
        rows = yield Statement(ALIVE.format(index.chunk_table), asked)
        alive = np.array([chunk for (chunk,) in rows], np.int64)
        if block.chunks - len(alive) > block.chunks // DEAD_SHARE:
            yield from _replace(index, known, block, alive)
    yield Boundary.COMMIT


def _replace(index: Index, known: list[Listed], block: Listed, alive: Numbers) -> Plan[None]:
    """Store what is *alive* of a block in its place."""
    codes = yield from read(index, block)
    yield Statement(DELETE, (block.block,))
    yield from stamp(index)
    left = np.isin(codes.chunks, alive)
    if left.any():
        before = [each for each in known if each.last < block.first]
        yield from _add(index, before, codes.some(left))


def _drop(index: Index) -> Plan[None]:
    """Remove every block of *index*: all its chunks are in the tail."""
    yield Boundary.BEGIN
    if (yield from catalog.still(index)):
        yield Statement(DELETE_EVERY, (index.index_id,))
        yield from stamp(index)
    yield Boundary.COMMIT


def renew(index: Index) -> Plan[None]:
    """Make every block anew from the vectors, one by one, in a frame of the whole index."""
    frame: Frame | None = None
    done, more = 0, True
    while more:
        yield Boundary.BEGIN
        known = (yield from listed(index)) if (yield from catalog.still(index)) else []
        left = [each for each in known if each.last > done]
        more = bool(left)
        if more:
            frame = frame or (yield from _new_frame(index))
            if frame is None:  # there are no chunks
                yield Statement(DELETE_EVERY, (index.index_id,))
                yield from stamp(index)
                more = False
            else:
                done = yield from _renew_next(index, known, done, frame)
        yield Boundary.COMMIT
    yield from seal(index)


def _renew_next(index: Index, known: list[Listed], done: int, frame: Frame) -> Plan[int]:
    """Make the next block after the chunk *done* anew; the last chunk that it was to have."""
    end = min(each.last for each in known if each.last > done)
    # Another may have put it together with blocks that were done.
    start = min(done, *(each.first - 1 for each in known if each.last == end))
    for each in known:
        if start < each.last <= end:
            yield Statement(DELETE, (each.block,))
    yield from stamp(index)
    before, room = [each for each in known if each.last <= start], _room(index)
    # More than one, where those were lost that had the chunks before.
    while rows := (yield Statement(VECTORS.format(index.chunk_table), (start, end, room))):
        yield from _add(index, before, coded(index, rows, frame))
        before = [each for each in (yield from listed(index)) if each.last <= end]
        start = int(str(rows[-1][0]))
    return end
