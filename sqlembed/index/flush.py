"""Store the vectors of rows that wait: embed outside any write, then write what still holds."""

from collections.abc import Sequence
from typing import NamedTuple

from sqlembed.engine.interface import Engine
from sqlembed.errors import InputError, SpaceError
from sqlembed.index import catalog, store
from sqlembed.index import source as sources
from sqlembed.index.catalog import Index
from sqlembed.plan import Boundary, Many, Plan, Row, Statement

PAGE_ROWS = 512
"""Rows read, embedded and committed together."""

WAITING = """
SELECT key, generation FROM main.sqlembed_queue
WHERE index_id = ? AND generation > ? AND generation <= ? ORDER BY generation LIMIT ?"""
NEWEST = "SELECT coalesce(max(generation), 0) FROM main.sqlembed_queue"
WAITING_OF_KEY = "SELECT key, generation FROM main.sqlembed_queue WHERE index_id = ? AND key = ?"
KEYS_WAITING = "SELECT key FROM main.sqlembed_queue WHERE index_id = ?2"
STILL_WAITS = "SELECT 1 FROM main.sqlembed_queue WHERE index_id = ? AND generation = ?"
DONE = "UPDATE main.sqlembed_queue SET index_id = 0 WHERE generation = ?"


class Embedded(NamedTuple):
    """A chunk of a row's text, with its vector."""

    text: str
    start: int
    stop: int
    digest: bytes
    vector: bytes


def flush(engine: Engine, index: Index, most: int | None = None) -> Plan[int]:
    """Store every row that waits, or about *most* of them, page by page.

    :returns: the number of rows brought up to date
    """
    yield from catalog.check_watched(index)
    check_space(engine, index)
    # What is written from now on waits for the next flush, or this one might never end.
    newest = (yield Statement(NEWEST))[0][0]
    after = 0
    done: set[int] = set()
    failed: dict[int, str] = {}
    while most is None or len(done) < most:
        room = PAGE_ROWS if most is None else min(PAGE_ROWS, most - len(done))
        page = yield Statement(WAITING, (index.index_id, after, newest, room))
        if not page:
            break
        done |= yield from _store_page(engine, index, page, failed)
        after = int(str(page[-1][1]))
    if most is None:
        yield from _forget_orphans(index)
    if failed:
        raise _unreadable(index, failed)
    return len(done)


def _unreadable(index: Index, failed: dict[int, str]) -> InputError:
    key, reason = next(iter(failed.items()))
    which = f"the row of key {key}" if len(failed) == 1 else f"{len(failed)} rows, first key {key}"
    return InputError(
        f"index {index.name}: the expression {index.source.expression} fails on {which}: {reason};"
        " the other rows are stored, and these wait until they are changed"
    )


def store_row(engine: Engine, index: Index, key: int) -> Plan[bool]:
    """Store one row that waits, within the statement that wrote it."""
    yield from catalog.check_watched(index)
    check_space(engine, index)
    page = yield Statement(WAITING_OF_KEY, (index.index_id, key))
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
    parts = dict(zip(texts, engine.chunk(list(texts.values()), index.model), strict=True))
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


def _forget_orphans(index: Index) -> Plan[None]:
    """Remove what is stored of rows that REPLACE deleted, which fires no trigger."""
    query = sources.orphans(index.source, index.index_id, index.chunk_table, index.key_table)
    if (yield Statement(query)):
        yield Boundary.BEGIN
        # Asked again under the write lock: such a row may have come back meanwhile.
        for (key,) in (yield Statement(query)):
            yield from store.forget(index, int(str(key)))
            yield from _forget_key(index, int(str(key)))
        yield Boundary.COMMIT


def _forget_key(index: Index, key: int) -> Plan[None]:
    if index.source.mapped:
        # A row that came back meanwhile waits under the same integer.
        sql = f"DELETE FROM main.{index.key_table} WHERE key = ?1 AND ?1 NOT IN ({KEYS_WAITING})"
        yield Statement(sql, (key, index.index_id))


def _store_page(
    engine: Engine, index: Index, page: Sequence[Row], failed: dict[int, str]
) -> Plan[set[int]]:
    """Store what waits of *page*; rows that cannot be read are added to *failed* and stay.

    :returns: the keys of the rows brought up to date
    """
    generations: dict[int, list[Row]] = {}
    for key, generation in page:
        generations.setdefault(int(str(key)), []).append((generation,))
    encoding = yield from sources.text_encoding()
    found = yield from sources.read_rows(index.source, index.key_table, generations, encoding)
    failed |= found.failed
    texts = {key: text for key, (_, text) in found.rows.items() if text is not None}
    embedded = embed_rows(engine, index, texts)
    yield Boundary.BEGIN
    done: set[int] = set()
    chunks: list[Row] = []
    for key, entries in generations.items():
        # Gone, if another stored the row meanwhile, perhaps with a newer text. If the row
        # changed since it was read, its newer entry stays, and what is stored now is not used.
        if key in found.failed or not (
            yield Statement(STILL_WAITS, (index.index_id, *entries[-1]))
        ):
            continue
        yield from store.forget(index, key)
        for ordinal, part in enumerate(embedded.get(key, [])):
            chunks.append((key, ordinal, part.start, part.stop, part.digest, part.vector))
        yield Many(DONE, entries)
        if key not in found.rows:
            yield from _forget_key(index, key)
        done.add(key)
    yield from store.add(index, chunks)
    yield Statement(store.SWEEP)
    yield Boundary.COMMIT
    return done
