"""Put an index right from the truth, the table that it watches; interrupted anywhere, it waits.

Rows that are wrong are queued like any that changed, in the transaction that removes what was
stored of them; a flush stores them. Codes and words are made from what is stored. Where tables or
triggers were missing, no search answers until every row has been compared: the catalog keeps
triggers that none can have.
"""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress

from sqlembed.errors import SchemaError, SqlembedError
from sqlembed.index import blocks, catalog, check, faults, pairs, store, vec0
from sqlembed.index import source as sources
from sqlembed.index.catalog import Index
from sqlembed.index.triggers import every_key, triggers
from sqlembed.plan import Boundary, Many, Plan, Row, SqlValue, Statement, StatementError, quote

SLICE_ROWS = 128
"""That one transaction changes, so that no writer waits long."""

QUEUE = """
INSERT INTO main.sqlembed_queue(index_id, key) SELECT ?, value FROM json_each(?)"""
UNWATCHED = "UPDATE main.sqlembed_catalog SET triggers = ? WHERE index_id = ?"
SOURCE = "UPDATE main.sqlembed_catalog SET source = ? WHERE index_id = ?"
LISTED = "SELECT DISTINCT key {} AND key >= ? ORDER BY key LIMIT ?"
DIGESTS = "SELECT chunk, digest FROM main.{} WHERE chunk IN (SELECT value FROM json_each(?))"
DELETE_WORD = "DELETE FROM main.{} WHERE rowid = ?"
DELETE_KEPT = "DELETE FROM main.{}_{} WHERE id = ?"
INSERT_WORD = "INSERT INTO main.{}(rowid, text) VALUES (?, ?)"
COMMAND = "INSERT INTO main.{0}({0}) VALUES (?)"
FORGET_UNKNOWN = """
DELETE FROM main.{} WHERE index_id NOT IN (SELECT index_id FROM main.sqlembed_catalog)"""
COUNT_UNKNOWN = """
SELECT count(*) FROM main.{} WHERE index_id NOT IN (SELECT index_id FROM main.sqlembed_catalog)"""


class _IrreparableError(SchemaError):
    """An index cannot be repaired; no transaction is open."""


def repair(name: str | None) -> Plan[int]:
    """Repair an index, or all of them and what was left over; the number of things put right.

    :raises SchemaError: an index cannot be repaired; the others are
    :raises NotFoundError: there is no such index, or no more
    """
    yield from catalog.bring_forward()
    done, failures = 0, list[_IrreparableError]()
    for index in (yield from check.chosen(name)):
        try:
            done += yield from _repair(index)
        except _IrreparableError as error:
            failures.append(error)
        except StatementError as error:
            if (yield from catalog.still(index)):
                raise
            raise catalog.gone(index) from error
    if name is None:
        done += yield from _sweep()
    if failures:
        raise SchemaError(str(failures[0])) from failures[0]
    return done


def _repair(index: Index) -> Plan[int]:
    index, done, unwatched = yield from _prepare(index)
    done += len((yield from vec0.tables(index)))
    yield from vec0.drop_every(index)
    done += yield from _codes(index)
    done += yield from _word_table(index)
    if index.source.mapped:
        done += yield from _map(index)
    # Before rows are queued: in immediate mode these are stored at once, under the same numbers.
    strange = yield from _strange_words(index)
    done += yield from _rows(index)
    done += yield from _vectors(index)
    done += yield from _orphans(index)
    rebuilt = yield from _word_index(index)
    done += strange or rebuilt
    yield from store.reclaim(index)
    if unwatched:
        yield from _watch(index)
    return done


def _prepare(index: Index) -> Plan[tuple[Index, int, bool]]:
    """Make the triggers and plain tables that are missing.

    :returns: the index as it is now; how much was made; whether every row has to be compared before
        the catalog may say that the table is watched
    """
    yield from _same_source(index)  # what cannot be is said before anything is begun
    yield Boundary.BEGIN
    if not (yield from catalog.still(index)):
        yield Boundary.COMMIT
        raise catalog.gone(index)
    seen = yield from sources.inspect(index.source.table, index.source.expression)
    here = yield from check.usable(index)
    changed = yield from check.changed_triggers(index)
    lost = index.chunk_table not in here or (seen.mapped and index.key_table not in here)
    if not changed and not lost:
        yield from _drop_unneeded(index, here)
        yield Boundary.COMMIT
        return index, len(here & _unneeded(index)), False
    done = len(changed) + (yield from store.restore(index, seen, here))
    made = triggers(index.index_id, seen)
    for trigger in {*index.triggers, *made}:
        yield Statement(f"DROP TRIGGER IF EXISTS main.{quote(trigger)}")
    for statement in made.values():
        yield Statement(statement)
    yield Statement(SOURCE, (seen.to_json(), index.index_id))
    yield Statement(UNWATCHED, (json.dumps(dict.fromkeys(made, "")), index.index_id))
    yield from _drop_unneeded(index, here)
    yield Boundary.COMMIT
    again = yield from catalog.now(index)
    return again or index, done + len(here & _unneeded(index)), True


