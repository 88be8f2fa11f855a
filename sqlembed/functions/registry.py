"""What a SQL function is: its name, arguments, flags and columns, and the Python behind it."""

import math
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Protocol, TypeAlias

from sqlembed.engine.interface import Engine
from sqlembed.errors import InputError, SpaceError
from sqlembed.plan import Plan, Row, SqlValue


@dataclass(frozen=True)
class Scalar:
    """A function that needs only the engine: ``call(engine, *arguments)``."""

    name: str
    call: Callable[..., SqlValue]
    least: int
    """Arguments that must be given."""
    most: int
    """Arguments that may be given."""
    deterministic: bool = True
    """Same arguments, same answer: SQLite may call it once, and indexes may use it."""
    direct_only: bool = False
    """Not to be called by triggers, views and other things stored in a schema."""
    lengthy: bool = False
    """Whether it computes for so long that an interrupt has to end it: it asks ``clients.gone``."""


@dataclass(frozen=True)
class Procedure:
    """A function that works on the caller's database: ``plan(engine, *arguments)``.

    It changes state, and may be called by statements only, not from a schema.
    """

    name: str
    plan: Callable[..., Plan[SqlValue]]
    least: int
    most: int
    makes_index: bool = False
    """Whether the connection has to look anew which indexes it stores to at once."""
    optional: bool = False
    """Whether it gives 0, and no error, where the service cannot be reached."""


class Accumulator(Protocol):
    """One group of an aggregate."""

    def step(self, value: SqlValue) -> None:
        """Take in one value."""

    def final(self) -> SqlValue:
        """The group's result."""


@dataclass(frozen=True)
class Aggregate:
    """A function of one argument over many rows."""

    name: str
    start: Callable[..., Accumulator]


class Pushed(IntEnum):
    """What a statement can ask besides the arguments, with a value each."""

    AMONG = 0
    """``restricted IN (...)``: its value is a set."""
    ONLY = 1
    """``restricted = x``"""
    BELOW = 2
    AT_MOST = 3
    ABOVE = 4
    AT_LEAST = 5
    """``bounded < x``, ``<=``, ``>``, ``>=``"""
    LIMIT = 6
    OFFSET = 7
    ANEW = 8
    """``restricted = x`` again, with another value than the statement asked for before."""


@dataclass(frozen=True)
class Restriction:
    """What a statement asks of a table function besides its arguments."""

    among: Collection[SqlValue] | None = None
    """The values that the restricted column may take; None for all."""
    lowest: float = -math.inf
    highest: float = math.inf
    """Between which, both included, the bounded column must be."""
    limit: int | None = None
    """How many of the first rows are looked at; None if that is not known."""

    @property
    def bounds(self) -> tuple[float, float]:
        """The lowest and the highest value of the bounded column."""
        return self.lowest, self.highest

    @classmethod
    def of(cls, table: "Table", pushed: Iterable[tuple[Pushed, Any]]) -> "Restriction":
        """Put together what a door was asked.

        :raises InputError: the statement calls the function anew for each id of another table
        """
        among: set[SqlValue] | None = None
        lowest, highest = -math.inf, math.inf
        limit: int | None = None
        offset = 0
        for what, value in pushed:
            if what is Pushed.ANEW:
                raise _asked_anew(table)
            if what in (Pushed.AMONG, Pushed.ONLY):
                allowed = {value} if what is Pushed.ONLY else set(value)
                among = allowed if among is None else among & allowed
            elif not isinstance(value, int | float) or not math.isfinite(value):
                continue  # SQLite compares it by type; all rows pass, or it keeps none
            elif what is Pushed.LIMIT:
                limit = int(value) if value >= 0 else None
            elif what is Pushed.OFFSET:
                offset = max(0, int(value))
            elif what in (Pushed.BELOW, Pushed.AT_MOST):
                strict = what is Pushed.BELOW
                highest = min(highest, math.nextafter(value, -math.inf) if strict else value)
            else:
                strict = what is Pushed.ABOVE
                lowest = max(lowest, math.nextafter(value, math.inf) if strict else value)
        return cls(among, lowest, highest, None if limit is None else limit + offset)


def _asked_anew(table: "Table") -> InputError:
    name, column = table.name, table.restricted
    return InputError(
        f"this statement calls {name}() anew for each {column} of another table, which"
        f" would make every one of them a nearest row; write {column} IN"
        f" (SELECT {column} FROM {name}(...)), or WITH k AS MATERIALIZED"
        f" (SELECT * FROM {name}(...)) and join k"
    )


@dataclass(frozen=True)
class Table:
    """A table, or with parameters a table-valued function.

    ``plan(engine, restriction, *arguments)`` gives the rows; missing arguments are None.
    """

    name: str
    columns: tuple[str, ...]
    plan: Callable[..., Plan[Iterable[Row]]]
    parameters: tuple[str, ...] = ()
    least: int = 0
    restricted: str | None = None
    """The column whose ``IN (...)`` is handed to the plan, to apply before anything is cut."""
    bounded: str | None = None
    """The column whose bounds are handed to the plan, likewise."""
    ordered: str | None = None
    """The column by which rows come, lowest first. LIMIT is handed to the plan."""

    @property
    def usage(self) -> str:
        """How it is called, for messages: ``knn(index_name, query [, k])``."""
        needed = ", ".join(self.parameters[: self.least])
        optional = "".join(f" [, {name}]" for name in self.parameters[self.least :])
        return f"{self.name}({needed}{optional})"

    @property
    def declaration(self) -> str:
        """The CREATE TABLE of a virtual table: parameters are hidden columns."""
        hidden = "".join(f", {parameter} HIDDEN" for parameter in self.parameters)
        columns = ", ".join(f'"{column}"' for column in self.columns)
        return f"CREATE TABLE {self.name}({columns}{hidden})"


Function: TypeAlias = Scalar | Procedure | Aggregate | Table


def text_argument(value: Any, what: str) -> str:
    """*value* if it is a text.

    :raises InputError: it is a number or a BLOB
    """
    if isinstance(value, str):
        return value
    advice = "" if value is None else "; convert it: CAST(x AS TEXT)"
    raise InputError(f"{what} is a text; got {described(value)}{advice}")


def comparable(engine: Engine, what: str, *vectors: bytes) -> None:
    """Refuse vectors that are known to come from different embedding spaces.

    :raises SpaceError: two of them do; where a vector comes from is not always known
    """
    known = {origin.fingerprint: origin for v in vectors if (origin := engine.origin(v))}
    if len(known) > 1:
        first, second, *_ = (origin.model for origin in known.values())
        raise SpaceError(f"{what} got a vector of {first} and one of {second}; they do not compare")


def name_argument(value: Any, what: str) -> str | None:
    """*value* if it is a name, or None for NULL, which means the default."""
    if value is None or isinstance(value, str):
        return value
    raise InputError(f"{what} is a name; got {described(value)}")


def described(value: Any) -> str:
    """*value* for a message: what it is, and how it begins."""
    kinds = {int: "the integer", float: "the number", str: "the text", type(None): "NULL"}
    if isinstance(value, bytes):
        return f"a BLOB of {len(value)} bytes"
    shown = (
        "" if value is None else f" {str(value)[:40]!r}" if isinstance(value, str) else f" {value}"
    )
    return f"{kinds[type(value)]}{shown}"


def rows_of(rows: Iterable[Row]) -> Plan[Iterable[Row]]:
    """A plan that has its rows already."""
    return rows
    yield
