"""Store the vectors of rows that wait, step by step, so that a bar can move."""

import time

import apsw

from sqlembed.cli.progress import Bar
from sqlembed.errors import InputError
from sqlembed.plan import SqlValue

WAITING = "SELECT waiting FROM sqlembed_status WHERE name = ? COLLATE NOCASE"
NEXT = """
SELECT indexed + waiting, reindexing FROM sqlembed_status
WHERE name = ? COLLATE NOCASE AND reindexing IS NOT NULL"""
FLUSH = "SELECT sqlembed_flush(?, ?)"
FEWEST_ROWS = 128
MOST_ROWS = 512
"""Rows in a step: as many as take about a second, within these bounds. Steps of 128 rows reach
0.97 of the speed of 512; of 64, 0.95."""


def store_waiting(connection: apsw.Connection, index: str, bar: Bar) -> int:
    """Store what waited when it began, each step committed; returns the number of rows.

    :raises InputError: some rows fail; the others are stored
    """
    total = waiting = _waiting(connection, index)
    done, step = 0, FEWEST_ROWS
    failure: InputError | None = None
    while waiting:
        bar.update(index, done, total)
        begun = time.monotonic()
        try:
            stored = int(str(connection.execute(FLUSH, (index, step)).fetchall()[0][0]))
        except InputError as error:  # what failed is not tried by the next step
            if failure is not None and str(error) == str(failure):
                break  # it is about something else
            failure = failure or error
            stored = waiting - _waiting(connection, index)
        else:
            if not stored:
                break
        done += stored
        waiting = max(0, total - done)
        rate = stored / (time.monotonic() - begun)
        step = max(FEWEST_ROWS, min(MOST_ROWS, int(rate)))
    if failure is not None:
        raise failure
    return done


def fill_next(connection: apsw.Connection, index: str, bar: Bar) -> int:
    """Store rows of what is to take the index's place, until it has, or cannot.

    :returns: the number of rows, those of the index itself that changed meanwhile included
    :raises InputError: some rows fail; the others are stored
    """
    done, step, total = 0, FEWEST_ROWS, 0
    failure: InputError | None = None
    before: list[tuple[SqlValue, ...]] = []
    while (now := connection.execute(NEXT, (index,)).fetchall()) and now != before:
        before = now
        total = max(total, int(str(now[0][0])))
        bar.update(index, done, total)
        begun = time.monotonic()
        try:
            stored = int(str(connection.execute(FLUSH, (index, step)).fetchall()[0][0]))
        except InputError as error:  # what failed is not tried by the next step
            if failure is not None and str(error) == str(failure):
                break  # it is about something else
            failure = failure or error
            before = []
        else:
            done += stored
            step = max(FEWEST_ROWS, min(MOST_ROWS, int(stored / (time.monotonic() - begun))))
            before = [] if stored else before
    if failure is not None:
        raise failure
    return done


def _waiting(connection: apsw.Connection, index: str) -> int:
    found = connection.execute(WAITING, (index,)).fetchall()
    return int(str(found[0][0])) if found else 0
