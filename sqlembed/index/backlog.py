"""The backlog: rows that wait for their vectors, each once; who works on them, and what went wrong.

Triggers append to a log (``triggers``). Whoever stores vectors first absorbs the log into the
backlog, leases a page of it, computes outside any transaction, and stores what still waits with
the generation that was leased. Leases only save double work; generations make it right.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from time import perf_counter, time
from typing import NamedTuple

from sqlembed.index import catalog, triggers
from sqlembed.index.catalog import Index
from sqlembed.plan import Boundary, Many, Plan, Row, Statement

SLICE_ENTRIES = 2000
"""Entries of the log that one transaction absorbs at first; then as many as take about
SHORT to LONG seconds, so that no writer waits long."""
SHORT, LONG = 0.03, 0.1
LEASE_SECONDS = 60
DELAY_SECONDS = 30
"""Before a row that failed is tried again; four times that after the next failure, and so on."""
MOST_TRIES = 4
"""Failures after which a row is set aside."""
ALONE_TAKES = 3
"""Leases that never came back, after which a row is worked on alone: one of a page may have ended
the process, and the others shall not suffer."""
MOST_TAKES = 6
"""And after which it is set aside."""
ENDED = "the process ended while embedding it"
CLOCK_LEASE, CLOCK_DUE = 600, 10_000
"""Farther ahead than any that is given: then the clock was set back, and it means nothing."""

NEWEST = "SELECT coalesce(max(generation), 0) FROM main.sqlembed_queue"
UNABSORBED = "SELECT 1 FROM main.sqlembed_queue WHERE index_id <> 0 AND generation <= ? LIMIT 1"
SLICE_END = """
SELECT max(generation) FROM (
    SELECT generation FROM main.sqlembed_queue WHERE generation <= ? ORDER BY generation LIMIT ?
)"""
ABSORB = """
INSERT INTO main.sqlembed_backlog(index_id, key, generation, since)
SELECT index_id, key, max(generation), ?2 FROM main.sqlembed_queue
WHERE generation <= ?1 AND key IS NOT NULL AND index_id IN
    (SELECT index_id FROM main.sqlembed_catalog WHERE state <> 'dropped')
GROUP BY index_id, key
ON CONFLICT(index_id, key) DO UPDATE SET
    generation = excluded.generation, due = 0, lease = 0, takes = 0, tries = 0, error = NULL
