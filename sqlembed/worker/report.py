"""What a worker tells: lines about backlogs that are drained, and about what stands in the way."""

from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import NamedTuple

PERIOD_SECONDS = 60.0
"""Between two lines about one index."""


class At(NamedTuple):
    """Which index."""

    database: str
    name: str

    def __str__(self) -> str:
        """As lines begin."""
        return f"{self.database} {self.name}"


@dataclass
class _Counted:
    """What was done for an index since it was told last."""

    since: float
    rows: int = 0
    seconds: float = 0.0
    drained: bool = False


class Report:
    """Lines: one for a backlog that is drained, and one a minute while it drains, or trickles."""

    def __init__(
        self, tell: Callable[[str], None], warn: Callable[[str], None], until: str = ""
    ) -> None:
        """Write with *tell* what was done, and with *warn* what is wrong.

        :param until: what rows have to wait for
        """
        self._tell = tell
        self._until = until
        self._paused_at = -PERIOD_SECONDS
        self.warn = warn
        self._counted: dict[At, _Counted] = {}
        self._told: dict[At, float] = {}

    def advanced(self, at: At, rows: int, seconds: float, waiting: int) -> None:
        """So many *rows* were brought up to date, and about so many still wait."""
        counted = self._counted.setdefault(at, _Counted(monotonic() - seconds))
        counted.rows += rows
        counted.seconds += seconds
        counted.drained = False
        passed = monotonic() - counted.since
        if passed >= PERIOD_SECONDS:
            rate = counted.rows / passed
            left = f", {_time(waiting / rate)} left" if rate else ""
            self._line(at, f"{counted.rows:,} rows, {rate:,.0f} rows/s; {waiting:,} wait{left}")

    def paused(self) -> None:
        """Rows wait, and may not be worked on now."""
        if monotonic() - self._paused_at >= PERIOD_SECONDS:
            self._tell(f"rows wait until {self._until}")
        self._paused_at = monotonic()

    def drained(self, at: At) -> None:
        """Nothing waits that may be worked on now."""
        if at in self._counted:
            self._counted[at].drained = True
            self.rest()

    def rest(self) -> None:
        """Time passes: tell what was not, so as to be brief."""
        for at, counted in list(self._counted.items()):
            if (
                counted.drained
                and monotonic() - self._told.get(at, -PERIOD_SECONDS) >= PERIOD_SECONDS
            ):
                self._tell_done(at, counted)

    def end(self) -> None:
        """Tell the rest."""
        for at, counted in list(self._counted.items()):
            self._tell_done(at, counted)

    def _tell_done(self, at: At, counted: _Counted) -> None:
        self._line(at, f"{counted.rows:,} rows in {counted.seconds:.1f} s")

    def _line(self, at: At, words: str) -> None:
        self._counted.pop(at)
        self._told[at] = monotonic()
        self._tell(f"{at}: {words}")


def _time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"
