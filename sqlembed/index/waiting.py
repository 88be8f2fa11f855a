"""Which rows wait: those on the log, and those in the backlog.

A row that waits has perhaps changed since its vectors were stored, so these are not to be used.
"""

import json
from collections.abc import Collection

from sqlembed.index.catalog import Index
from sqlembed.index.source import HIGHEST
from sqlembed.plan import Plan, Statement

ON_LOG = "SELECT key FROM main.sqlembed_queue WHERE index_id = {} AND key IS NOT NULL"
# A million rows may wait there, and NOT IN would gather them all first.
NOT_IN_BACKLOG = """NOT EXISTS (
    SELECT 1 FROM main.sqlembed_backlog WHERE index_id = {index} AND key = {table}.key
)"""
ON_LOG_ALONE = """
SELECT count(DISTINCT key) FROM main.sqlembed_queue AS log
WHERE index_id = ?1 {condition} AND NOT EXISTS (
    SELECT 1 FROM main.sqlembed_backlog WHERE index_id = ?1 AND key = log.key
)"""
COUNT_LOGGED = "SELECT count(DISTINCT key) FROM main.sqlembed_queue WHERE index_id = ?1 {condition}"
COUNT_AMONG = f"""
SELECT count(*) + ({ON_LOG_ALONE}) FROM main.sqlembed_backlog WHERE index_id = ?1 {{condition}}"""
# SQLite counts a whole table by its pages, five times as fast as the rows of one index.
COUNT = f"""
SELECT CASE
    WHEN EXISTS (SELECT 1 FROM main.sqlembed_backlog WHERE index_id < ?1)
    OR EXISTS (SELECT 1 FROM main.sqlembed_backlog WHERE index_id > ?1)
    THEN (SELECT count(*) FROM main.sqlembed_backlog WHERE index_id = ?1)
    ELSE (SELECT count(*) FROM main.sqlembed_backlog)
END + ({ON_LOG_ALONE.format(condition="")})"""
AMONG = "AND key IN (SELECT value FROM json_each(?2))"
# Stored rows in the backlog: a look-up for each that is stored, or for each in the backlog. Of new
# rows these are mostly different keys altogether.
STORED_AND_LISTED = """
SELECT count(DISTINCT key) FROM main.{chunks} AS stored WHERE key BETWEEN
    (SELECT min(key) FROM main.sqlembed_backlog WHERE index_id = ?1)
    AND (SELECT max(key) FROM main.sqlembed_backlog WHERE index_id = ?1)
AND EXISTS (SELECT 1 FROM main.sqlembed_backlog WHERE index_id = ?1 AND key = stored.key)"""
LISTED_AND_STORED = """
SELECT count(*) FROM main.sqlembed_backlog AS listed WHERE index_id = ?1 AND EXISTS (
    SELECT 1 FROM main.{chunks} WHERE key = listed.key
)"""
LOG_IS_STORED = "AND EXISTS (SELECT 1 FROM main.{chunks} WHERE key = log.key)"
NEWEST_ON_LOG = """
SELECT key, generation FROM main.sqlembed_queue AS sqlembed_waits
WHERE index_id = ?1 AND key IS NOT NULL AND generation < ?2 AND {condition}
ORDER BY generation DESC LIMIT ?3"""
# What failed before is not tried by each search.
NEWEST_IN_BACKLOG = """
SELECT key, generation FROM main.sqlembed_backlog AS sqlembed_waits
WHERE index_id = ?1 AND due IS NOT NULL AND error IS NULL AND generation < ?2 AND {condition}
ORDER BY generation DESC LIMIT ?3"""
WAITS_AMONG = " AND sqlembed_waits.key IN (SELECT value FROM json_each(?4))"


class Newest:
    """The keys of the rows that wait and may be tried, page by page, the newest first.

    What is on the log comes before what is in the backlog. A row that changed twice may come twice.
    """

    def __init__(
        self, index: Index, size: int, keys: list[int] | None = None, condition: str = "true"
    ) -> None:
        """Pages of *size* keys, of those among *keys*, if given.

        :param condition: SQL that is true of those wanted; ``sqlembed_waits.key`` is the key
        """
        self._values = (size,) if keys is None else (size, json.dumps(keys))
        condition += "" if keys is None else WAITS_AMONG
        tables = [NEWEST_ON_LOG, *([NEWEST_IN_BACKLOG] if index.has_backlog else [])]
        self._left = [sql.format(condition=condition) for sql in tables]
        self._index_id, self._before = index.index_id, HIGHEST

    def page(self) -> Plan[list[int]]:
        """The next keys; none when there are no more."""
        while self._left:
            asked = (self._index_id, self._before, *self._values)
            if rows := (yield Statement(self._left[0], asked)):
                self._before = int(str(rows[-1][1]))
                return [int(str(key)) for key, _ in rows]
            del self._left[0]
            self._before = HIGHEST
        return []


def nowhere(
    index: Index,
    table: str,
    logged: Collection[int] | None = None,
    *,
    in_backlog: bool = True,
) -> str:
    """SQL that is true where ``key`` of *table*, as the statement calls it, does not wait.

    :param logged: the keys on the log, where they are known; None to look there
    :param in_backlog: whether any may be in the backlog that is not among *logged*
    """
    keys = ON_LOG.format(index.index_id) if logged is None else ", ".join(map(str, logged))
    conditions = [f"{table}.key NOT IN ({keys})"] if keys else []
    if index.has_backlog and in_backlog:
        conditions.append(NOT_IN_BACKLOG.format(index=index.index_id, table=table))
    return " AND ".join(conditions) or "true"


def count(index: Index, keys: list[int] | None = None) -> Plan[int]:
    """How many rows wait, each counted once; of those among *keys*, if given."""
    among = () if keys is None else (json.dumps(keys),)
    sql = COUNT if keys is None else COUNT_AMONG
    sql = sql if index.has_backlog else COUNT_LOGGED
    sql = sql.format(condition=AMONG if among else "")
    return int(str((yield Statement(sql, (index.index_id, *among)))[0][0]))


def count_current(index: Index, stored: int, waits: int) -> Plan[int]:
    """How many rows have vectors and do not wait.

    :param stored: how many have vectors
    :param waits: how many wait
    """
    if not index.has_backlog:
        both = [COUNT_LOGGED.format(condition="AND key IN (SELECT key FROM main.{chunks})")]
    else:
        listed = LISTED_AND_STORED if waits < stored else STORED_AND_LISTED
        both = [listed, ON_LOG_ALONE.format(condition=LOG_IS_STORED)]
    for sql in both:
        found = yield Statement(sql.format(chunks=index.chunk_table), (index.index_id,))
        stored -= int(str(found[0][0]))
    return stored