def _same_source(index: Index) -> Plan[None]:
    """See that the table that *index* watches still is what it was made for.

    :raises SchemaError: it is another one
    """
    old = index.source
    try:
        seen = yield from sources.inspect(old.table, old.expression)
    except SqlembedError as error:
        raise _irreparable(index, str(error)) from error
    if (seen.key, seen.collations, seen.mapped) != (old.key, old.collations, old.mapped):
        raise _irreparable(index, f"table {old.table} has another primary key")


def _irreparable(index: Index, reason: str) -> _IrreparableError:
    return _IrreparableError(
        f"index {index.name} cannot be repaired: {reason}. Make it anew, if its table is there:"
        f" SELECT sqlembed_reindex('{index.name}'); else: SELECT sqlembed_drop('{index.name}')"
    )


def _unneeded(index: Index) -> set[str]:
    names = {index.word_table} if index.words is None else set()
    return names if index.source.mapped else names | {index.key_table}


def _drop_unneeded(index: Index, here: set[str]) -> Plan[None]:
    for name in here & _unneeded(index):
        yield Statement(f"DROP TABLE main.{name}")


def _watch(index: Index) -> Plan[None]:
    """Have the catalog say that the table is watched: every row is right, or waits."""
    names = list(index.triggers)
    yield Boundary.BEGIN
    rows = yield Statement(store.CATALOG_TRIGGERS, (index.index_id, json.dumps(names)))
    lost = bool(rows) and len(json.loads(str(rows[0][0]))) != len(names)
    if lost:
        yield Statement(UNWATCHED, (json.dumps(index.triggers), index.index_id))
    yield Boundary.COMMIT
    if lost:
        raise _IrreparableError(
            f"index {index.name} is not repaired: a trigger was dropped meanwhile; call it again"
        )


def _codes(index: Index) -> Plan[int]:
    """Make the codes anew if some are wrong."""
    done = 0
    start: int | None = sources.LOWEST
    while start is not None:
        wrong, start = yield from faults.codes(index, start)
        done += len(wrong)
    if done:
        yield from blocks.renew(index)
    return done


def _word_table(index: Index) -> Plan[int]:
    """Make the table of words if there is none that can be read, and fill it at once."""
    if index.words is None or index.word_table in (yield from check.usable(index)):
        return 0
    yield Boundary.BEGIN
    if not (yield from catalog.still(index)):
        yield Boundary.COMMIT
        return 0
    yield from store.drop_words(index.word_table)
    yield from store.create_words(index.name, index.word_table, index.words)
    start: int | None = sources.LOWEST
    most = faults.SLICE_ROWS
    while start is not None:
        slice_ = yield from faults.rows(index, start, most, words=True)
        yield Many(INSERT_WORD.format(index.word_table), list(slice_.wordless.items()))
        start, most = slice_.following, slice_.rows
    yield Boundary.COMMIT
    return 1


def _map(index: Index) -> Plan[int]:
    """Give rows an integer whose key has none; they are found to be missing then."""
    if (yield Statement(f"SELECT 1 {pairs.unmapped(index)} LIMIT 1")):
        yield Boundary.BEGIN
        script, _, _ = every_key(index.index_id, index.source)
        yield Statement(script)
        yield Boundary.COMMIT
    return 0


def _rows(index: Index) -> Plan[int]:
    """Queue the rows that are missing or wrong, and mend the words of the others."""
    done = 0
    start: int | None = sources.LOWEST
    most = faults.SLICE_ROWS
    while start is not None:
        slice_ = yield from faults.rows(index, start, most, words=index.words is not None)
        done += yield from _queue(index, [*slice_.missing, *slice_.stale, *slice_.disordered])
        done += yield from _mend_words(index, slice_.words | slice_.wordless)
        start, most = slice_.following, slice_.rows
    return done


def _vectors(index: Index) -> Plan[int]:
    """Queue the rows whose vectors cannot be used."""
    done = 0
    start: int | None = sources.LOWEST
    while start is not None:
        slice_ = yield from faults.chunks(index, start)
        done += yield from _queue(index, slice_.unsound)
        start = slice_.following
    return done


