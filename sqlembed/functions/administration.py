"""SQL: make, fill and drop indexes. ``sqlembed_index``, ``sqlembed_flush``, ``sqlembed_drop``."""

from dataclasses import replace

from sqlembed.engine.chunk import Chunking
from sqlembed.engine.interface import Engine
from sqlembed.errors import InputError, SchemaError
from sqlembed.functions.registry import Function, Procedure, described, text_argument
from sqlembed.index import (
    automatic,
    backlog,
    catalog,
    flush,
    immediate,
    importing,
    reindex,
    samples,
    source,
    store,
)
from sqlembed.index import (
    options as index_options,
)
from sqlembed.plan import Boundary, Plan, SqlValue


def index(
    engine: Engine, table: SqlValue, expression: SqlValue, options: SqlValue = None
) -> Plan[int]:
    """``sqlembed_index(table, expression [, options])``: index a table, and keep it true.

    :returns: how many rows were indexed before it returned
    """
    chosen = index_options.parse(None if options is None else text_argument(options, "options"))
    seen = yield from source.inspect(
        text_argument(table, "the table"), text_argument(expression, "the expression")
    )
    name = chosen.name or seen.table
    if (yield from _exists(name, chosen)):
        return 0
    if chosen.model == automatic.AUTO:
        chosen = replace(chosen, model=(yield from automatic.model(engine, seen)))
    fitting = yield from samples.fit(engine, chosen.model, seen)
    space = fitting.space
    if chosen.backlog == "now":
        engine.load(space.model)  # what cannot be loaded must fail before anything is made
    if chosen.lasting.chunking != Chunking():
        engine.chunk([""], chosen.model, chosen.lasting.chunking)  # so must what it cannot read
    yield Boundary.BEGIN
    if (yield from _exists(name, chosen)):  # made by another meanwhile
        yield Boundary.COMMIT
        return 0
    yield from catalog.migrate()
    yield from samples.keep(fitting)
    made = yield from store.create(name, seen, space, chosen)
    yield from backlog.fill(made)
    yield Boundary.COMMIT
    yield from store.free()
    if chosen.backlog == "later":
        return 0
    return (yield from flush.flush(engine, made))


def _exists(name: str, options: index_options.Options) -> Plan[bool]:
    indexes = yield from catalog.listed()
    exists = any(each.name.lower() == name.lower() for each in indexes)
    if exists and not options.if_not_exists:
        raise SchemaError(
            f"index {name} exists already; drop it first (SELECT sqlembed_drop('{name}')), give"
            ' this one another name ({"name": "..."}), or pass {"if_not_exists": true}'
        )
    return exists


def flush_waiting(engine: Engine, name: SqlValue = None, most: SqlValue = None) -> Plan[int]:
    """``sqlembed_flush([index [, most]])``: store the vectors of rows that wait.

    :returns: how many rows were brought up to date
    :raises InputError: some rows fail; the others are stored
    """
    if most is not None and (not isinstance(most, int) or most < 1):
        raise InputError(
            f"the most rows to flush is a whole number of 1 or more; got {described(most)}"
        )
    done = 0
    for each in (yield from _chosen(name)):
        done += yield from reindex.flush_both(engine, each, most)
        yield from importing.forget_used(each)
    yield from store.free()
    return done


def retry(engine: Engine, name: SqlValue = None) -> Plan[int]:
    """``sqlembed_retry([index])``: have rows that failed, or were set aside, tried again.

    :returns: how many rows wait again as if they had not failed
    """
    done = 0
    for each in (yield from _chosen(name)):
        done += yield from backlog.retry(each)
        shadow = yield from catalog.shadow_of(each)
        if shadow is not None:
            done += yield from backlog.retry(shadow)
    return done


def _chosen(name: SqlValue) -> Plan[list[catalog.Index]]:
    """The index called *name*, or all; the database is brought to the newest format."""
    yield from catalog.bring_forward()
    if name is None:
        return (yield from catalog.listed())
    return [(yield from catalog.find(text_argument(name, "the index")))]


def drop(engine: Engine, name: SqlValue) -> Plan[None]:
    """``sqlembed_drop(index)``: remove an index; the table it watched stays as it is."""
    found = yield from catalog.find(text_argument(name, "the index"))
    yield Boundary.BEGIN
    yield from catalog.migrate()
    shadow = yield from catalog.shadow_of(found)
    if shadow is not None:
        yield from store.retire(shadow)
    yield from store.drop(found)
    yield Boundary.COMMIT
    yield from store.free()


def store_one(engine: Engine, index_id: SqlValue, generation: SqlValue) -> Plan[int]:
    """``sqlembed_store(index_id, generation)``: for the TEMP triggers of immediate mode only."""
    if not isinstance(index_id, int) or not isinstance(generation, int):
        raise InputError(
            "sqlembed_store is for sqlembed's own triggers, and takes two integers; got"
            f" {described(index_id)} and {described(generation)}"
        )
    return (yield from immediate.store_entry(engine, index_id, generation))


FUNCTIONS: tuple[Function, ...] = (
    Procedure("sqlembed_index", index, 2, 3, makes_index=True),
    Procedure("sqlembed_flush", flush_waiting, 0, 2),
    Procedure("sqlembed_drop", drop, 1, 1),
    Procedure("sqlembed_retry", retry, 0, 1),
    Procedure("sqlembed_store", store_one, 2, 2, optional=True),
)
