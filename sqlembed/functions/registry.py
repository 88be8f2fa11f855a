"""What a SQL function is: its name, arguments, flags and columns, and the Python behind it."""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
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
    start: Callable[[Engine], Accumulator]


@dataclass(frozen=True)
class Restriction:
    """What a statement asks of a table function besides its arguments."""

    among: Collection[SqlValue] | None = None
    """The values that the restricted column may take; None for all."""


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
