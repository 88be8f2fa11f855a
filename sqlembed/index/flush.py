"""Store the vectors of rows that wait: embed outside any write, then write what still holds."""

import json
from typing import NamedTuple

from sqlembed.engine.interface import Engine
from sqlembed.errors import InputError, SpaceError
from sqlembed.index import catalog, store
from sqlembed.index import source as sources
from sqlembed.index.catalog import Index
from sqlembed.plan import Boundary, Plan, Row, Statement

PAGE_ROWS = 512
"""Rows read, embedded and committed together."""
LOG_ENTRIES = 50_000
"""Entries of the log read at once: it has no index, so each reading goes through all of it."""

ENTRIES = """
SELECT key, generation FROM main.sqlembed_queue
WHERE index_id = ? AND generation <= ? AND key >= ? ORDER BY key, generation LIMIT ?"""
ENTRIES_OF_KEY = """
SELECT generation FROM main.sqlembed_queue
WHERE index_id = ? AND generation <= ? AND key = ? ORDER BY generation"""
# With the older ones of its key: a flush that is under way elsewhere has read one of these perhaps,
# with the row's text before this change, and stores it for good if it finds that entry still there.
ENTRY = """
SELECT key, generation FROM main.sqlembed_queue
WHERE index_id = ?1 AND generation <= ?2 AND key = (
    SELECT key FROM main.sqlembed_queue WHERE index_id = ?1 AND generation = ?2
) ORDER BY generation"""
NEWEST = "SELECT coalesce(max(generation), 0) FROM main.sqlembed_queue"
# A row that came back meanwhile waits under the same integer.
FORGET_KEYS = """
DELETE FROM main.{} WHERE key IN (SELECT value FROM json_each(?1))
AND key NOT IN (SELECT key FROM main.sqlembed_queue WHERE index_id = ?2)"""
STILL_WAITS = "SELECT 1 FROM main.sqlembed_queue WHERE index_id = ? AND generation = ?"
LOWEST, HIGHEST = -(1 << 63), (1 << 63) - 1
"""The integers of SQLite, and so the keys."""

Entries = dict[int, list[Row]]
"""Rows that wait: by key the generations of their entries, each as a row of one, oldest first."""


class Embedded(NamedTuple):
    """A chunk of a row's text, with its vector."""

    text: str
    start: int
    stop: int
    digest: bytes
    vector: bytes


def flush(engine: Engine, index: Index, most: int | None = None) -> Plan[int]:
    """Store every row that waits now, or *most* of them, page by page.

    :returns: the number of rows brought up to date
    """
    yield from catalog.check_watched(index)
    check_space(engine, index)
    # What is written from now on waits for the next flush, or this one might never end.
    newest = int(str((yield Statement(NEWEST))[0][0]))
    done, left = 0, most
    failed: dict[int, str] = {}
    first = LOWEST
    while first <= HIGHEST and (left is None or left > 0):
        entries = yield from _entries(index, newest, first)
        if not entries:
            break
        first = max(entries) + 1
        keys = list(entries) if left is None else list(entries)[:left]
        for start in range(0, len(keys), PAGE_ROWS):
            page = {key: entries[key] for key in keys[start : start + PAGE_ROWS]}
            done += yield from _store_page(engine, index, page, failed)
        left = None if left is None else left - len(keys)
    yield from _tidy(index, orphans=most is None)
    if failed:
        raise _unreadable(index, failed)
    return done


def _entries(index: Index, newest: int, first: int) -> Plan[Entries]:
    """Entries up to *newest* of the keys from *first* on, all of a key's together."""
    rows = yield Statement(ENTRIES, (index.index_id, newest, first, LOG_ENTRIES))
    entries: Entries = {}
    for key, generation in rows:
        entries.setdefault(int(str(key)), []).append((generation,))
    if len(rows) == LOG_ENTRIES:  # there may be more of the last key's
        key, _ = entries.popitem()
        if not entries:
            rest = yield Statement(ENTRIES_OF_KEY, (index.index_id, newest, key))
            entries = {key: rest}
    return entries


def _unreadable(index: Index, failed: dict[int, str]) -> InputError:
    key, reason = next(iter(failed.items()))
    which = f"the row of key {key}" if len(failed) == 1 else f"{len(failed)} rows, first key {key}"
    return InputError(
        f"index {index.name}: the expression {index.source.expression} fails on {which}: {reason};"
        " the other rows are stored, and these wait until they are changed"
    )


