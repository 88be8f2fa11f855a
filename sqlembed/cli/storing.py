"""Store the vectors of rows that wait, step by step, so that a bar can move."""

import time

import apsw

from sqlembed.cli.progress import Bar
from sqlembed.doors.plans import run
from sqlembed.errors import InputError
from sqlembed.index import catalog

COUNTS = "SELECT waiting, indexed + waiting FROM sqlembed_status WHERE name = ? COLLATE NOCASE"
FLUSH = "SELECT sqlembed_flush(?, ?)"
FEWEST_ROWS = 128
MOST_ROWS = 512
"""Rows in a step: as many as take about a second, within these bounds. Steps of 128 rows reach
0.97 of the speed of 512; of 64, 0.95."""


def store_waiting(connection: apsw.Connection, index: str, bar: Bar) -> int:
    """Store what waited when it began, each step committed; returns the number of rows.

    :raises InputError: some rows fail; the others are stored
    """
    total, _ = _counts(connection, index)
    done, steps = 0, _Steps(connection, index)
    while done < total:
        bar.update(index, done, total)
        if (stored := steps.take()) is None:
            break
        done += stored
    steps.end()
    return done


def fill_next(connection: apsw.Connection, index: str, bar: Bar) -> int:
    """Store rows of what is to take the index's place, until it has, or cannot.

    :returns: the number of rows, those of the index itself that changed meanwhile included
    :raises InputError: some rows fail; the others are stored
    """
    if not _has_next(connection, index):
        return 0
    _, total = _counts(connection, index)
    done, steps = 0, _Steps(connection, index)
    while _has_next(connection, index):
        bar.update(index, done, max(done, total))
        if (stored := steps.take()) is None:
            break
        done += stored
    steps.end()
    return done


class _Steps:
    """Flushes of about a second each."""

    def __init__(self, connection: apsw.Connection, index: str) -> None:
        """Store nothing yet."""
        self._connection = connection
        self._index = index
        self._rows = FEWEST_ROWS
        self._failure: InputError | None = None

    def take(self) -> int | None:
        """How many rows one more has stored, 0 where some failed; None if there is no more."""
        begun = time.monotonic()
        try:
            found = self._connection.execute(FLUSH, (self._index, self._rows)).fetchall()
        except InputError as error:  # what failed is not tried by the next step
            if self._failure is not None and str(error) == str(self._failure):
                return None  # it is about something else
            self._failure = self._failure or error
            return 0
        stored = int(str(found[0][0]))
        rate = stored / (time.monotonic() - begun)
        self._rows = max(FEWEST_ROWS, min(MOST_ROWS, int(rate)))
        return stored or None

    def end(self) -> None:
        """Raise what says which rows failed, if any did."""
        if self._failure is not None:
            raise self._failure


def _counts(connection: apsw.Connection, index: str) -> tuple[int, int]:
    """How many rows wait, and how many there are."""
    found = connection.execute(COUNTS, (index,)).fetchall()
    return (int(str(found[0][0])), int(str(found[0][1]))) if found else (0, 0)


def _has_next(connection: apsw.Connection, index: str) -> bool:
    every = run(connection, catalog.every())
    return any(each.state == "shadow" and each.name.lower() == index.lower() for each in every)
