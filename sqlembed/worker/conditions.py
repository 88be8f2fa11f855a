"""When to work: always, on mains, or while others leave the machine idle; with hysteresis."""

import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from time import monotonic
from typing import NamedTuple

import psutil

WHEN = ("always", "idle", "charging")
WAITING = {"idle": "the machine is idle", "charging": "the machine is on mains"}
"""What rows wait for."""
SETTLED_SECONDS = 10.0
"""How long all must be well before work begins, or begins again."""
IDLE_BELOW, BUSY_ABOVE = 0.2, 0.4
"""The share of the cores that others use, below which work begins, and above which it stops."""
SHORTEST_SECONDS = 0.5
"""Between two readings of the load: a shorter time says too little."""


class Condition:
    """Whether to work now: begins when a reading was low for a while, and stops when it is high."""

    def __init__(
        self,
        read: Callable[[], float | None],
        begin_below: float,
        stop_above: float,
        *,
        settled: bool = False,
        now: Callable[[], float] = monotonic,
    ) -> None:
        """Judge what *read* gives; None, where nothing is known yet, neither begins nor stops.

        :param settled: whether to begin at once, if the first reading is low
        """
        self._read = read
        self._bounds = begin_below, stop_above
        self._now = now
        self._settled = settled
        self.rest()

    def rest(self) -> None:
        """Nothing is to be done: it begins anew with the next reading."""
        self._works = False
        self._low_since = self._now() - SETTLED_SECONDS if self._settled else None

    def holds(self) -> bool:
        """Whether to work now, by a reading taken now."""
        value = self._read()
        begin_below, stop_above = self._bounds
        if value is None:
            return self._works
        if self._works:
            self._works = value <= stop_above
            self._low_since = None
        elif value > begin_below:
            self._low_since = None
        else:
            if self._low_since is None:
                self._low_since = self._now()
            self._works = self._now() - self._low_since >= SETTLED_SECONDS
        return self._works


class Load(NamedTuple):
    """Seconds that cores have spent, since some time in the past."""

    all: float
    """However spent."""
    busy: float
    own: float
    """Of the busy ones: by sqlembed's own processes."""


class OthersShare:
    """Which share of the machine's cores others use, from one reading to the next."""

    def __init__(self, read: Callable[[], Load | None]) -> None:
        """Compare what *read* gives."""
        self._read = read
        self._last = read()
        self._share: float | None = None

    def __call__(self) -> float | None:
        """The share since the last reading, 0 to 1; None before there are two."""
        load, last = self._read(), self._last
        if load is None:  # it cannot be told here: then nobody is in the way
            return 0.0
        if last is None:
            self._last = load
            return self._share
        passed = load.all - last.all
        if passed < SHORTEST_SECONDS:
            return self._share
        others = (load.busy - last.busy) - max(0.0, load.own - last.own)
        self._last, self._share = load, min(1.0, max(0.0, others / passed))
        return self._share


def condition(when: str, processes: Callable[[], Iterable[int]] = lambda: ()) -> Condition:
    """The condition called *when*, one of ``WHEN``.

    :param processes: other processes that compute for us
    """
    if when == "charging":
        return Condition(on_battery, 0.5, 0.5, settled=True)
    if when == "idle":
        share = OthersShare(lambda: load({os.getpid(), *processes()}))
        return Condition(share, IDLE_BELOW, BUSY_ABOVE)
    return Condition(lambda: 0.0, 1.0, 1.0, settled=True)


def on_battery() -> float:
    """1 while a battery feeds the machine; 0 on mains, without a battery, or if nobody can tell."""
    battery = psutil.sensors_battery() if hasattr(psutil, "sensors_battery") else None
    return 1.0 if battery is not None and battery.power_plugged is False else 0.0


def load(own: Iterable[int]) -> Load | None:
    """How the cores' time was spent; None where the system does not tell.

    :param own: the processes that are ours; those that have ended count for nothing
    """
    try:
        times = psutil.cpu_times()._asdict()
    except (OSError, RuntimeError, psutil.Error):
        return None
    for counted in ("guest", "guest_nice"):  # in user and nice already
        times.pop(counted, None)
    whole = sum(times.values())
    idle = times["idle"] + times.get("iowait", 0.0) + times.get("steal", 0.0)
    spent = 0.0
    for process in own:
        with suppress(psutil.Error):
            used = psutil.Process(process).cpu_times()
            spent += used.user + used.system
    return Load(whole, whole - idle, spent)