def store_row(engine: Engine, index: Index, generation: int) -> Plan[bool]:
    """Store the row of one entry, within the statement that wrote it."""
    yield from catalog.check_watched(index)
    check_space(engine, index)
    page: Entries = {}
    for key, entry in (yield Statement(ENTRY, (index.index_id, generation))):
        page.setdefault(int(str(key)), []).append((entry,))
    return bool((yield from _store_page(engine, index, page, {})))


def check_space(engine: Engine, index: Index) -> None:
    """Refuse to mix vectors of two embedding spaces.

    :raises SpaceError: the model's weights or settings are not those the index was made with
    """
    space = engine.space(index.model)
    if space.fingerprint != index.space:
        raise SpaceError(
            f"index {index.name} holds vectors of {index.model} as it was (space"
            f" {index.space[:12]}), and the {index.model} installed now is another (space"
            f" {space.fingerprint[:12]}): its weights or prompts changed. Make the index again:"
            f" SELECT sqlembed_drop('{index.name}'), then sqlembed_index()"
        )


def embed_rows(engine: Engine, index: Index, texts: dict[int, str]) -> dict[int, list[Embedded]]:
    """The chunks of each row's text with their vectors, by key; all in one batch."""
    space = engine.space(index.model)
    cut = engine.chunk(list(texts.values()), index.model, index.options.chunking)
    parts = dict(zip(texts, cut, strict=True))
    flat = [part.text for chunks in parts.values() for part in chunks]
    vectors = iter(engine.embed(flat, index.model, "document"))
    return {
        key: [
            Embedded(
                part.text, part.start, part.stop, space.key("document", part.text), next(vectors)
            )
            for part in chunks
        ]
        for key, chunks in parts.items()
    }


def _tidy(index: Index, *, orphans: bool) -> Plan[None]:
    """Drop what is done from the log, and what is stored of rows that REPLACE deleted."""
    query = sources.orphans(index.source, index.index_id, index.chunk_table, index.key_table)
    some = orphans and bool((yield Statement(query)))
    yield Boundary.BEGIN
    yield Statement(store.SWEEP)
    if some:
        # Asked again under the write lock: such a row may have come back meanwhile.
        gone = [int(str(key)) for (key,) in (yield Statement(query))]
        for key in gone:
            yield from store.forget(index, key)
        yield from _forget_keys(index, gone)
    yield Boundary.COMMIT


def _forget_keys(index: Index, keys: list[int]) -> Plan[None]:
    if index.source.mapped and keys:
        sql = FORGET_KEYS.format(index.key_table)
        yield Statement(sql, (json.dumps(keys), index.index_id))


def _store_page(engine: Engine, index: Index, page: Entries, failed: dict[int, str]) -> Plan[int]:
    """Store the rows of *page*; those that cannot be read are added to *failed* and stay.

    :returns: the number of rows brought up to date
    """
    encoding = yield from sources.text_encoding()
    found = yield from sources.read_rows(index.source, index.key_table, page, encoding)
    failed |= found.failed
    texts = {key: text for key, (_, text) in found.rows.items() if text is not None}
    embedded = embed_rows(engine, index, texts)
    check_space(engine, index)  # again: computing may have loaded weights installed meanwhile
    yield Boundary.BEGIN
    done: list[int] = []
    chunks: list[Row] = []
    words: list[str] = []
    for key, entries in page.items():
        # Gone, if another stored the row meanwhile, perhaps with a newer text. If the row
        # changed since it was read, its newer entry stays, and what is stored now is not used.
        newest = (index.index_id, *entries[-1])
        if key in found.failed or not (yield Statement(STILL_WAITS, newest)):
            continue
        yield from store.forget(index, key)
        for ordinal, part in enumerate(embedded.get(key, [])):
            chunks.append((key, ordinal, part.start, part.stop, part.digest, part.vector))
            words.append(part.text)
        yield from store.leave_queue(entries)
        done.append(key)
    yield from _forget_keys(index, [key for key in done if key not in found.rows])
    yield from store.add(index, chunks, words)
    yield Boundary.COMMIT
    return len(done)
