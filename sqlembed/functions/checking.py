"""SQL: what is wrong with indexes, and its repair. ``sqlembed_check``, ``sqlembed_repair``."""

from collections.abc import Iterable

from sqlembed.engine.interface import Engine
from sqlembed.functions.registry import Function, Procedure, Restriction, Table, text_argument
from sqlembed.index import check as checks
from sqlembed.index import repair as repairs
from sqlembed.plan import Plan, Row, SqlValue


def check(engine: Engine, restriction: Restriction, index: SqlValue) -> Plan[Iterable[Row]]:
    """``sqlembed_check([index])``: what is wrong, a row for each kind; none if all is well."""
    return (yield from checks.check(engine, _name(index)))


def repair(engine: Engine, index: SqlValue = None) -> Plan[int]:
    """``sqlembed_repair([index])``: put right what is wrong; rows that were, wait for a flush.

    :returns: how many rows and other things were put right
    """
    return (yield from repairs.repair(_name(index)))


def _name(index: SqlValue) -> str | None:
    return None if index is None else text_argument(index, "the index")


FUNCTIONS: tuple[Function, ...] = (
    Table("sqlembed_check", checks.COLUMNS, check, parameters=("index_name",)),
    Procedure("sqlembed_repair", repair, 0, 1),
)
