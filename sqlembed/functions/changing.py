"""SQL: change an index. ``sqlembed_reindex``, ``sqlembed_alter``, ``sqlembed_import``."""

from sqlembed.engine.interface import Engine
from sqlembed.functions.registry import Function, Procedure, name_argument, text_argument
from sqlembed.index import catalog, flush, importing, options, reindex
from sqlembed.index.catalog import Index
from sqlembed.plan import Plan, SqlValue


def anew(
    engine: Engine, name: SqlValue, model: SqlValue = None, given: SqlValue = None
) -> Plan[int]:
    """``sqlembed_reindex(index [, model [, options]])``: make an index anew beside itself.

    *model* is its new embedder; NULL for the one that it has, as it is installed now.

    :returns: how many rows were stored before it returned
    """
    later = options.is_later(None if given is None else text_argument(given, "options"))
    index = yield from _found(name)
    wanted = yield from reindex.target(engine, index, name_argument(model, "the model"))
    return (yield from _become(engine, index, wanted, later=later))


def alter(engine: Engine, name: SqlValue, given: SqlValue) -> Plan[int]:
    """``sqlembed_alter(index, options)``: change options of an index, or its expression.

    :returns: how many rows were stored before it returned
    """
    changes = options.parse_changes(text_argument(given, "options"))
    index = yield from _found(name)
    wanted = None
    if changes.rebuild:
        model, expression = changes.new("model", None), changes.new("expression", None)
        lasting = changes.lasting(index.options)
        wanted = yield from reindex.target(engine, index, model, expression, lasting)
    new = changes.new("name", None), changes.new("mode", None)
    later = changes.new("backlog", "now") == "later"
    return (yield from _become(engine, index, wanted, *new, later=later))


def bring(
    engine: Engine, name: SqlValue, table: SqlValue, text: SqlValue, vector: SqlValue
) -> Plan[int]:
    """``sqlembed_import(index, table, text_column, vector_column)``: take vectors that exist.

    Rows that wait are then stored, those of other texts too.

    :returns: how many vectors were taken, of different texts
    :raises VectorError: they are not what the model gives; none is taken
    """
    index = yield from _found(name)
    given = yield from importing.look_at(
        text_argument(table, "the table"),
        text_argument(text, "the column of texts"),
        text_argument(vector, "the column of vectors"),
    )
    shadow = yield from catalog.shadow_of(index)
    into = index if shadow is None else shadow
    taken = yield from importing.take(engine, into, given)
    failed: dict[int, str] = {}
    yield from flush.drain(engine, into, None, failed)
    yield from importing.forget(into)
    if shadow is not None:
        yield from reindex.advance(engine, shadow)
    if failed and (yield from catalog.still(into)):
        raise flush.failure(into, failed)
    return taken


def _found(name: SqlValue) -> Plan[Index]:
    """The index called *name*, in a database of the newest format."""
    yield from catalog.bring_forward()
    return (yield from catalog.find(text_argument(name, "the index")))


def _become(
    engine: Engine,
    index: Index,
    wanted: reindex.Target | None,
    name: str | None = None,
    mode: str | None = None,
    *,
    later: bool,
) -> Plan[int]:
    """Have *index* become what is wanted; the number of rows that were stored for it."""
    if wanted is not None and not later and not (yield from reindex.is_as(index, wanted)):
        engine.load(wanted.space.model)  # what cannot be loaded must fail before anything is made
    shadow = yield from reindex.begin(index, wanted, name, mode)
    if shadow is None or wanted is None or later:
        return 0
    return (yield from reindex.complete(engine, shadow))


FUNCTIONS: tuple[Function, ...] = (
    Procedure("sqlembed_reindex", anew, 1, 3, makes_index=True),
    Procedure("sqlembed_alter", alter, 2, 2, makes_index=True),
    Procedure("sqlembed_import", bring, 4, 4),
)
