"""Table functions as APSW virtual tables: arguments are hidden columns, ``IN`` is pushed down."""

import json
import weakref
from typing import Any

import apsw

from sqlembed.doors.plans import run
from sqlembed.engine.interface import Engine
from sqlembed.errors import InputError
from sqlembed.functions.registry import Pushed, Restriction, Table
from sqlembed.plan import Row, SqlValue

BOUNDS = {
    apsw.SQLITE_INDEX_CONSTRAINT_LT: Pushed.BELOW,
    apsw.SQLITE_INDEX_CONSTRAINT_LE: Pushed.AT_MOST,
    apsw.SQLITE_INDEX_CONSTRAINT_GT: Pushed.ABOVE,
    apsw.SQLITE_INDEX_CONSTRAINT_GE: Pushed.AT_LEAST,
}
LAST = {
    apsw.SQLITE_INDEX_CONSTRAINT_LIMIT: Pushed.LIMIT,
    apsw.SQLITE_INDEX_CONSTRAINT_OFFSET: Pushed.OFFSET,
}
EXPECTED_ROWS = 10
EXPECTED_COST = 1000.0
LAST_RESORT_COST = 1e30
"""Of `id = x`. SQLite turns `id IN (?)` into it, which restricts before k; so does a join's
`k.id = s.id`, which must not. At this cost the planner takes it only where it has to."""


class Module:
    """The virtual table module of one table function."""

    def __init__(self, engine: Engine | None, table: Table) -> None:
        """Serve *table* with *engine*."""
        self._engine = engine
        self._table = table

    def Connect(self, db: apsw.Connection, *_: object) -> "tuple[str, VirtualTable]":
        """Declare the columns; parameters are hidden ones."""
        return self._table.declaration, VirtualTable(db, self._engine, self._table)

    Create = Connect


class VirtualTable:
    """The table on one connection."""

    def __init__(self, db: apsw.Connection, engine: Engine | None, table: Table) -> None:
        """Hold *db* weakly: it owns us."""
        self.connection = weakref.ref(db)
        self.engine = engine
        self.table = table

    def BestIndexObject(self, plan: apsw.IndexInfo) -> bool:
        """Take the arguments and what restricts; ``idxStr`` names the values in their order."""
        table = self.table
        taken: list[str | int] = []
        missing = set(table.parameters[: table.least])
        last: dict[int, int] = {}
        all_taken = True
        plan.estimatedCost, plan.estimatedRows = EXPECTED_COST, EXPECTED_ROWS
        for which in range(plan.nConstraint):
            operator = plan.get_aConstraint_op(which)
            if operator in LAST:
                last[operator] = which
                continue
            column = plan.get_aConstraint_iColumn(which)
            parameter = column - len(table.columns)
            name = table.columns[column] if 0 <= column < len(table.columns) else None
            usable = plan.get_aConstraint_usable(which)
            equal = operator == apsw.SQLITE_INDEX_CONSTRAINT_EQ
            if equal and parameter >= 0:
                if not usable:
                    return False
                missing.discard(table.parameters[parameter])
                _take(plan, which, taken, table.parameters[parameter])
            elif not usable or name is None:
                all_taken = False
            elif equal and name == table.restricted:
                if plan.get_aConstraintUsage_in(which):
                    plan.set_aConstraintUsage_in(which, True)
                    _take(plan, which, taken, Pushed.AMONG)
                else:
                    _take(plan, which, taken, Pushed.ONLY)
                    plan.estimatedCost = LAST_RESORT_COST
            elif operator in BOUNDS and name == table.bounded:
                _take(plan, which, taken, BOUNDS[operator], omit=False)
            else:
                all_taken = False
        if missing:
            names = ", ".join(name for name in table.parameters if name in missing)
            raise InputError(f"{table.usage}: {names} is missing")
        plan.orderByConsumed = table.ordered is not None and self._sorted(plan)
        # Where nothing is left to filter or sort, LIMIT says how many rows are wanted.
        if all_taken and table.ordered and (not plan.nOrderBy or plan.orderByConsumed):
            for operator, which in sorted(last.items()):
                if apsw.SQLITE_INDEX_CONSTRAINT_LIMIT in last:
                    _take(plan, which, taken, LAST[operator], omit=False)
        plan.idxStr = json.dumps(taken)
        return True

    def _sorted(self, plan: apsw.IndexInfo) -> bool:
        """Whether rows come in the order that is asked for."""
        if plan.nOrderBy != 1 or plan.get_aOrderBy_desc(0):
            return False
        column = plan.get_aOrderBy_iColumn(0)
        return self.table.columns[column : column + 1] == (self.table.ordered,) and column >= 0

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
        arguments: dict[str, SqlValue] = {}
        pushed: list[tuple[Pushed, Any]] = []
        for what, value in zip(json.loads(taken or "[]"), values or (), strict=True):
            if isinstance(what, str):
                arguments[what] = value
            else:
                pushed.append(self._pushed(Pushed(what), value))
        self._arguments = tuple(arguments.get(name) for name in function.parameters)
        connection = self._table.connection()
        assert connection is not None
        restriction = Restriction.of(function, pushed)
        plan = function.plan(self._table.engine, restriction, *self._arguments)
        self._rows, self._position = list(run(connection, plan)), 0

    def _pushed(self, what: Pushed, value: Any) -> tuple[Pushed, Any]:
        if what is Pushed.AMONG:
            return what, value or ()  # APSW gives None for an empty set
        if what is Pushed.ONLY:
            anew = self._asked not in (None, value)
            self._asked = value
            return (Pushed.ANEW if anew else what), value
        return what, value

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


def _take(
    plan: apsw.IndexInfo, which: int, taken: list[str | int], what: str | Pushed, omit: bool = True
) -> None:
    taken.append(what)
    plan.set_aConstraintUsage_argvIndex(which, len(taken))
    plan.set_aConstraintUsage_omit(which, omit)
