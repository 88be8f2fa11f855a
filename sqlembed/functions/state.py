"""SQL: tables to look at. ``sqlembed_models``, ``_status``, ``_cache``, ``_metrics``."""

from collections.abc import Iterable

from sqlembed.engine.interface import CacheFile, CacheState, Engine, Metric, ModelState
from sqlembed.functions.registry import Function, Restriction, Table, rows_of
from sqlembed.index import catalog, reindex
from sqlembed.index.standing import Standing, standing
from sqlembed.plan import Plan, Row


def models(engine: Engine, restriction: Restriction) -> Plan[Iterable[Row]]:
    """``sqlembed_models``: every model known here, and what it is used for."""
    return (
        yield from rows_of(
            [(*row[:4], int(row.installed), int(row.loaded), *row[6:]) for row in engine.models()]
        )
    )


def cache(engine: Engine, restriction: Restriction) -> Plan[Iterable[Row]]:
    """``sqlembed_cache``: what is remembered, and how often it helped this process."""
    rows: list[Row] = [*engine.cache_state()] or [(None, None, 0, 0, 0, 0)]
    file = engine.cache_file()
    return (yield from rows_of([(*row, *file) for row in rows]))


def metrics(engine: Engine, restriction: Restriction) -> Plan[Iterable[Row]]:
    """``sqlembed_metrics``: what the engine did, and how long it took."""
    return (yield from rows_of(engine.metrics()))


def status(engine: Engine, restriction: Restriction) -> Plan[Iterable[Row]]:
    """``sqlembed_status``: every index of this database, and how much of it waits."""
    rows: list[Row] = []
    for index in (yield from catalog.listed()):
        made = (index.source.table, index.source.expression, index.model, index.dimension)
        becomes = yield from reindex.progress(index)
        rows.append((index.name, *made, index.mode, *(yield from standing(engine, index)), becomes))
    return rows


FUNCTIONS: tuple[Function, ...] = (
    Table("sqlembed_models", ModelState._fields, models),
    Table(
        "sqlembed_status",
        (
            "name", "source", "expression", "model", "dimension", "mode",
            *Standing._fields, "reindexing",
        ),
        status,
    ),
    Table("sqlembed_cache", (*CacheState._fields, *CacheFile._fields), cache),
    Table("sqlembed_metrics", Metric._fields, metrics),
)  # fmt: skip
