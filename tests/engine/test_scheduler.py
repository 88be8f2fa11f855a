"""Threads share batches and contexts; what goes wrong with one request is no other's business."""

import contextvars
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from threading import Event, Thread
from typing import Any

import numpy as np
import pytest

from sqlembed.engine import clients
from sqlembed.engine.pack import BATCH_TOKENS
from sqlembed.engine.scheduler import Bounds, Scheduler
from sqlembed.errors import BusyError, ClientGoneError, ModelError

PATIENCE = 20
POISON = 13
"""A token that makes a fake context fail."""


class FakeContext:
    """Gives each token as its own row; waits to be let go if it is told to."""

    def __init__(self, hold: bool = False) -> None:
        self.batches: list[list[list[int]]] = []
        self.threads: list[int] = []
        self.entered, self.go = threading.Semaphore(0), threading.Semaphore(0)
        self.hold = hold

    def use_threads(self, count: int) -> None:
        self.threads.append(count)

    def encode(self, texts: Sequence[Any]) -> list[Any]:
        self.batches.append([list(map(int, ids)) for ids in texts])
        self.entered.release()
        if self.hold:
            assert self.go.acquire(timeout=PATIENCE)
        if any(POISON in ids for ids in texts):
            raise ModelError("poisoned")
        return [np.array(ids, np.float32)[:, None] for ids in texts]


def ids(*values: int) -> Any:
    return np.array(values, np.int32)


def first(rows: Any) -> int:
    return int(rows[0, 0])


class Caller(Thread):
    """A thread that asks for texts, and keeps what came of it."""

    def __init__(self, scheduler: Scheduler, *texts: Any, read: Callable[[Any], Any] = first):
        super().__init__()
        self._context = contextvars.copy_context()
        self._ask = lambda: scheduler.run(texts, read)
        self.answer: Any = None
        self.start()

    def run(self) -> None:
        try:
            self.answer = self._context.run(self._ask)
        except Exception as error:
            self.answer = error

    def result(self) -> Any:
        self.join(PATIENCE)
        assert not self.is_alive()
        return self.answer


@contextmanager
def scheduling(*contexts: FakeContext, **bounds: Bounds) -> Iterator[Scheduler]:
    made = Scheduler("fake", contexts, **bounds)
    try:
        yield made
    finally:
        for context in contexts:
            context.hold = False
            context.go.release(1000)
        made.close()


def until(condition: Callable[[], bool]) -> None:
    """Let other threads run until *condition* holds."""
    patience = Event()
    for _ in range(PATIENCE * 1000):
        if condition():
            return
        patience.wait(0.001)
    raise AssertionError("it never came to that")


def test_results_come_in_the_order_of_the_texts() -> None:
    with scheduling(FakeContext(), FakeContext()) as scheduler:
        texts = [ids(*[n] * (1 + n * 7 % 50)) for n in range(100, 400)]
        assert scheduler.run(texts, first) == list(range(100, 400))
        assert scheduler.run([], first) == []


def test_requests_of_threads_join_the_next_batch() -> None:
    context = FakeContext(hold=True)
    with scheduling(context) as scheduler:
        callers = [Caller(scheduler, ids(1))]
        assert context.entered.acquire(timeout=PATIENCE)
        callers += [Caller(scheduler, ids(n)) for n in (2, 3, 4)]
        until(lambda: len(scheduler._waiting) == 3)
        context.go.release(2)
        assert [caller.result() for caller in callers] == [[1], [2], [3], [4]]
    assert [sorted(batch) for batch in context.batches] == [[[1]], [[2], [3], [4]]]


def test_a_query_goes_before_the_rest_of_a_backlog() -> None:
    context = FakeContext(hold=True)
    with scheduling(context) as scheduler:
        backlog = Caller(scheduler, *[ids(*[1] * BATCH_TOKENS)] * 3)
        assert context.entered.acquire(timeout=PATIENCE)
        query = Caller(scheduler, ids(2))
        until(lambda: len(scheduler._waiting) == 3)
        context.go.release(4)
        assert query.result() == [2] and backlog.result() == [1, 1, 1]
    assert [batch[0][0] for batch in context.batches] == [1, 2, 1, 1]


def test_a_single_text_gets_every_thread_and_always_the_same_context() -> None:
    contexts = FakeContext(), FakeContext()
    with scheduling(*contexts) as scheduler:
        for n in range(20, 40):
            assert scheduler.run([ids(n)], first) == [n]
    assert contexts[0].threads == [2] * 20
    assert contexts[1].threads == []


def test_while_every_thread_computes_one_text_nothing_else_begins() -> None:
    contexts = FakeContext(hold=True), FakeContext(hold=True)
    with scheduling(*contexts) as scheduler:
        alone = Caller(scheduler, ids(1))
        assert contexts[0].entered.acquire(timeout=PATIENCE)
        others = [Caller(scheduler, ids(n)) for n in (2, 3)]
        until(lambda: len(scheduler._waiting) == 2)
        assert contexts[1].batches == []
        contexts[0].go.release()
        for context in contexts:  # and then they share what has come
            assert context.entered.acquire(timeout=PATIENCE)
        for context in contexts:
            context.go.release()
        assert [each.result() for each in (alone, *others)] == [[1], [2], [3]]
    assert [context.threads for context in contexts] == [[2, 1], [1]]


def test_a_bad_text_fails_its_own_request_only() -> None:
    context = FakeContext(hold=True)
    with scheduling(context) as scheduler:
        callers = [Caller(scheduler, ids(1))]
        assert context.entered.acquire(timeout=PATIENCE)
        callers += [Caller(scheduler, ids(n)) for n in (2, POISON, 4)]
        until(lambda: len(scheduler._waiting) == 3)
        context.go.release(5)
        good, poisoned = [callers[n].result() for n in (0, 1, 3)], callers[2].result()
    assert good == [[1], [2], [4]]
    assert isinstance(poisoned, ModelError) and str(poisoned) == "poisoned"


