"""Store the vectors of rows that wait: embed outside any write, then write what still holds."""

from collections.abc import Sequence
from typing import NamedTuple

from sqlembed.engine.interface import Engine
from sqlembed.errors import InputError, SpaceError
from sqlembed.index import catalog, store
from sqlembed.index import source as sources
from sqlembed.index.catalog import Index
from sqlembed.plan import Boundary, Plan, Row, SqlValue, Statement

PAGE_ROWS = 512
"""Rows read, embedded and committed together."""

WAITING = """
SELECT key, generation FROM main.sqlembed_queue
WHERE index_id = ? AND key >= ? ORDER BY key LIMIT ?"""
GENERATION = "SELECT generation FROM main.sqlembed_queue WHERE index_id = ? AND key = ?"
DONE = "DELETE FROM main.sqlembed_queue WHERE index_id = ? AND key = ?"
LOWEST, HIGHEST = -(1 << 63), (1 << 63) - 1


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
    first, done = LOWEST, 0
    failed: dict[int, str] = {}
    while most is None or done < most:
        room = PAGE_ROWS if most is None else min(PAGE_ROWS, most - done)
        page = yield Statement(WAITING, (index.index_id, first, room))
        if not page:
            break
        done += yield from _store_page(engine, index, page, failed)
        last = int(str(page[-1][0]))
        if last == HIGHEST:
            break
        first = last + 1
    if most is None:
        yield from _forget_orphans(index)
    if failed:
        raise _unreadable(index, failed)
    return done


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
    waiting = yield Statement(GENERATION, (index.index_id, key))
    page: list[Row] = [(key, *row) for row in waiting]
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
        yield Statement(f"DELETE FROM main.{index.key_table} WHERE key = ?", (key,))


def _store_page(
    engine: Engine, index: Index, page: Sequence[Row], failed: dict[int, str]
) -> Plan[int]:
    """Store what waits of *page*; rows that cannot be read are added to *failed* and stay."""
    generations: dict[int, SqlValue] = {int(str(key)): generation for key, generation in page}
    encoding = yield from sources.text_encoding()
    found = yield from sources.read_rows(index.source, index.key_table, generations, encoding)
    failed |= found.failed
    texts = {key: text for key, (_, text) in found.rows.items() if text is not None}
    embedded = embed_rows(engine, index, texts)
    yield Boundary.BEGIN
    done = 0
    chunks: list[Row] = []
    for key, generation in generations.items():
        current = yield Statement(GENERATION, (index.index_id, key))
        if current != [(generation,)] or key in found.failed:
            continue  # changed, or stored by another, since it was read
        yield from store.forget(index, key)
        for ordinal, part in enumerate(embedded.get(key, [])):
            chunks.append((key, ordinal, part.start, part.stop, part.digest, part.vector))
        yield Statement(DONE, (index.index_id, key))
        if key not in found.rows:
            yield from _forget_key(index, key)
        done += 1
    yield from store.add(index, chunks)
    yield Boundary.COMMIT
    return done
