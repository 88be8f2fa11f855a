"""When to work: hysteresis on made-up readings, and once on the machine's own."""

import os
from collections.abc import Iterable, Iterator
from types import SimpleNamespace

import psutil
import pytest

from sqlembed.worker import conditions
from sqlembed.worker.conditions import Condition, Load, OthersShare, condition


class Clock:
    """A clock that goes on by a second with each look."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def held(values: Iterable[float | None], *, settled: bool = False) -> list[bool]:
    """Whether the condition holds, with a reading of 0 to 1 each second."""
    clock, readings = Clock(), iter(values)
    made = Condition(lambda: next(readings), 0.2, 0.4, settled=settled, now=clock)
    found = []
    while True:
        try:
            found.append(made.holds())
        except StopIteration:
            return found
        clock.now += 1


def test_work_begins_after_ten_seconds_of_quiet() -> None:
    assert held([0.1] * 12) == [False] * 10 + [True] * 2


def test_a_moment_of_load_begins_the_ten_seconds_anew() -> None:
    assert held([0.1] * 9 + [0.3] + [0.1] * 11) == [False] * 20 + [True]


def test_work_goes_on_below_the_higher_bound_and_stops_at_once_above() -> None:
    found = held([0.1] * 11 + [0.3, 0.4, 0.41, 0.1, 0.3, 0.1])
    assert found[10:] == [True, True, True, False, False, False, False]


def test_settled_work_begins_at_once_and_begins_again_after_ten_seconds() -> None:
    found = held([0.0, 1.0] + [0.0] * 11, settled=True)
    assert found == [True, False] + [False] * 10 + [True]


def test_what_is_not_known_yet_neither_begins_nor_stops() -> None:
    assert held([None] * 12 + [0.1] * 10 + [None, 0.1, None]) == [False] * 23 + [True, True]


def test_after_a_rest_it_begins_anew() -> None:
    clock = Clock()
    made = Condition(lambda: 0.0, 0.2, 0.4, now=clock)
    assert not made.holds()
    clock.now += 10
    assert made.holds()
    made.rest()
    assert not made.holds()


def test_the_share_of_others_leaves_out_what_we_use() -> None:
    loads: Iterator[Load | None] = iter(
        [
            Load(100, 50, 7),
            Load(100.2, 50.2, 7),  # too soon to tell
            Load(110, 58, 13),  # 8 of 10 seconds were busy, 6 of them ours
            Load(120, 60, 3),  # one of our processes has ended
            None,
            Load(130, 70, 13),
        ]
    )
    share = OthersShare(lambda: next(loads))
    assert [share() for _ in range(5)] == [None, pytest.approx(0.2), pytest.approx(0.2), 0.0, 0.0]


@pytest.mark.parametrize(
    ("battery", "expected"),
    [
        (None, 0.0),
        (SimpleNamespace(power_plugged=True), 0.0),
        (SimpleNamespace(power_plugged=None), 0.0),
        (SimpleNamespace(power_plugged=False), 1.0),
    ],
)
def test_only_a_battery_that_is_used_stops_work(
    battery: object, expected: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(psutil, "sensors_battery", lambda: battery, raising=False)
    assert conditions.on_battery() == expected
    assert condition("charging").holds() == (expected == 0.0)


def test_a_system_without_batteries_counts_as_on_mains(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(psutil, "sensors_battery", raising=False)
    assert condition("charging").holds()


def test_a_system_that_does_not_tell_its_load_counts_as_idle(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail() -> None:
        raise OSError("no /proc")

    monkeypatch.setattr(psutil, "cpu_times", fail)
    assert conditions.load([os.getpid()]) is None
    assert OthersShare(lambda: conditions.load([]))() == 0.0


def test_the_real_load_of_this_machine() -> None:
    mine = conditions.load([os.getpid(), 2**22 + 1])
    assert mine is not None
    assert 0 < mine.own <= mine.busy < mine.all
    until = os.times().elapsed
    while os.times().elapsed < until + 0.3:  # use a core, so that something was used
        pass
    later = conditions.load([os.getpid()])
    assert later is not None
    assert later.own > mine.own and later.all > mine.all and later.busy >= mine.busy
    assert condition("idle").holds() is False, "nothing is known yet"
    assert condition("always").holds()