def _queue(index: Index, keys: Sequence[SqlValue]) -> Plan[int]:
    """Remove what is stored of rows, and have them wait; how many they were."""
    done = 0
    for at in range(0, len(keys), SLICE_ROWS):
        some = keys[at : at + SLICE_ROWS]
        yield Boundary.BEGIN
        waits = yield from faults.waiting_among(index, some)
        left = [key for key in some if key not in waits]  # the others changed meanwhile
        yield from store.forget(index, left)  # type: ignore[arg-type]
        yield Statement(QUEUE, (index.index_id, json.dumps(left)))
        yield Boundary.COMMIT
        done += len(left)
    return done


def _mend_words(index: Index, texts: Mapping[int, str]) -> Plan[int]:
    """Store the words of chunks anew, of those that still are what they were seen to be."""
    listed = list(texts.items())
    for at in range(0, len(listed), SLICE_ROWS):
        some = listed[at : at + SLICE_ROWS]
        yield Boundary.BEGIN
        among = json.dumps([chunk for chunk, _ in some])
        rows = yield Statement(DIGESTS.format(index.chunk_table), (among,))
        digests = {row[0]: row[1] for row in rows}
        key = faults.space_of(index).key
        still: list[Row] = [
            (chunk, text) for chunk, text in some if digests.get(chunk) == key("document", text)
        ]
        yield Many(DELETE_WORD.format(index.word_table), [(chunk,) for chunk, _ in still])
        yield Many(INSERT_WORD.format(index.word_table), still)
        yield Boundary.COMMIT
    return len(texts)


def _orphans(index: Index) -> Plan[int]:
    """Remove what is stored of rows that are gone, and their keys."""
    done, some = 0, SLICE_ROWS
    while some == SLICE_ROWS:
        yield Boundary.BEGIN
        some = yield from store.forget_keyless(index, SLICE_ROWS)
        yield Boundary.COMMIT
        done += some
    wanted = [pairs.orphaned(index)]
    wanted += [pairs.empty_keys(index)] if index.source.mapped else []
    for which in wanted:
        start, last = sources.LOWEST, False
        while not last:
            yield Boundary.BEGIN
            rows = yield Statement(LISTED.format(which), (start, SLICE_ROWS))
            keys = [int(str(key)) for (key,) in rows]
            yield from store.forget(index, keys)
            yield from store.forget_keys(index, keys)
            yield Boundary.COMMIT
            done += len(keys)
            last = len(keys) < SLICE_ROWS
            start = keys[-1] if keys else start
    return done


def _strange_words(index: Index) -> Plan[int]:
    """Remove words of no chunk."""
    if index.words is None:
        return 0
    table, done = index.word_table, 0
    too_many = f"SELECT id {pairs.words_too_many(index)} LIMIT ?"
    before: list[Row] = []
    while True:
        yield Boundary.BEGIN
        rows = yield Statement(too_many, (SLICE_ROWS,))
        yield Many(DELETE_WORD.format(table), rows)
        if rows == before:  # half of what FTS5 keeps of them, which it does not see itself
            for kept in ("content", "docsize"):
                yield Many(DELETE_KEPT.format(table, kept), rows)
        else:
            done += len(rows)
        yield Boundary.COMMIT
        if not rows:
            return done
        before = rows


def _word_index(index: Index) -> Plan[int]:
    """Have FTS5 make its index from the texts if it finds that wrong; whether it did."""
    if index.words is None:
        return 0
    wrong = False
    yield Boundary.BEGIN
    try:
        yield Statement(COMMAND.format(index.word_table), ("integrity-check",))
    except StatementError:
        yield Statement(COMMAND.format(index.word_table), ("rebuild",))
        wrong = True
    yield Boundary.COMMIT
    return int(wrong)


def _sweep() -> Plan[int]:
    """Remove what belongs to an index that is not in the catalog."""
    if not (yield from catalog.has_catalog()):
        return 0
    yield Boundary.BEGIN
    done = 0
    for kind, name in (yield from check.strays()):
        with suppress(StatementError):  # a damaged table may be one that cannot be dropped
            if "_code_" in str(name):
                yield from vec0.drop(str(name))
            elif "_word_" in str(name):
                yield from store.drop_words(str(name))
            else:
                yield Statement(f"DROP {str(kind).upper()} IF EXISTS main.{quote(str(name))}")
            done += 1
    for table in ("sqlembed_backlog", "sqlembed_block", "sqlembed_pace"):
        ((count,),) = yield Statement(COUNT_UNKNOWN.format(table))
        yield Statement(FORGET_UNKNOWN.format(table))
        done += 0 if table == "sqlembed_pace" else int(str(count))
    yield Boundary.COMMIT
    return done
