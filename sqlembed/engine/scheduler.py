"""One thread a context computes what every thread of the process asks for: continuous batching.

Whoever asks waits in ``run``; a worker that is free takes the next batch, of texts of as
many requests as fit. There are never more threads that compute than contexts.
"""

import atexit
import os
import time
from collections.abc import Callable, Sequence, Sized
from threading import Condition, Lock, Thread
from typing import Any, Protocol, TypeVar

from sqlembed.engine import clients
from sqlembed.engine.metrics import ModelFigures
from sqlembed.engine.pooling import Vectors
from sqlembed.engine.waiting import OF_A_CONTEXT, Batch, Request, Room, Waiting, tokens
from sqlembed.errors import BusyError, ModelError

Result = TypeVar("Result")

LINGER_SECONDS = 0.01
"""How long a worker waits for those that it just served to ask again. Without it every
batch would be the one text of whoever was fastest."""


class Bounds:
    """How many texts may wait in one lane, and how long a request waits to be among them."""

    def __init__(self, texts: int, seconds: float) -> None:
        """Let *texts* wait; what comes then gives up after *seconds*."""
        self.texts = texts
        self.seconds = seconds


URGENT_BOUNDS = Bounds(1024, 5)
"""Some five seconds of work for two cores: who waits longer is better told so."""
BACKLOG_BOUNDS = Bounds(16384, 60)


class Computes(Protocol):
    """What the scheduler needs of a context."""

    def use_threads(self, count: int) -> None:
        """Compute the next batches with *count* threads."""

    def encode(self, texts: Sequence[Any]) -> list[Vectors]:
        """Compute one batch."""


class Holds(Computes, Protocol):
    """One that holds memory."""

    def close(self) -> None:
        """Give it back."""


