"""Table functions as APSW virtual tables: arguments are hidden columns, ``IN`` is pushed down."""

import json
import weakref
from typing import Any

import apsw

from sqlembed.doors.plans import run
from sqlembed.engine.interface import Engine
from sqlembed.errors import InputError
from sqlembed.functions.registry import Restriction, Table
from sqlembed.plan import Row, SqlValue

AMONG, ONLY = "id IN", "id ="
"""How ``idxStr`` names a restriction among the arguments."""
EXPECTED_ROWS = 10
EXPECTED_COST = 1000.0
LAST_RESORT_COST = 1e30
"""Of `id = x`. SQLite turns `id IN (?)` into it, which restricts before k; so does a join's
`k.id = s.id`, which must not. At this cost the planner takes it only where it has to."""


class Module:
    """The virtual table module of one table function."""

    def __init__(self, engine: Engine, table: Table) -> None:
        """Serve *table* with *engine*."""
        self._engine = engine
        self._table = table

    def Connect(
        self, db: apsw.Connection, _module: str, _database: str, name: str, *_: object
    ) -> "tuple[str, VirtualTable]":
        """Declare the columns; parameters are hidden ones."""
        hidden = "".join(f", {parameter} HIDDEN" for parameter in self._table.parameters)
        declared = ", ".join(f'"{column}"' for column in self._table.columns)
        table = VirtualTable(db, self._engine, self._table)
        return f"CREATE TABLE {name}({declared}{hidden})", table

    Create = Connect


class VirtualTable:
    """The table on one connection."""

    def __init__(self, db: apsw.Connection, engine: Engine, table: Table) -> None:
        """Hold *db* weakly: it owns us."""
        self.connection = weakref.ref(db)
        self.engine = engine
        self.table = table

    def BestIndexObject(self, plan: apsw.IndexInfo) -> bool:
        """Take the arguments and one restriction; ``idxStr`` names the values in their order."""
        table = self.table
        taken: list[str] = []
        cost = EXPECTED_COST
        missing = set(table.parameters[: table.least])
        for which in range(plan.nConstraint):
            if plan.get_aConstraint_op(which) != apsw.SQLITE_INDEX_CONSTRAINT_EQ:
                continue
            column = plan.get_aConstraint_iColumn(which)
            parameter = column - len(table.columns)
            usable = plan.get_aConstraint_usable(which)
            if parameter >= 0:
                if not usable:
                    return False
                missing.discard(table.parameters[parameter])
                self._take(plan, which, taken, table.parameters[parameter])
            elif usable and column >= 0 and table.columns[column] == table.restricted:
                if plan.get_aConstraintUsage_in(which):
                    plan.set_aConstraintUsage_in(which, True)
                    self._take(plan, which, taken, AMONG)
                else:
                    self._take(plan, which, taken, ONLY)
                    cost = LAST_RESORT_COST
        if missing:
            raise InputError(f"{_usage(table)}: {', '.join(sorted(missing))} is missing")
        plan.idxStr = json.dumps(taken)
        plan.estimatedRows = EXPECTED_ROWS
        plan.estimatedCost = cost
        return True

    @staticmethod
    def _take(plan: apsw.IndexInfo, which: int, taken: list[str], what: str) -> None:
        taken.append(what)
        plan.set_aConstraintUsage_argvIndex(which, len(taken))
        plan.set_aConstraintUsage_omit(which, True)

    def Open(self) -> "Cursor":
        """A cursor with no rows yet."""
        return Cursor(self)

    def Disconnect(self) -> None:
        """Nothing is held."""

    Destroy = Disconnect


class Cursor:
    """The rows of one call."""

    def __init__(self, table: VirtualTable) -> None:
        """Hold no rows."""
        self._table = table
        self._rows: list[Row] = []
        self._arguments: tuple[SqlValue, ...] = ()
        self._position = 0
        self._asked: SqlValue = None
        """The one id it was asked for."""

    def Filter(self, _number: int, taken: str | None, values: tuple[Any, ...] | None) -> None:
        """Run the plan with these arguments."""
        function = self._table.table
        given = list(zip(json.loads(taken or "[]"), values or (), strict=True))
        arguments = dict(given)
        self._arguments = tuple(arguments.get(name) for name in function.parameters)
        among: set[SqlValue] | None = None
        for what, value in given:
            if what == ONLY:
                self._refuse_join(value)
            if what in (ONLY, AMONG):  # APSW gives None for an empty set
                allowed = {value} if what == ONLY else set(value or ())
                among = allowed if among is None else among & allowed
        connection = self._table.connection()
        assert connection is not None
        plan = function.plan(self._table.engine, Restriction(among), *self._arguments)
        self._rows, self._position = list(run(connection, plan)), 0

    def _refuse_join(self, value: SqlValue) -> None:
        name, column = self._table.table.name, self._table.table.restricted
        if self._asked not in (None, value):
            raise InputError(
                f"this statement calls {name}() anew for each {column} of another table, which"
                f" would make every one of them a nearest row; write {column} IN"
                f" (SELECT {column} FROM {name}(...)), or WITH k AS MATERIALIZED"
                f" (SELECT * FROM {name}(...)) and join k"
            )
        self._asked = value

    def Eof(self) -> bool:
        """Whether the rows are all given."""
        return self._position >= len(self._rows)

    def Column(self, which: int) -> SqlValue:
        """A value of the current row; hidden columns give the arguments."""
        if which < 0:
            return self._position
        row = self._rows[self._position]
        return row[which] if which < len(row) else self._arguments[which - len(row)]

    def Rowid(self) -> int:
        """The position among the rows."""
        return self._position

    def Next(self) -> None:
        """Go on to the next row."""
        self._position += 1

    def Close(self) -> None:
        """Let go of the rows."""
        self._rows = []


def _usage(table: Table) -> str:
    needed = ", ".join(table.parameters[: table.least])
    optional = "".join(f" [, {name}]" for name in table.parameters[table.least :])
    return f"{table.name}({needed}{optional})"
