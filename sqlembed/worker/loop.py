"""The loop: a page of each index in turn, of each database; and sleep, where nothing waits."""

from collections.abc import Callable, Iterable

from sqlembed.worker.conditions import Condition
from sqlembed.worker.database import Database, Opened
from sqlembed.worker.report import Report
from sqlembed.worker.stop import Stop

FIRST_PAUSE, LONGEST_PAUSE = 0.2, 2.0
"""Seconds between two looks where nothing waits: longer and longer."""
SLOWER = 1.3
CONDITION_PAUSE = 1.0
"""Between two looks whether the machine may be worked on."""


class Worker:
    """Works on many databases, in one thread, until it is stopped."""

    def __init__(
        self,
        paths: Iterable[str],
        connect: Callable[[str], Opened],
        stop: Stop,
        report: Report,
        condition: Condition,
    ) -> None:
        """Begin nothing yet.

        :param connect: opens a database to write, and makes no file
        """
        self._stop = stop
        self._report = report
        self._condition = condition
        self._databases = [Database(path, connect, stop, report) for path in dict.fromkeys(paths)]

    def run(self, *, once: bool = False, rest: Callable[[], None] = lambda: None) -> bool:
        """Work until it is stopped; with *once* until nothing is left to be done now.

        :param rest: called between two looks where nothing was to be done
        :returns: whether all went well
        """
        pause = FIRST_PAUSE
        try:
            while not self._stop.asked():
                ready = [database for database in self._databases if database.look()]
                if ready and self._condition.holds():
                    self._round(ready)
                    pause = FIRST_PAUSE
                elif ready:
                    self._report.paused()
                    rest()
                    self._stop.wait(CONDITION_PAUSE)
                elif once and not any(each.locked for each in self._databases):
                    break
                else:
                    self._condition.rest()
                    self._report.rest()
                    rest()
                    self._stop.wait(pause)
                    pause = min(LONGEST_PAUSE, SLOWER * pause)
        finally:
            for each in self._databases:
                each.close()
            self._report.end()
        return not any(each.failed for each in self._databases)

    def _round(self, ready: list[Database]) -> None:
        """A page of each index that waits."""
        for database in ready:
            for share in database.turns():
                if self._stop.asked() or not self._condition.holds():
                    return
                database.page(share)
