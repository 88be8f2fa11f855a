"""Rows that wait for their vectors, made part of an answer: read, and embedded on the spot.

Nothing is written to the application's database.
"""

import time
from collections.abc import Collection, Iterable
from typing import NamedTuple

from sqlembed.engine.interface import Engine
from sqlembed.index import source as sources
from sqlembed.index.catalog import Index
from sqlembed.index.flush import Embedded, check_space, embed_rows
from sqlembed.plan import Plan, Statement

MOST_ROWS = 2000
"""Waiting rows that one search looks at, the newest first."""
MOST_CHUNKS = 256
"""Texts among them that one search computes; those it remembers are not counted."""
SLICE_CHUNKS = 32
"""Texts that are computed between two looks at the clock."""

NEWEST = """
SELECT key FROM main.sqlembed_queue WHERE index_id = ?
GROUP BY key ORDER BY max(generation) DESC LIMIT ?"""
COUNT = "SELECT count(DISTINCT key) FROM main.sqlembed_queue WHERE index_id = ?"
AMONG = "SELECT DISTINCT key FROM main.sqlembed_queue WHERE index_id = ? AND key IN ({})"
COUNT_STORED = """
SELECT count(*) FROM (
    SELECT key FROM main.{} EXCEPT SELECT key FROM main.sqlembed_queue WHERE index_id = ?
)"""
NOT_WAITING = "key NOT IN (SELECT key FROM main.sqlembed_queue WHERE index_id = {})"


class Waiting(NamedTuple):
    """The rows that wait."""

    texts: dict[int, str]
    """By key, the newest first; those whose text is NULL, or which are gone, are left out."""
    total: int
    """How many wait."""
    unread: int
    """How many of them were not looked at, or cannot be read."""

    def missed(self, embedded: Collection[int]) -> int:
        """How many rows no answer can have, if those of these keys are embedded."""
        return self.unread + len(self.texts) - len(embedded)


def read(index: Index, keys: list[int] | None) -> Plan[Waiting]:
    """The texts of the rows that wait; of those among *keys*, if given."""
    newest = yield Statement(NEWEST, (index.index_id, MOST_ROWS))
    if not newest:
        return Waiting({}, 0, 0)
    waiting: list[int] = []
    if keys is None:
        waiting = [int(str(row[0])) for row in newest]
        total = int(str((yield Statement(COUNT, (index.index_id,)))[0][0]))
    else:
        for part in sources.slices(keys):
            marks = ", ".join("?" * len(part))
            rows = yield Statement(AMONG.format(marks), (index.index_id, *part))
            waiting += [int(str(row[0])) for row in rows]
        total = len(waiting)
    encoding = yield from sources.text_encoding()
    found = yield from sources.read_rows(index.source, index.key_table, waiting, encoding)
    read = {key: found.rows[key][1] for key in waiting if key in found.rows}
    texts = {key: text for key, text in read.items() if text is not None}
    return Waiting(texts, total, total - len(waiting) + len(found.failed))


def embed(
    engine: Engine, index: Index, texts: dict[int, str], seconds: float | None = None
) -> dict[int, list[Embedded]]:
    """The chunks of *texts* with their vectors, as many as are remembered or may be computed now.

    :param texts: by key, those that matter most first
    :param seconds: after which no more is begun; None to let the number of chunks alone decide
    """
    if not texts:
        return {}
    check_space(engine, index)
    embedded: dict[int, list[Embedded]] = {}
    until = None if seconds is None else time.monotonic() + seconds
    for part in _affordable(engine, index, texts, slices=until is not None):
        embedded |= embed_rows(engine, index, part)
        if until is not None and time.monotonic() > until:
            break
    check_space(engine, index)  # again: computing may have loaded weights installed meanwhile
    return embedded


def coverage(index: Index, waiting: int, missed: int) -> Plan[float]:
    """The share of the index's rows that an answer has looked at."""
    if missed <= 0:
        return 1.0
    rows = yield Statement(COUNT_STORED.format(index.chunk_table), (index.index_id,))
    return 1.0 - missed / (int(str(rows[0][0])) + waiting)


def _affordable(
    engine: Engine, index: Index, texts: dict[int, str], *, slices: bool
) -> Iterable[dict[int, str]]:
    """Those of *texts* that may be embedded now: first what is remembered, then what is not."""
    chunking = index.options.chunking
    # A text that is remembered may yet have been read whole, where this index cuts it.
    whole = [] if chunking.tokens else list(texts.values())
    known = engine.recall(whole, index.model, "document")
    yield {key: text for key, text in texts.items() if text in known}
    unknown = {text: None for text in texts.values() if text not in known}
    room, begun = MOST_CHUNKS, 0
    chosen: set[str] = set()
    cut = engine.chunk(list(unknown), index.model, chunking)
    for text, chunks in zip(unknown, cut, strict=True):
        parts = list({part.text for part in chunks})
        missing = len(parts) - len(engine.recall(parts, index.model, "document"))
        # The first may exceed the budget alone, or a very long text would never be searched.
        if missing <= max(room, 0) or room == MOST_CHUNKS:
            room -= missing
            begun += missing
            chosen.add(text)
        if slices and begun >= SLICE_CHUNKS:
            yield {key: text for key, text in texts.items() if text in chosen}
            chosen, begun = set(), 0
    yield {key: text for key, text in texts.items() if text in chosen}