class Scheduler:
    """Contexts with a thread each, for requests of any threads."""

    def __init__(
        self,
        name: str,
        contexts: Sequence[Computes],
        urgent: Bounds = URGENT_BOUNDS,
        backlog: Bounds = BACKLOG_BOUNDS,
        room: Room = OF_A_CONTEXT,
        elsewhere: bool = False,
    ) -> None:
        """Start a thread for each of *contexts*.

        :param name: the model's, for messages
        :param room: of one batch
        :param elsewhere: whether contexts wait for another machine, and share no cores here
        """
        self._name = name
        self._bounds = {True: urgent, False: backlog}
        self._figures = ModelFigures(name)
        self._batch_room = room
        self._waiting = Waiting(room, apart=elsewhere)
        lock = Lock()
        self._changed, self._room = Condition(lock), Condition(lock)
        self._running = 0
        self._whole = False
        """Whether one context computes with every thread now."""
        self._expected = 0
        """Requests that are likely to come now: as many as were just served."""
        self._expected_until = 0.0
        self._closing = False
        self._process = os.getpid()
        # Daemons, as the interpreter would else wait for them at its end, before it calls `close`.
        self._workers = [
            Thread(target=self._work, args=(context, number == 0), name=f"sqlembed {name}",
                   daemon=True)
            for number, context in enumerate(contexts)
        ]  # fmt: skip
        for worker in self._workers:
            worker.start()
        if not elsewhere:
            atexit.register(self._at_exit)

    def run(self, texts: Sequence[Sized], read: Callable[[Vectors], Result]) -> list[Result]:
        """Compute *texts*, and wait for them.

        :param read: makes the result of a text of its rows, at once, so that few rows are in
            memory; called by the threads that compute
        :raises BusyError: too many wait already, and went on waiting
        :raises ClientGoneError: ``clients.gone`` said that nobody waits for the answer
        """
        if not texts:
            return []
        request = Request(texts, read, clients.gone.get(), self._batch_room)
        try:
            self._submit(request)
            request.done.wait()
        except BaseException:  # Ctrl-C: what nobody waits for any more is not computed
            with self._changed:
                self._remove(request)
            raise
        if request.error is not None:
            raise request.error
        return request.results

    def waiting(self) -> dict[str, int]:
        """Texts that wait by lane."""
        with self._changed:
            return {"urgent": self._waiting.texts(True), "backlog": self._waiting.texts(False)}

    def close(self) -> None:
        """Compute what waits, then end the threads."""
        atexit.unregister(self._at_exit)
        if os.getpid() != self._process:  # forked: the threads stayed in the parent
            return
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        for worker in self._workers:
            worker.join()

    def _at_exit(self) -> None:
        # Only daemon threads can still wait here. A batch that runs has to end, since it would
        # go on while the interpreter and llama.cpp are taken down.
        if os.getpid() == self._process:
            with self._changed:
                self._waiting = Waiting(self._batch_room)
            self.close()

    def _submit(self, request: Request) -> None:
        bounds = self._bounds[request.urgent]
        with self._changed:
            if not self._room.wait_for(lambda: self._has_room(request), bounds.seconds):
                raise BusyError(
                    f"{self._name} is busy: {self._waiting.texts(request.urgent)} texts wait to be"
                    f" computed, at most {bounds.texts} may, and there was no room for"
                    f" {len(request.texts)} more within {bounds.seconds:g} seconds;"
                    " try again later, or ask with fewer programs at once"
                )
            if self._closing:
                raise ModelError(f"{self._name} is being unloaded; ask again")
            self._waiting.add(request)
            if self._is_time():
                self._changed.notify_all()

    def _has_room(self, request: Request) -> bool:
        waiting = self._waiting.texts(request.urgent)
        # A request larger than the bound has to be let in some time.
        return not waiting or waiting + len(request.texts) <= self._bounds[request.urgent].texts

    def _work(self, context: Computes, first: bool) -> None:
        while (taken := self._take(first)) is not None:
            batch, threads = taken
            begun = time.monotonic()
            context.use_threads(threads)
            computed = _compute(context, batch)
            self._record(batch, begun)
            with self._changed:
                for (request, positions), outcome in zip(batch, computed, strict=True):
                    if isinstance(outcome, BaseException):
                        self._remove(request)
                        request.fail(outcome)
                    else:
                        request.finish(positions, outcome)
                self._running -= 1
                self._whole = False
                self._expect(sum(request.urgent for request, _ in batch))
                self._changed.notify_all()

    def _record(self, batch: Batch, begun: float) -> None:
        self._figures.inference.observe(time.monotonic() - begun)
        self._figures.batch_size.observe(sum(len(positions) for _, positions in batch))
        self._figures.batch_tokens.observe(tokens(batch))

    def _take(self, first: bool) -> tuple[Batch, int] | None:
        """Wait for a batch; with it how many threads compute it. None when there will be none."""
        with self._changed:
            while True:
                if self._is_time():
                    whole = self._running == 0 and self._waiting.alone(len(self._workers))
                    # Always the same worker, since OpenMP keeps threads for each that had several.
                    if whole and not first:
                        self._changed.notify_all()
                    elif not self._whole:
                        batch = self._waiting.next_batch(len(self._workers) - self._running)
                        self._room.notify_all()
                        if batch:
                            return self._begin(batch, whole)
                if self._closing and not len(self._waiting):
                    return None
                self._changed.wait(self._lingering())

    def _begin(self, batch: Batch, whole: bool) -> tuple[Batch, int]:
        for request, _ in batch:
            if not request.begun:
                request.begun = True
                self._figures.queue.observe(time.monotonic() - request.since)
        self._running += 1
        self._whole = whole
        self._expected -= min(self._expected, len(batch))
        if len(self._waiting):
            self._changed.notify_all()
        return batch, len(self._workers) if whole else 1

    def _expect(self, requests: int) -> None:
        if requests:
            self._expected += requests
            self._expected_until = time.monotonic() + LINGER_SECONDS

    def _lingering(self) -> float | None:
        """Seconds to go on waiting for those expected; None if nobody is."""
        left = self._expected_until - time.monotonic()
        if not self._expected or left <= 0:
            self._expected = 0
            return None
        return left

    def _is_time(self) -> bool:
        """Whether a batch may be taken now, or more requests will come for it in a moment."""
        return (
            self._waiting.urgent_requests() >= self._expected
            or self._closing
            or self._lingering() is None
        )

    def _remove(self, request: Request) -> None:
        self._waiting.remove(request)
        self._room.notify_all()


def _compute(context: Computes, batch: Batch) -> list[list[Any] | BaseException]:
    """What became of each part of *batch*; what is wrong with one is no other's business."""
    texts = [request.texts[position] for request, positions in batch for position in positions]
    try:
        rows = iter(context.encode(texts))
    except Exception as error:
        if len(batch) == 1:
            return [error]
        return [outcome for part in batch for outcome in _compute(context, [part])]
    parts = [(request, [next(rows) for _ in positions]) for request, positions in batch]
    return [_read(request, mine) for request, mine in parts]


def _read(request: Request, rows: list[Vectors]) -> list[Any] | BaseException:
    try:
        return [request.read(each) for each in rows]
    except Exception as error:
        return error
