"""The asking side, in Python: SQL functions that forward each call to the service.

A forwarded call is a plan: it yields the SQL that the service asks for, and the door runs it
as it runs a plan of this process. The loadable extension does the same in C
(``sqlembed/extension/plan.c`` and ``function.c``).
"""

from collections.abc import Iterable
from dataclasses import replace
from itertools import count
from time import monotonic
from typing import NoReturn

from sqlembed.engine.interface import Engine
from sqlembed.errors import ServiceError
from sqlembed.functions.registry import (
    Aggregate,
    Function,
    Procedure,
    Pushed,
    Restriction,
    Scalar,
    Table,
)
from sqlembed.plan import (
    Boundary,
    Many,
    Plan,
    Request,
    Row,
    Rows,
    SqlValue,
    Statement,
    StatementError,
    drive,
)
from sqlembed.service import frames
from sqlembed.service.frames import FrameError, Reader, Type
from sqlembed.service.link import Link, told

PENDING_BYTES = 64 << 10
"""Values of an aggregate that are gathered before they are sent."""
OPTIONAL_PAUSE_SECONDS = 5.0
"""Without a service, optional calls are left off for this: a thousand inserts must not all wait."""
CHANGES = Statement("SELECT total_changes()")

Answer = tuple[SqlValue, list[Row]]
"""The value of a scalar function, and the rows of a table."""


def forwarded(link: Link, function: Function) -> Function:
    """*function* with the service behind it in place of an engine of this process."""
    name = function.name
    match function:
        case Scalar():

            def scalar(_: Engine | None, *arguments: SqlValue) -> SqlValue:
                return drive(call(link, _called(name, arguments)), _no_sql)[0]

            return replace(function, call=scalar)
        case Procedure():

            def procedure(_: Engine | None, *arguments: SqlValue) -> Plan[SqlValue]:
                return (yield from _optional(link, function, _called(name, arguments)))

            return replace(function, plan=procedure)
        case Aggregate():
            return replace(function, start=lambda _: Group(link, name))
        case Table():

            def table(
                _: Engine | None, restriction: Restriction, *arguments: SqlValue
            ) -> Plan[Iterable[Row]]:
                request = _called(name, arguments, _pushed(restriction))
                return (yield from call(link, request))[1]

            return replace(function, plan=table)


def call(link: Link, request: bytes, epoch: int | None = None) -> Plan[Answer]:
    """Send a CALL, STEP or FINAL, and yield what the service asks for until it answers.

    :param epoch: the only connection that knows what the request is about, if it is only one
    :raises SqlembedError: what the service raised
    :raises ServiceError: it cannot be reached, refuses, or does not answer
    """
    kind, reader = link.ask(request, epoch)
    found: list[Row] = []
    failure: StatementError | None = None
    while True:
        try:
            if kind == Type.VALUE:
                return reader.value(), []
            if kind == Type.END:
                return None, found
            if kind == Type.ERROR:
                _raise(reader, failure)
            if kind == Type.ROWS:
                found += reader.rows()
                asked = None
            else:
                asked = _request(kind, reader)
        except FrameError as error:
            link.close()
            raise ServiceError(
                f"sqlembed's service sent an answer without sense: {error}"
            ) from error
        if asked is not None:
            failure = yield from _serve(link, asked)
        kind, reader = link.receive()


class Group:
    """A group of an aggregate: gathers values, and sends them by the part."""

    numbers = count(1)

    def __init__(self, link: Link, name: str) -> None:
        """Hold no value yet."""
        self._link = link
        self._name = name
        self._number = next(self.numbers) & 0xFFFFFFFF
        self._epoch: int | None = None
        self._values: list[bytes] = []
        self._bytes = 0

    def step(self, value: SqlValue) -> None:
        """Take in one value."""
        self._values.append(frames.value(value))
        self._bytes += len(self._values[-1])
        if self._bytes >= PENDING_BYTES:
            self._send(Type.STEP)

    def final(self) -> SqlValue:
        """The group's result."""
        return self._send(Type.FINAL)

    def _send(self, kind: Type) -> SqlValue:
        fresh = frames.u8(self._epoch is None)
        head = frames.text(self._name) + frames.u32(self._number) + fresh
        values = frames.u32(len(self._values)) + b"".join(self._values)
        self._values, self._bytes = [], 0
        plan = call(self._link, frames.frame(kind, head, values), self._epoch)
        result = drive(plan, _no_sql)[0]
        self._epoch = self._link.epoch
        return result


