"""SQL: what sqlembed's own worker calls. ``sqlembed_work``."""

import json

from sqlembed.engine.interface import Engine
from sqlembed.errors import InputError
from sqlembed.functions.registry import Function, Procedure, described
from sqlembed.index import catalog, flush
from sqlembed.index.backlog import Leased
from sqlembed.index.embedding import ready
from sqlembed.plan import Plan, SqlValue, StatementError


def work(engine: Engine, index_id: SqlValue, leased: SqlValue) -> Plan[int]:
    """``sqlembed_work(index_id, leased)``: embed and store rows that the caller has leased.

    :param leased: a JSON array with [key, generation, leases that never came back] for each
    :returns: how many are up to date now; what is wrong with the others stands in the backlog
    """
    if not isinstance(index_id, int) or not isinstance(leased, str):
        raise InputError(
            "sqlembed_work is for sqlembed's own worker, and takes an integer and JSON; got"
            f" {described(index_id)} and {described(leased)}"
        )
    rows = [Leased(*row) for row in json.loads(leased)]
    for index in (yield from catalog.every()):
        if index.index_id == index_id:
            try:
                yield from catalog.check_watched(index)
                yield from ready(engine, index)
                return (yield from flush.work(engine, index, rows)).done
            except StatementError:
                if (yield from catalog.still(index)):
                    raise
    return 0  # dropped meanwhile, and its tables with it


FUNCTIONS: tuple[Function, ...] = (Procedure("sqlembed_work", work, 2, 2),)
