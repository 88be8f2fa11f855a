"""Store the vectors of rows that wait: embed outside any write, then write what still holds."""

from collections.abc import Sequence
from typing import NamedTuple

from sqlembed.engine.interface import Engine
from sqlembed.errors import SpaceError
from sqlembed.index import catalog, store
from sqlembed.index import source as sources
from sqlembed.index.catalog import Index
from sqlembed.plan import Boundary, Plan, Row, SqlValue, Statement

PAGE_ROWS = 512
"""Rows read, embedded and committed together."""

WAITING = """
SELECT key, generation FROM main.sqlembed_queue
WHERE index_id = ? AND key > ? ORDER BY key LIMIT ?"""
GENERATION = "SELECT generation FROM main.sqlembed_queue WHERE index_id = ? AND key = ?"
DONE = "DELETE FROM main.sqlembed_queue WHERE index_id = ? AND key = ?"
LOWEST = -(1 << 63)


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
    after, done = LOWEST, 0
    while most is None or done < most:
        room = PAGE_ROWS if most is None else min(PAGE_ROWS, most - done)
        page = yield Statement(WAITING, (index.index_id, after, room))
        if not page:
            break
        after = int(page[-1][0])  # type: ignore[arg-type]
        done += yield from _store_page(engine, index, page)
    if most is None:
        yield from _forget_orphans(index)
    return done


def store_row(engine: Engine, index: Index, key: int) -> Plan[bool]:
    """Store one row that waits, within the statement that wrote it."""
    yield from catalog.check_watched(index)
    check_space(engine, index)
    waiting = yield Statement(GENERATION, (index.index_id, key))
    page: list[Row] = [(key, *row) for row in waiting]
    return bool((yield from _store_page(engine, index, page)))


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
    orphans = yield Statement(sources.orphans(index.source, index.chunk_table, index.key_table))
    if orphans:
        yield Boundary.BEGIN
        for (key,) in orphans:
            yield from store.forget(index, int(str(key)))
            yield from _forget_key(index, int(str(key)))
        yield Boundary.COMMIT


def _forget_key(index: Index, key: int) -> Plan[None]:
    if index.source.mapped:
        yield Statement(f"DELETE FROM main.{index.key_table} WHERE key = ?", (key,))


def _store_page(engine: Engine, index: Index, page: Sequence[Row]) -> Plan[int]:
    generations: dict[int, SqlValue] = {int(str(key)): generation for key, generation in page}
    encoding = yield from sources.text_encoding()
    rows = yield from sources.read_rows(index.source, index.key_table, generations, encoding)
    texts = {key: text for key, (_, text) in rows.items() if text is not None}
    embedded = embed_rows(engine, index, texts)
    yield Boundary.BEGIN
    done = 0
    chunks: list[Row] = []
    for key, generation in generations.items():
        current = yield Statement(GENERATION, (index.index_id, key))
        if current != [(generation,)]:
            continue  # changed, or stored by another, since it was read
        yield from store.forget(index, key)
        for ordinal, part in enumerate(embedded.get(key, [])):
            chunks.append((key, ordinal, part.start, part.stop, part.digest, part.vector))
        yield Statement(DONE, (index.index_id, key))
        if key not in rows:
            yield from _forget_key(index, key)
        done += 1
    yield from store.add(index, chunks)
    yield Boundary.COMMIT
    return done