def test_rows_that_cannot_be_read_fail_their_own_request_only() -> None:
    def refuse(rows: Any) -> int:
        raise ValueError("unreadable")

    context = FakeContext(hold=True)
    with scheduling(context) as scheduler:
        callers = [Caller(scheduler, ids(1))]
        assert context.entered.acquire(timeout=PATIENCE)
        callers += [Caller(scheduler, ids(2), read=refuse), Caller(scheduler, ids(3))]
        until(lambda: len(scheduler._waiting) == 2)
        context.go.release(2)
        assert isinstance(callers[1].result(), ValueError)
        assert callers[2].result() == [3]


def test_a_backlog_that_fails_is_not_computed_further() -> None:
    context = FakeContext()
    with scheduling(context) as scheduler:
        texts = [ids(*[POISON] * BATCH_TOKENS)] + [ids(*[1] * BATCH_TOKENS)] * 5
        with pytest.raises(ModelError, match="poisoned"):
            scheduler.run(texts, first)
        assert scheduler.run([ids(7)], first) == [7]
    assert len(context.batches) == 2


def test_whoever_is_interrupted_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    context = FakeContext(hold=True)
    with scheduling(context) as scheduler:
        backlog = Caller(scheduler, ids(1))
        assert context.entered.acquire(timeout=PATIENCE)

        def interrupted(self: Event, timeout: float | None = None) -> bool:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(Event, "wait", interrupted)
            with pytest.raises(KeyboardInterrupt):
                scheduler.run([ids(2)], first)
            with pytest.raises(KeyboardInterrupt):
                scheduler.run([ids(*[3] * BATCH_TOKENS)] * 4, first)
        assert len(scheduler._waiting) == 0
        other = Caller(scheduler, ids(4))
        context.go.release(2)
        assert [backlog.result(), other.result()] == [[1], [4]]
    assert context.batches == [[[1]], [[4]]]


def test_a_full_queue_answers_busy_after_its_time() -> None:
    context = FakeContext(hold=True)
    with scheduling(context, urgent=Bounds(2, 0.01), backlog=Bounds(2, 0.01)) as scheduler:
        callers = [Caller(scheduler, ids(1))]
        assert context.entered.acquire(timeout=PATIENCE)
        callers.append(Caller(scheduler, ids(2), ids(3)))
        until(lambda: len(scheduler._waiting) == 2)
        with pytest.raises(BusyError) as busy:
            scheduler.run([ids(4)], first)
        assert str(busy.value) == (
            "fake is busy: 2 texts wait to be computed, at most 2 may, and there was no room for"
            " 1 more within 0.01 seconds; try again later, or ask with fewer programs at once"
        )
        # The other lane has its own room, and lets in what is larger than the bound.
        callers.append(Caller(scheduler, *[ids(*[5] * BATCH_TOKENS)] * 4))
        until(lambda: len(scheduler._waiting) == 6)
        context.go.release(20)
        assert [caller.result() for caller in callers] == [[1], [2, 3], [5] * 4]


def test_a_request_waits_for_room() -> None:
    context = FakeContext(hold=True)
    with scheduling(context, urgent=Bounds(1, PATIENCE)) as scheduler:
        callers = [Caller(scheduler, ids(1))]
        assert context.entered.acquire(timeout=PATIENCE)
        callers += [Caller(scheduler, ids(n)) for n in (2, 3)]
        until(lambda: len(scheduler._room._waiters) == 1)  # type: ignore[attr-defined]
        context.go.release(3)
        assert [caller.result() for caller in callers] == [[1], [2], [3]]


def test_a_client_that_left_is_dropped_before_its_text_is_computed() -> None:
    context, left = FakeContext(hold=True), Event()
    with scheduling(context) as scheduler:
        busy = Caller(scheduler, ids(1))
        assert context.entered.acquire(timeout=PATIENCE)
        token = clients.gone.set(left.is_set)
        leaving = Caller(scheduler, ids(2))
        clients.gone.reset(token)
        staying = Caller(scheduler, ids(3))
        until(lambda: len(scheduler._waiting) == 2)
        left.set()
        context.go.release(2)
        assert isinstance(leaving.result(), ClientGoneError)
        assert [busy.result(), staying.result()] == [[1], [3]]
    assert [2] not in [text for batch in context.batches for text in batch]


def test_many_threads_get_their_own_answers() -> None:
    contexts = [FakeContext() for _ in range(3)]
    with scheduling(*contexts) as scheduler:

        def ask(n: int, wrong: list[int]) -> None:
            for turn in range(50):
                size = 1 + (n * turn) % 7
                texts = [ids(*[n * 1000 + turn] * (1 + at * 40)) for at in range(size)]
                if scheduler.run(texts, first) != [n * 1000 + turn] * size:
                    wrong.append(n)

        wrong: list[int] = []
        threads = [Thread(target=ask, args=(n, wrong)) for n in range(1, 17)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
        assert not any(thread.is_alive() for thread in threads) and wrong == []
    computed = sum(len(batch) for context in contexts for batch in context.batches)
    assert computed == sum(1 + n * turn % 7 for n in range(1, 17) for turn in range(50))


def test_close_ends_the_threads_and_refuses_what_comes_after() -> None:
    before = threading.active_count()
    with scheduling(FakeContext(), FakeContext()) as scheduler:
        assert scheduler.run([ids(1)], first) == [1]
    assert threading.active_count() == before
    with pytest.raises(ModelError, match="fake is being unloaded; ask again"):
        scheduler.run([ids(1)], first)
