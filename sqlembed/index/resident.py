"""What this process remembers of stored vectors: blocks of codes, and the vectors of tails.

It is never out of date. A block never changes, and a stamp stands for one state of the stored
vectors, so both are known by their numbers, in whatever database they are. What was not asked for
longest goes when the bound of memory is reached.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from random import shuffle
from threading import Lock

import numpy as np

from sqlembed import settings
from sqlembed.index import blocks, codes, compare, scan
from sqlembed.index.blocks import Listed
from sqlembed.index.catalog import Index
from sqlembed.index.codes import Codes, Numbers, Together, Vectors
from sqlembed.index.scan import Candidates
from sqlembed.plan import Plan, Rows, Statement
from sqlembed.vectors import FLOAT_BYTES

TAIL_BYTES = 32 << 20
"""Of the vectors of a tail that is remembered; those of a longer one stay in the database."""
MOST_STATES = 16
"""States whose vectors or blocks are known: every write makes a new one."""
MOST_TOGETHER = 16
"""Sets of blocks that were searched together, and stay so."""
TAIL = """
SELECT stamp, chunk, key, vector
FROM main.sqlembed_catalog LEFT JOIN main.{} ON chunk > ?2
WHERE index_id = ?1 ORDER BY chunk LIMIT ?3"""


@dataclass(frozen=True)
class Tail:
    """The vectors of chunks that are in no block."""

    chunks: Numbers
    keys: Numbers
    vectors: Vectors
    """Float32 of shape (n, dimension)."""


@dataclass(frozen=True)
class State:
    """One state of an index's stored vectors."""

    blocks: Sequence[Listed]
    tail: Tail | None = None
    """None where its vectors are not remembered."""
    tail_is_long: bool = False
    """Whether that is since there are too many, or one is damaged; else nobody asked before."""

    @cached_property
    def numbers(self) -> tuple[int, ...]:
        """Of its blocks."""
        return tuple(each.block for each in self.blocks)

    @cached_property
    def end(self) -> int:
        """Chunks with a higher number are the tail."""
        return blocks.sealed(self.blocks)

    @cached_property
    def count(self) -> int:
        """Chunks that are known here, with those that were deleted since they were sealed."""
        tail = 0 if self.tail is None else len(self.tail.chunks)
        return tail + sum(each.chunks for each in self.blocks)

    @property
    def nbytes(self) -> int:
        """Memory that it takes, about."""
        tail = 0 if self.tail is None else self.tail.vectors.nbytes + 2 * self.tail.chunks.nbytes
        return tail + 200 * (1 + len(self.blocks))


class Memory:
    """Blocks and states by their numbers, for all threads of a process."""

    def __init__(self) -> None:
        """Remember nothing yet."""
        self._lock = Lock()
        self._blocks: OrderedDict[int, Codes] = OrderedDict()
        self._states: OrderedDict[int, State] = OrderedDict()
        self._together: OrderedDict[tuple[int, ...], list[Together]] = OrderedDict()
        self.nbytes = 0
        """What it takes."""

    def blocks(self, numbers: Iterable[int]) -> dict[int, Codes]:
        """The blocks of these numbers that are remembered."""
        with self._lock:
            found = {number: self._blocks[number] for number in numbers if number in self._blocks}
            for number in found:
                self._blocks.move_to_end(number)
            return found

    def together(self, numbers: tuple[int, ...]) -> list[Together] | None:
        """The blocks of these numbers, if all are remembered, as they are searched."""
        with self._lock:
            if numbers in self._together:
                self._together.move_to_end(numbers)
                return self._together[numbers]
            # What is read next shall not take the place of what was just searched.
            for each in (*self._together, numbers):
                for number in each:
                    if number in self._blocks:
                        self._blocks.move_to_end(number)
            if all(number in self._blocks for number in numbers):
                held = [self._blocks[number] for number in numbers]
                self._together[numbers] = codes.together(held)
                if len(self._together) > MOST_TOGETHER:
                    self._together.popitem(last=False)
            return self._together.get(numbers)

    def state(self, stamp: int) -> State | None:
        """The state of this stamp, if it is remembered."""
        with self._lock:
            if stamp in self._states:
                self._states.move_to_end(stamp)
            return self._states.get(stamp)

    def keep_block(self, number: int, block: Codes) -> Codes:
        """Remember a block by its number, which no other has; what another remembered first."""
        with self._lock:
            if number in self._blocks:
                return self._blocks[number]
            self._blocks[number] = block
            self.nbytes += block.nbytes
            self._make_room()
            return block

    def keep_state(self, stamp: int, state: State) -> None:
        """Remember a state by its stamp, or more of it than before."""
        with self._lock:
            old = self._states.pop(stamp, None)
            self._states[stamp] = state
            self.nbytes += state.nbytes - (old.nbytes if old else 0)
            self._make_room()

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._blocks.clear()
            self._states.clear()
            self._together.clear()
            self.nbytes = 0

    def _make_room(self) -> None:
        bound = settings.index_memory_bytes()
        while self._states and (len(self._states) > MOST_STATES or self.nbytes > bound):
            self.nbytes -= self._states.popitem(last=False)[1].nbytes
        if self.nbytes > bound:
            self._together.clear()
        while self._blocks and self.nbytes > bound:
            self.nbytes -= self._blocks.popitem(last=False)[1].nbytes


