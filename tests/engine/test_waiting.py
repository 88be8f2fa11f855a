"""Which texts make the next batch: urgent ones first, shared between workers, backlogs by turns."""

from threading import Event

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from sqlembed.engine.clients import never
from sqlembed.engine.llama import MOST_TEXTS
from sqlembed.engine.pack import BATCH_TOKENS
from sqlembed.engine.waiting import URGENT_IN_A_ROW, Batch, Request, Waiting
from sqlembed.errors import ClientGoneError


def request(*lengths: int, gone: object = never) -> Request:
    return Request([np.zeros(n, np.int32) for n in lengths], lambda rows: rows, gone)  # type: ignore[arg-type]


def backlog(batches: int = 2) -> Request:
    return request(*[BATCH_TOKENS] * batches)


def queue(*requests: Request) -> Waiting:
    waiting = Waiting()
    for each in requests:
        waiting.add(each)
    return waiting


def owners(batch: Batch) -> list[Request]:
    return [owner for owner, _ in batch]


def test_a_request_that_fits_a_batch_is_urgent() -> None:
    assert request(BATCH_TOKENS).urgent
    assert request(BATCH_TOKENS + 1).urgent  # one text, however long, is one batch
    assert not request(BATCH_TOKENS, 1).urgent
    assert not request(*[1] * (MOST_TEXTS + 1)).urgent


def test_urgent_requests_share_a_batch_and_go_before_backlog() -> None:
    old, first, second = backlog(), request(5), request(6, 7)
    waiting = queue(old, first, second)
    assert owners(waiting.next_batch(1)) == [first, second]
    assert owners(waiting.next_batch(1)) == [old]


def test_a_backlog_gets_its_turn_among_many_urgent_requests() -> None:
    old = backlog()
    waiting = queue(old, *[request(BATCH_TOKENS) for _ in range(3 * URGENT_IN_A_ROW)])
    turns = [owners(waiting.next_batch(1)) == [old] for _ in range(2 * URGENT_IN_A_ROW + 2)]
    assert turns == [*[False] * URGENT_IN_A_ROW, True] * 2


def test_backlogs_take_turns() -> None:
    one, two = backlog(3), backlog(3)
    waiting = queue(one, two)
    assert [owners(waiting.next_batch(1)) for _ in range(6)] == [[one], [two]] * 3
    assert waiting.next_batch(1) == []


def test_the_ends_of_backlogs_share_a_batch() -> None:
    one, two = request(BATCH_TOKENS, 10), request(BATCH_TOKENS, 20)
    waiting = queue(one, two)
    batches = [waiting.next_batch(1) for _ in range(3)]
    assert [owners(batch) for batch in batches] == [[one], [two], [one, two]]
    assert len(waiting) == 0


def test_idle_workers_share_what_is_urgent() -> None:
    waiting = queue(*[request(25) for _ in range(7)])
    assert [len(waiting.next_batch(2)), len(waiting.next_batch(1))] == [4, 3]
    waiting = queue(request(*[25] * 8))
    assert [len(positions) for _, positions in waiting.next_batch(2)] == [4]


@pytest.mark.parametrize(
    "lengths, workers, alone",
    [
        ([25], 2, True),
        ([25, 25], 2, False),
        ([200, 5], 2, True),
        ([25, 25, 25], 8, True),
        ([25] * 8, 8, False),
        ([25], 1, False),
        ([BATCH_TOKENS, BATCH_TOKENS // 10], 2, False),
        ([BATCH_TOKENS + 50], 2, True),
    ],
)
def test_every_thread_computes_one_batch_where_workers_would_share_it_badly(
    lengths: list[int], workers: int, alone: bool
) -> None:
    assert queue(*map(request, lengths)).alone(workers) == alone


def test_nothing_is_computed_alone_beside_a_backlog() -> None:
    assert not queue(request(25), backlog()).alone(2)
    assert not queue().alone(2)


def test_what_nobody_waits_for_is_not_taken() -> None:
    left, stayed = request(5, gone=lambda: True), request(6)
    waiting = queue(stayed, left, backlog())
    assert owners(waiting.next_batch(1)) == [stayed]
    assert left.done.is_set() and isinstance(left.error, ClientGoneError)
    assert "the client that asked for 1 texts has gone away" in str(left.error)


def test_a_client_that_leaves_in_the_middle_is_noticed() -> None:
    left = Event()
    leaving = request(*[BATCH_TOKENS] * 3, gone=left.is_set)
    waiting = queue(leaving)
    assert owners(waiting.next_batch(1)) == [leaving]
    left.set()
    assert waiting.next_batch(1) == []
    assert isinstance(leaving.error, ClientGoneError) and len(waiting) == 0


def test_a_question_that_fails_ends_only_its_own_request() -> None:
    def broken() -> bool:
        raise OSError("no such client")

    bad, good = request(5, gone=broken), request(5)
    assert owners(queue(bad, good).next_batch(1)) == [good]
    assert isinstance(bad.error, OSError)


@given(
    st.lists(st.lists(st.integers(1, BATCH_TOKENS + 9), min_size=1, max_size=40), max_size=12),
    st.integers(1, 4),
)
def test_each_text_is_taken_once_within_the_bounds(lengths: list[list[int]], workers: int) -> None:
    requests = [request(*each) for each in lengths]
    waiting = queue(*requests)
    taken: dict[Request, list[int]] = {each: [] for each in requests}
    while batch := waiting.next_batch(workers):
        tokens = [len(owner.texts[p]) for owner, positions in batch for p in positions]
        assert len(tokens) <= MOST_TEXTS
        assert len(tokens) == 1 or sum(tokens) <= BATCH_TOKENS
        for owner, positions in batch:
            taken[owner] += positions
    assert len(waiting) == 0
    for owner, positions in taken.items():
        assert sorted(positions) == list(range(len(owner.texts)))
