"""What waits to be computed: requests in two lanes, and which of their texts make the next batch.

No threads and no locks here; ``scheduler`` has them.
"""

import time
from collections import deque
from collections.abc import Callable, Sequence, Sized
from threading import Event
from typing import Any, NamedTuple

from sqlembed.engine.llama import MOST_TEXTS
from sqlembed.engine.pack import BATCH_TOKENS, pack
from sqlembed.engine.pooling import Vectors
from sqlembed.errors import ClientGoneError

URGENT_IN_A_ROW = 8
"""Urgent batches after which a backlog that waits gets one, so that it never stands still."""
WORTH_SPLITTING = 0.75
"""The share of the workers' time that must be used if urgent texts are split between them.
Below it one context with every thread is faster (0.86 times two contexts, two cores)."""


class Room(NamedTuple):
    """How much one batch has room for."""

    tokens: int
    texts: int


OF_A_CONTEXT = Room(BATCH_TOKENS, MOST_TEXTS)


class Request:
    """Texts that one caller waits for, and what became of them."""

    def __init__(
        self,
        texts: Sequence[Sized],
        read: Callable[[Vectors], Any],
        gone: Callable[[], bool],
        room: Room = OF_A_CONTEXT,
    ) -> None:
        """Pack *texts*; *read* makes a result of a text's rows, *gone* says if nobody waits."""
        self.texts = texts
        self.read = read
        self.gone = gone
        self.waiting = deque(pack([len(text) for text in texts], *room))
        """Batches of positions that are not begun yet."""
        self.urgent = len(self.waiting) == 1
        """Whether it fits one batch: then somebody waits for it, else it is backlog."""
        self.results: list[Any] = [None] * len(texts)
        self.error: BaseException | None = None
        self.done = Event()
        self.since = time.monotonic()
        """When it was made."""
        self.begun = False
        """Whether some of it has been taken out."""
        self._unfinished = len(texts)

    def tokens(self) -> int:
        """Tokens that wait."""
        return sum(len(self.texts[position]) for batch in self.waiting for position in batch)

    def finish(self, positions: Sequence[int], results: Sequence[Any]) -> None:
        """Take in the results of some of its texts."""
        for position, result in zip(positions, results, strict=True):
            self.results[position] = result
        self._unfinished -= len(positions)
        if not self._unfinished:
            self.done.set()

    def fail(self, error: BaseException) -> None:
        """End with *error*; what else is computed of it is dropped."""
        self.error = self.error or error
        self.waiting.clear()
        self.done.set()


Batch = list[tuple[Request, list[int]]]
"""Requests, each with the positions of its texts that are in the batch."""


class Waiting:
    """Requests in two lanes: urgent ones in the order they came, before backlogs by turns."""

    def __init__(self, room: Room = OF_A_CONTEXT, *, apart: bool = False) -> None:
        """Start with nothing; *apart* where workers do not share the cores."""
        self._room = room
        self._apart = apart
        self._lanes: dict[bool, deque[Request]] = {True: deque(), False: deque()}
        self._in_a_row = 0

    def __len__(self) -> int:
        """Texts that wait."""
        return self.texts(True) + self.texts(False)

    def texts(self, urgent: bool) -> int:
        """Texts that wait in one lane."""
        return sum(len(batch) for request in self._lanes[urgent] for batch in request.waiting)

    def urgent_requests(self) -> int:
        """Requests in the urgent lane."""
        return len(self._lanes[True])

    def add(self, request: Request) -> None:
        """Queue *request* in its lane."""
        self._lanes[request.urgent].append(request)

    def remove(self, request: Request) -> None:
        """Forget what waits of *request*."""
        request.waiting.clear()
        if request in self._lanes[request.urgent]:
            self._lanes[request.urgent].remove(request)

    def alone(self, workers: int) -> bool:
        """Whether all that waits is best computed by one context with every thread.

        That is one urgent text, or some of such lengths that *workers* would not share evenly.
        """
        if self._apart:
            return False
        urgent, backlog = self._lanes[True], self._lanes[False]
        lengths = [len(request.texts[p]) for request in urgent for p in request.waiting[0]]
        if backlog or not lengths or sum(lengths) > max(self._room.tokens, *lengths):
            return False
        return sum(lengths) < WORTH_SPLITTING * workers * max(lengths)

    def next_batch(self, workers: int) -> Batch:
        """Take the next batch out; empty if nothing waits.

        :param workers: idle ones, which share what is urgent
        """
        self._drop_gone()
        backlog_is_due = self._in_a_row >= URGENT_IN_A_ROW and self._lanes[False]
        if self._lanes[True] and not backlog_is_due:
            self._in_a_row += 1
            return self._urgent_batch(workers)
        self._in_a_row = 0
        return self._backlog_batch()

    def _drop_gone(self) -> None:
        # Only those at the head can be taken now; the others are asked in their turn.
        for lane in self._lanes.values():
            while lane and (error := _left(lane[0])) is not None:
                lane.popleft().fail(error)

    def _urgent_batch(self, workers: int) -> Batch:
        lane = self._lanes[True]
        share = -(-sum(request.tokens() for request in lane) // (1 if self._apart else workers))
        batch: Batch = []
        taken_tokens = texts = 0
        while lane and taken_tokens < share:
            request = lane[0]
            if (error := _left(request)) is not None:
                lane.popleft().fail(error)
                continue
            positions = request.waiting[0]
            taken: list[int] = []
            while positions and taken_tokens < share:
                length = len(request.texts[positions[0]])
                if texts and (
                    taken_tokens + length > self._room.tokens or texts == self._room.texts
                ):
                    break
                taken.append(positions.pop(0))
                taken_tokens, texts = taken_tokens + length, texts + 1
            if taken:
                batch.append((request, taken))
            if positions:
                break
            lane.popleft()
        return batch

    def _backlog_batch(self) -> Batch:
        lane = self._lanes[False]
        if not lane:
            return []
        batch: Batch = [(lane[0], lane[0].waiting.popleft())]
        lane.rotate(-1)
        self._fill(batch)
        for request in [request for request in lane if not request.waiting]:
            lane.remove(request)
        return batch

    def _fill(self, batch: Batch) -> None:
        """Put the last batches of other backlogs, of their shortest texts, where room is left."""
        for request in self._lanes[False]:
            if not request.waiting or _left(request) is not None:
                continue
            more = request.waiting[-1]
            if tokens(batch) + tokens([(request, more)]) > self._room.tokens:
                continue
            if sum(len(positions) for _, positions in batch) + len(more) <= self._room.texts:
                batch.append((request, request.waiting.pop()))


def tokens(batch: Batch) -> int:
    """How many tokens *batch* has."""
    return sum(len(request.texts[p]) for request, positions in batch for p in positions)


def _left(request: Request) -> BaseException | None:
    """Why nobody waits for *request* any more, or None if somebody does."""
    try:
        if not request.gone():
            return None
    except Exception as error:
        return error
    return ClientGoneError(
        f"the client that asked for {len(request.texts)} texts has gone away,"
        " so those that waited were not computed"
    )
