"""Urgent work takes every slot as soon as those at work are back, before waiting backlog."""

from threading import Event, Thread

from sqlembed.engine.lanes import Lanes

PATIENCE = 10


def test_urgent_goes_before_backlog() -> None:
    lanes = Lanes([1, 2])
    order: list[str] = []
    running, release, waiting = Event(), Event(), Event()

    def first() -> None:
        with lanes.one():
            running.set()
            release.wait(PATIENCE)

    def urgent() -> None:
        waiting.set()
        with lanes.all() as slots:
            order.append(f"urgent with {len(slots)}")

    def backlog() -> None:
        with lanes.one():
            order.append("backlog")

    threads = [Thread(target=first), Thread(target=urgent)]
    for thread, ready in zip(threads, (running, waiting), strict=True):
        thread.start()
        assert ready.wait(PATIENCE)
    while lanes._urgent == 0:
        pass
    threads.append(Thread(target=backlog))
    threads[-1].start()
    release.set()
    for thread in threads:
        thread.join(PATIENCE)
    assert order == ["urgent with 2", "backlog"]


def test_slots_come_back_after_an_error() -> None:
    lanes = Lanes([1])
    for lend in (lanes.one, lanes.all):
        try:
            with lend():
                raise ValueError
        except ValueError:
            pass
    with lanes.all() as slots:
        assert slots == [1]
