"""Plans: logic that needs rows of the caller's database, without knowing how to reach it.

A plan is a generator. It yields a :class:`Statement` or a :class:`Boundary`, is sent the rows,
and returns its result. Each door runs plans in its own way: on its own connection,
or on a connection in another process, inside whatever transaction is open there.
"""

from collections.abc import Callable, Generator
from enum import Enum
from typing import NamedTuple, TypeAlias, TypeVar

SqlValue: TypeAlias = int | float | str | bytes | None
Row: TypeAlias = tuple[SqlValue, ...]
Rows: TypeAlias = list[Row]
Result = TypeVar("Result")


class StatementError(Exception):
    """A plan's statement failed; where the plan does not catch it, the door raises its own."""


class Statement(NamedTuple):
    """SQL to run; bindings belong to a single statement, without them it may be a script."""

    sql: str
    bindings: tuple[SqlValue, ...] = ()


class Many(NamedTuple):
    """One statement to run for each row of bindings; gives no rows."""

    sql: str
    bindings: list[Row]


class Boundary(Enum):
    """Where a plan's changes belong together.

    Where the host has no transaction open, BEGIN starts one that takes the write
    lock at once; inside the host's transaction it is a savepoint; under a
    statement that already writes, that statement's own atomicity serves.
    A plan that fails between BEGIN and COMMIT leaves nothing.
    """

    BEGIN = "begin"
    COMMIT = "commit"


Request: TypeAlias = Statement | Many | Boundary
Plan: TypeAlias = Generator[Request, Rows, Result]


def drive(plan: Plan[Result], perform: Callable[[Request], Rows]) -> Result:
    """Run *plan* to its end, each request by *perform*, and return its result.

    A StatementError of *perform* is the plan's to handle; any other error ends it.
    """
    try:
        request = next(plan)
        while True:
            try:
                rows = perform(request)
            except StatementError as failure:
                request = plan.throw(failure)
            else:
                request = plan.send(rows)
    except StopIteration as end:
        result: Result = end.value
        return result
    finally:
        plan.close()  # a traceback that somebody keeps must not keep it half run


def quote(identifier: str) -> str:
    """*identifier* as SQL, whatever characters it has."""
    doubled = identifier.replace('"', '""')
    return f'"{doubled}"'