WHERE excluded.generation > generation"""
# The newest entry stays, done or not: the next one must get a generation never used before.
ABSORBED = """
DELETE FROM main.sqlembed_queue
WHERE generation <= ? AND generation < (SELECT max(generation) FROM main.sqlembed_queue)"""
MARK_ABSORBED = "UPDATE main.sqlembed_queue SET index_id = 0 WHERE generation <= ?"

# ?1 index, ?2 now, ?3 after, ?4 up to, ?5 others' too
MAY_BE_TAKEN = f"""
WHERE index_id = ?1 AND due IS NOT NULL AND (due <= ?2 OR due > ?2 + {CLOCK_DUE})
AND (?5 OR lease <= ?2 OR lease > ?2 + {CLOCK_LEASE}) AND generation > ?3 AND generation <= ?4"""
SELECT = f"""
SELECT key, generation, takes FROM main.sqlembed_backlog {MAY_BE_TAKEN}
ORDER BY generation LIMIT ?6"""
TAKE = f"UPDATE main.sqlembed_backlog SET lease = ?6, takes = takes + 1 {MAY_BE_TAKEN}"
ANY = f"SELECT 1 FROM main.sqlembed_backlog {MAY_BE_TAKEN} LIMIT 1"
SAME = "WHERE index_id = ? AND key = ? AND generation = ?"
SET_ASIDE = f"UPDATE main.sqlembed_backlog SET due = NULL, lease = 0, error = ? {SAME}"
RENEW = f"UPDATE main.sqlembed_backlog SET lease = ? {SAME}"
CLEAR = f"UPDATE main.sqlembed_backlog SET takes = min(takes, 1) {SAME}"
GIVE_BACK = f"UPDATE main.sqlembed_backlog SET lease = 0, takes = max(0, takes - 1) {SAME}"
# Only while it is as the lease left it: what was given back may be another's now.
LET_GO = f"{GIVE_BACK} AND lease > 0 AND takes = ?"
FAIL = f"""
UPDATE main.sqlembed_backlog SET tries = tries + 1, error = ?, lease = 0, takes = max(0, takes - 1),
    due = CASE WHEN tries + 1 < {MOST_TRIES} THEN ? + {DELAY_SECONDS} * (1 << 2 * tries) END
{SAME}"""
STILL = """
SELECT key, generation FROM main.sqlembed_backlog
WHERE index_id = ? AND key IN (SELECT value FROM json_each(?))"""
DONE = f"DELETE FROM main.sqlembed_backlog {SAME}"
FORGET = "DELETE FROM main.sqlembed_backlog WHERE index_id = ? AND key = ? AND generation <= ?"
FORGET_INDEX = "DELETE FROM main.sqlembed_backlog WHERE index_id = ?"
REASONS = """
SELECT key, error FROM main.sqlembed_backlog
WHERE index_id = ? AND error IS NOT NULL AND key IN (SELECT value FROM json_each(?))"""
NEXT = """
SELECT min(max(due, lease)) FROM main.sqlembed_backlog WHERE index_id = ? AND due IS NOT NULL"""
FAILED = "SELECT count(*) FROM main.sqlembed_backlog WHERE index_id = ? AND error IS NOT NULL"
RETRY = """
UPDATE main.sqlembed_backlog SET due = 0, lease = 0, takes = 0, tries = 0, error = NULL
WHERE index_id = ? AND error IS NOT NULL"""
FILL = """
INSERT INTO main.sqlembed_backlog(index_id, key, generation, since)
SELECT ?1, {key}, ?2 + row_number() OVER (), ?3 FROM {table} WHERE {key} IS NOT NULL"""
# So that what is written from now on is newer than what was filled in.
USE_UP = """
INSERT INTO main.sqlembed_queue(generation, index_id, key)
SELECT last, 0, NULL
FROM (SELECT max(generation) AS last FROM main.sqlembed_backlog WHERE index_id = ?)
WHERE last > ?"""
SWEEP = """
DELETE FROM main.sqlembed_queue
WHERE index_id = 0 AND generation < (SELECT max(generation) FROM main.sqlembed_queue)"""


class Leased(NamedTuple):
    """A row that this process works on."""

    key: int
    generation: int
    takes: int = 0
    """Leases before this one that never came back."""


def now() -> int:
    """Seconds since 1970."""
    return int(time())


def newest() -> Plan[int]:
    """The generation of the newest change: what waits now has none higher."""
    rows = yield Statement(NEWEST)
    return int(str(rows[0][0]))


def absorb(upto: int) -> Plan[None]:
    """Take what is on the log up to the generation *upto* into the backlog, slice by slice."""
    size = SLICE_ENTRIES
    while (yield from logged(upto)):
        begun = perf_counter()
        yield Boundary.BEGIN
        last = (yield Statement(SLICE_END, (upto, size)))[0][0]
        if last is not None:  # else another has absorbed it meanwhile
            yield Statement(ABSORB, (last, now()))
            yield Statement(ABSORBED, (last,))
            yield Statement(MARK_ABSORBED, (last,))
        yield Boundary.COMMIT
        took = perf_counter() - begun
        if took < SHORT:
            size *= 2
        elif took > LONG:
            size = max(1, size // 2)


def logged(upto: int) -> Plan[bool]:
    """Whether anything is on the log up to the generation *upto*."""
    return bool((yield Statement(UNABSORBED, (upto,))))


def waits(index: Index, upto: int, *, others: bool = True) -> Plan[bool]:
    """Whether any row may be worked on now; with *others* also one that somebody has leased."""
    return bool((yield Statement(ANY, (index.index_id, now(), 0, upto, others))))


def next_due(index: Index) -> Plan[int | None]:
    """When the first row that waits is due and free, in seconds since 1970; None if none waits."""
    ((at,),) = yield Statement(NEXT, (index.index_id,))
    return at if isinstance(at, int) else None


def lease(
    index: Index, after: int, upto: int, most: int, *, others: bool = False
) -> Plan[list[Leased]]:
    """Lease rows to work on, the oldest first; none if the index is gone or nothing is due.

    :param after: the generation of the last row that was leased before; 0 to begin
    :param upto: the highest generation
    :param others: also what others have leased: they may have ended, and else do it twice
    """
    while True:
        asked = (index.index_id, now(), after, upto, others)
        yield Boundary.BEGIN
        if not (yield from catalog.still(index)):
            yield Boundary.COMMIT
            return []
        rows = yield Statement(SELECT, (*asked, most))
        found = [Leased(*row) for row in rows]  # type: ignore[arg-type]
        suspects = [row for row in found if row.takes >= MOST_TAKES]
        if suspects:
            aside: list[Row] = [
                (ENDED, index.index_id, row.key, row.generation) for row in suspects
            ]
            yield Many(SET_ASIDE, aside)
        else:
            found = _together(found)
            if found:
                upto_last = (*asked[:3], found[-1].generation, others, asked[1] + LEASE_SECONDS)
                yield Statement(TAKE, upto_last)
        yield Boundary.COMMIT
        if not suspects:
            return found


def _together(found: list[Leased]) -> list[Leased]:
    """Those of *found* that may be worked on at once: the first ones, or the first alone."""
    for position, row in enumerate(found):
        if row.takes >= ALONE_TAKES:
            return found[: max(1, position)]
    return found


def renew(index: Index, leased: Iterable[Leased]) -> Plan[None]:
    """Go on working on *leased*."""
    until = now() + LEASE_SECONDS
    yield Boundary.BEGIN
    yield Many(RENEW, [(until, index.index_id, row.key, row.generation) for row in leased])
    yield Boundary.COMMIT


def clear(index: Index, leased: Iterable[Leased]) -> Plan[None]:
    """Forget leases of *leased* before this one that never came back: the process lives.

    What ended those was not a text of these. A flush that cannot write (no room on the disk, a
    lock) leaves leases behind, too, and no row may be set aside for that.
    """
    rows = [row for row in leased if row.takes]
    if rows:
        yield Boundary.BEGIN
        yield Many(CLEAR, [(index.index_id, row.key, row.generation) for row in rows])
        yield Boundary.COMMIT


def give_back(index: Index, leased: Iterable[Leased]) -> Plan[None]:
    """Let others take *leased*: nothing is known against these rows."""
    yield Boundary.BEGIN
    yield Many(GIVE_BACK, [(index.index_id, row.key, row.generation) for row in leased])
    yield Boundary.COMMIT


def let_go(index: Index, leased: Iterable[Leased]) -> Plan[None]:
    """Give back those of *leased* that nobody has given back yet, nor stored, nor charged."""
    rows: list[Row] = [(index.index_id, r.key, r.generation, r.takes + 1) for r in leased]
    yield Boundary.BEGIN
    yield Many(LET_GO, rows)
    yield Boundary.COMMIT


def reasons(index: Index, leased: Iterable[Leased]) -> Plan[dict[int, str]]:
    """Why those of *leased* failed that did, by key."""
    keys = json.dumps([row.key for row in leased])
    rows = yield Statement(REASONS, (index.index_id, keys))
    return {int(str(key)): str(error) for key, error in rows}


def fail(index: Index, leased: Iterable[Leased], reasons: Mapping[int, str]) -> Plan[None]:
    """Note why rows of *leased* failed, by key, and when they are tried again, if they are."""
    if not reasons:
        return
    at, number = now(), index.index_id
    rows = [row for row in leased if row.key in reasons]
    yield Boundary.BEGIN
    yield Many(FAIL, [(reasons[r.key], at, number, r.key, r.generation) for r in rows])
    yield Boundary.COMMIT


def still(index: Index, leased: Sequence[Leased]) -> Plan[list[Leased]]:
    """Those of *leased* that wait and have not changed; asked within the transaction that stores.

    The others were stored by somebody else, perhaps with a newer text.
    """
    keys = json.dumps([row.key for row in leased])
    waiting = set((yield Statement(STILL, (index.index_id, keys))))
    return [row for row in leased if (row.key, row.generation) in waiting]


def done(index: Index, leased: Iterable[Leased]) -> Plan[None]:
    """Take *leased* off, within the transaction that stored them."""
    yield Many(DONE, [(index.index_id, row.key, row.generation) for row in leased])


def forget(index: Index, key: int, generation: int) -> Plan[None]:
    """Take off what waits of a row up to *generation*, within the transaction that stored it."""
    if index.has_backlog:
        yield Statement(FORGET, (index.index_id, key, generation))


def forget_index(index_id: int) -> Plan[None]:
    """Take off everything of an index; nothing else may refer to it any more."""
    yield Statement(FORGET_INDEX, (index_id,))


def retry(index: Index) -> Plan[int]:
    """Have what failed tried again, as if it never had; the number of rows."""
    yield Boundary.BEGIN
    rows = yield Statement(FAILED, (index.index_id,))
    yield Statement(RETRY, (index.index_id,))
    yield Boundary.COMMIT
    return int(str(rows[0][0]))


def fill(index: Index) -> Plan[int]:
    """Have every row of the table wait, within the transaction that made the index.

    :returns: the generation of the last one
    """
    script, table, key = triggers.every_key(index.index_id, index.source)
    if script:
        yield Statement(script)
    before = yield from newest()
    yield Statement(FILL.format(key=key, table=table), (index.index_id, before, now()))
    yield Statement(USE_UP, (index.index_id, before))
    yield Statement(SWEEP)
    return (yield from newest())
