"""How fast rows are stored: how many in which second, of the last minute."""

from time import time

from sqlembed.index.catalog import Index
from sqlembed.plan import Plan, Statement

SECONDS = 60
NOTE = """
INSERT INTO main.sqlembed_pace(index_id, at, rows) VALUES (?, ?, ?)
ON CONFLICT(index_id, at) DO UPDATE SET rows = rows + excluded.rows"""
PRUNE = f"DELETE FROM main.sqlembed_pace WHERE index_id = ?1 AND abs(at - ?2) > {SECONDS}"
FORGET_INDEX = "DELETE FROM main.sqlembed_pace WHERE index_id = ?"
RECENT = f"""
SELECT min(at), sum(rows) FROM main.sqlembed_pace
WHERE index_id = ?1 AND abs(at - ?2) <= {SECONDS}"""


def note(index: Index, rows: int) -> Plan[None]:
    """Remember that *rows* are stored, within the transaction that does it."""
    at = int(time())
    if rows:
        yield Statement(NOTE, (index.index_id, at, rows))
        yield Statement(PRUNE, (index.index_id, at))


def recent(index: Index) -> Plan[float]:
    """Rows stored a second since the first that was stored within the last minute."""
    if not index.has_blocks:
        return 0.0
    at = int(time())
    ((first, rows),) = yield Statement(RECENT, (index.index_id, at))
    if not isinstance(first, int):
        return 0.0
    return int(str(rows)) / max(1, at + 1 - first)


def forget_index(index_id: int) -> Plan[None]:
    """Forget an index's."""
    yield Statement(FORGET_INDEX, (index_id,))