MEMORY = Memory()
"""This process's."""


def state(index: Index) -> Plan[State]:
    """The state of *index*'s stored vectors that this statement sees.

    Who asks for it first gets it without the tail: it may be the only one who does.
    """
    known = None if index.stamp is None else MEMORY.state(index.stamp)
    if known is None:
        stamp, listed = yield from blocks.stamped(index)
        known = State(listed)
    elif known.tail is None and not known.tail_is_long:
        most = max(1, TAIL_BYTES // (index.dimension * FLOAT_BYTES))
        asked = (index.index_id, known.end, most + 1)
        rows = yield Statement(TAIL.format(index.chunk_table), asked)
        stamp = index.stamp if rows and rows[0][0] == index.stamp else None
        tail = _tail(index, rows) if len(rows) <= most else None
        known = replace(known, tail=tail, tail_is_long=tail is None)
    else:
        return known
    # Outside of a statement of the host's another may have changed it since the catalog was read.
    if index.stamp is not None and stamp == index.stamp:
        MEMORY.keep_state(index.stamp, known)
    return known if stamp == index.stamp else State(known.blocks)


def _tail(index: Index, rows: Rows) -> Tail | None:
    """(stamp, chunk, key, vector) as arrays; None where one is damaged, as SQL will say."""
    size = index.dimension * FLOAT_BYTES
    numbers, floats = list[tuple[int, int]](), list[bytes]()
    for _, chunk, key, vector in rows:
        if isinstance(chunk, int) and isinstance(key, int) and isinstance(vector, bytes):
            numbers.append((chunk, key))
            floats.append(vector)
    if len(numbers) < len(rows) - (rows[0][1] is None) or {len(v) for v in floats} > {size}:
        return None
    chunks, keys = np.array(numbers, np.int64).reshape(-1, 2).T
    vectors = np.frombuffer(b"".join(floats), "<f4").reshape(-1, index.dimension)
    return Tail(chunks, keys, vectors) if np.isfinite(vectors).all() else None


def nearest(
    index: Index, known: State, query: Vectors, by_codes: int, exact: int, keys: Numbers | None
) -> Plan[tuple[Candidates, Candidates]]:
    """The chunks nearest to *query*: so many *by_codes*, and so many by the tail's vectors.

    The second are none where the tail is not remembered. Codes may make many look nearer than
    they are, and than the nearest of the tail, so one does not keep out the other.

    :param keys: of the rows that may be found; None for all
    """
    found = yield from _candidates(
        index, known, lambda held: scan.nearest(held, query, by_codes, keys)
    )
    of_tail = list[Candidates]()
    if known.tail is not None:
        tail = known.tail
        places = slice(None) if keys is None else codes.among(tail.keys, keys)
        cosines = compare.cosines(tail.vectors[places], query)
        of_tail.append(scan.best(tail.chunks[places], cosines, exact))
    return scan.merged(found, by_codes), scan.merged(of_tail, exact)


def within(
    index: Index, known: State, query: Vectors, least: float, keys: Numbers | None
) -> Plan[Candidates]:
    """Every chunk in a block whose cosine with *query* may be *least* or more."""
    found = yield from _candidates(index, known, lambda held: scan.within(held, query, least, keys))
    return scan.merged(found, sum(len(each.chunks) for each in found))


def _candidates(
    index: Index, known: State, choose: Callable[[Sequence[Together]], Candidates]
) -> Plan[list[Candidates]]:
    """What *choose* takes of the blocks: of all together, or part by part where memory is short."""
    if (whole := MEMORY.together(known.numbers)) is not None:
        return [choose(whole)]
    room = settings.index_memory_bytes()
    found = list[Candidates]()
    held = MEMORY.blocks(known.numbers)
    taken = sum(block.nbytes for block in held.values())
    missing = [listed for listed in known.blocks if listed.block not in held]
    # Of an index that is larger the first blocks are remembered, always the same ones. Else those
    # who begin together each read some, and all have them.
    if sum(codes.size(each.chunks, index.dimension) for each in known.blocks) <= room:
        shuffle(missing)
    for listed in missing:
        meanwhile = MEMORY.blocks([listed.block])
        block = meanwhile.get(listed.block)
        if block is None:
            block = yield from blocks.read(index, listed)
        taken += block.nbytes
        if taken > room:
            found.append(choose(codes.together([block])))
        else:
            held[listed.block] = MEMORY.keep_block(listed.block, block)
    if held:
        ordered = [held[number] for number in known.numbers if number in held]
        found.append(choose(codes.together(ordered)))
    return found