def _serve(link: Link, asked: Request) -> Plan[StatementError | None]:
    """Have the door run what the service asks, and send what came of it; gives why it failed."""
    epoch = link.epoch
    failure: StatementError | None = None
    link.depth += 1
    try:
        found: Rows = yield asked
        each = [frames.rows(len(part[0]), part) for part in frames.parts(found)]
        answer = b"".join(frames.frame(Type.ROWS, part) for part in each) + frames.frame(Type.DONE)
    except (StatementError, FrameError) as error:
        failure = error if isinstance(error, StatementError) else StatementError(str(error))
        answer = frames.frame(Type.FAILED, frames.u8(0), frames.text(str(error)))
    except GeneratorExit:
        # Busy, interrupted, full: the door tells the host itself.
        link.send(frames.frame(Type.FAILED, frames.u8(1), frames.text("")))
        raise
    finally:
        link.depth -= 1
    if link.epoch != epoch:
        raise ServiceError("sqlembed's service ended; the next call starts it anew")
    link.send(answer)
    return failure


def _optional(link: Link, function: Procedure, request: bytes) -> Plan[SqlValue]:
    """A procedure's result; of an optional one 0 where no service can be had, nothing changed."""
    if not function.optional:
        return (yield from call(link, request))[0]
    if monotonic() < link.down_until:
        return 0
    before = yield CHANGES
    try:
        return (yield from call(link, request))[0]
    except ServiceError:
        if (yield CHANGES) != before:
            raise
        link.down_until = monotonic() + OPTIONAL_PAUSE_SECONDS
        return 0


def _raise(reader: Reader, failure: StatementError | None) -> NoReturn:
    """Raise what the service tells; an error of SQLite as the host's own, which *failure* has."""
    kind, words = reader.text(), reader.text()
    if kind == "SQLError" and failure is not None:
        raise failure
    raise told(kind, words)


def _request(kind: int, reader: Reader) -> Request:
    if kind == Type.RUN:
        sql = reader.text()
        return Statement(sql, tuple(reader.value() for _ in range(reader.u16())))
    if kind == Type.MANY:
        return Many(reader.text(), reader.rows())
    if kind in (Type.BEGIN, Type.COMMIT):
        return Boundary.BEGIN if kind == Type.BEGIN else Boundary.COMMIT
    raise FrameError(f"an answer has no frame of the type {kind}")


def _called(name: str, arguments: Iterable[SqlValue], pushed: Iterable[bytes] = ()) -> bytes:
    values, restrictions = [frames.value(each) for each in arguments], list(pushed)
    counts = frames.u16(len(values)), frames.u16(len(restrictions))
    return frames.frame(Type.CALL, frames.text(name), counts[0], *values, counts[1], *restrictions)


def _pushed(restriction: Restriction) -> Iterable[bytes]:
    if restriction.among is not None:
        values = b"".join(map(frames.value, restriction.among))
        head = frames.u8(frames.Tag.SET) + frames.u32(len(restriction.among))
        yield frames.u8(Pushed.AMONG) + head + values
    yield frames.u8(Pushed.AT_LEAST) + frames.value(restriction.lowest)
    yield frames.u8(Pushed.AT_MOST) + frames.value(restriction.highest)
    if restriction.limit is not None:
        yield frames.u8(Pushed.LIMIT) + frames.value(restriction.limit)


def _no_sql(request: Request) -> Rows:
    raise ServiceError(f"sqlembed's service asked for SQL where none can run: {request}")
