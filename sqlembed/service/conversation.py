"""One client of the service: its calls, answered one after another on a thread of its own.

Plans run here; the SQL that they yield runs at the client. While it runs, SQLite may call
our functions again: such a call comes in place of the rows that are awaited, and is
answered first.
"""

import logging
import os
import socket
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from threading import Lock
from time import monotonic
from typing import TypeVar

from sqlembed import __version__, settings
from sqlembed.engine import clients, metrics
from sqlembed.engine.interface import Engine
from sqlembed.errors import InputError, ServiceError, SqlembedError
from sqlembed.functions import ALL
from sqlembed.functions.listing import digest
from sqlembed.functions.registry import (
    Accumulator,
    Aggregate,
    Procedure,
    Pushed,
    Restriction,
    Scalar,
    Table,
)
from sqlembed.plan import (
    Boundary,
    Many,
    Request,
    Row,
    Rows,
    SqlValue,
    Statement,
    StatementError,
    drive,
)
from sqlembed.service import frames
from sqlembed.service.frames import PROTOCOL, FrameError, Reader, Type
from sqlembed.service.stream import Stream, gone

Result = TypeVar("Result")

FUNCTIONS = {function.name: function for function in ALL}
MOST_NESTED = 32
"""Calls inside the statements of calls."""
MOST_GROUPS = 100_000
"""Groups of aggregates that one client may have open."""

log = logging.getLogger("sqlembed.service")


class EndedByClientError(Exception):
    """The client ended the call, for a reason that it tells its host itself."""


class Conversation:
    """A connected client."""

    def __init__(
        self, connection: socket.socket, engine: Engine, closing: Callable[[], bool]
    ) -> None:
        """Answer *connection* with *engine*, until it leaves or *closing* says so."""
        self._stream = Stream(connection, eager=True)
        self._engine = engine
        self._closing = closing
        self._groups: dict[int, Accumulator] = {}
        self._depth = 0
        self._sending = Lock()
        self._waits = False
        self.heard_at = monotonic()
        """When it last asked for something."""

    @property
    def busy(self) -> bool:
        """Whether a call is under way, or an aggregate gathers values."""
        return self._depth > 0 or bool(self._groups)

    def run(self) -> None:
        """Greet, and answer calls until the client leaves."""
        clients.gone.set(self._gone)
        try:
            self._greet()
            while self.busy or not self._closing():
                self._answer(*self._receive())
        except (EOFError, OSError):
            pass  # it left, in the middle of a call perhaps
        except FrameError as error:
            log.warning("a client sent what is no frame: %s", error)
            self._last_words("FrameError", f"sqlembed's service cannot read what came: {error}")
        except ServiceError as error:
            self._last_words("ServiceError", str(error))
        finally:
            self._stream.socket.close()

    def end(self) -> None:
        """End the connection, from another thread; its own sees that, and closes it."""
        with suppress(OSError):  # it is closed already
            self._stream.socket.shutdown(socket.SHUT_RDWR)

    def show_life(self) -> None:
        """Tell a client that waits that work goes on."""
        if not self._sending.acquire(blocking=False):
            return  # an answer is on its way
        try:
            if self._waits:
                working = frames.frame(Type.WORKING)
                self._stream.socket.send(working, socket.MSG_DONTWAIT)
        except OSError:
            pass  # its buffer is full, or it is gone: its own thread will see
        finally:
            self._sending.release()

    def _gone(self) -> bool:
        return gone(self._stream.socket)

    def _greet(self) -> None:
        kind, payload = self._receive()
        if kind != Type.HELLO:
            raise FrameError(f"a client begins with HELLO ({Type.HELLO:d}); got {kind}")
        reader = Reader(payload)
        protocol, version, theirs = reader.u16(), reader.text(), reader.text()
        ours = digest()
        if protocol != PROTOCOL or theirs not in ("", ours):
            raise ServiceError(
                f"this program has sqlembed {version} (protocol {protocol}, functions"
                f" {theirs[:8] or 'any'}), and the service that runs is sqlembed {__version__}"
                f" (protocol {PROTOCOL}, functions {ours[:8]}); end that one, and the next call"
                " starts the new one: sqlembed serve --stop"
            )
        used = settings.shared()
        for _ in range(reader.u16()):
            name, wanted = reader.text(), reader.text()
            if wanted and wanted != used.get(name, wanted):
                raise ServiceError(
                    f"this program has {name}={wanted}, and the service that runs uses"
                    f" {used[name]}; unset it, end that service (sqlembed serve --stop), or set"
                    " SQLEMBED_SOCKET to another path for a second service"
                )
        self._send(
            frames.frame(
                Type.WELCOME,
                frames.u16(PROTOCOL),
                frames.text(__version__),
                frames.u32(os.getpid()),
            )
        )

    def _answer(self, kind: int, payload: bytes) -> None:
        """Answer one request; what goes wrong in it is an ERROR, and the client may go on."""
        self._depth += 1
        try:
            if self._depth > MOST_NESTED:
                raise InputError(
                    f"calls are nested {self._depth} deep, inside the statements of calls; a"
                    " trigger or an expression calls itself"
                )
            self._send(self._answered(kind, Reader(payload)))
        except EndedByClientError:
            return
        except (EOFError, OSError):
            raise
        except SqlembedError as error:
            self._refuse(type(error).__name__, str(error))
        except StatementError as error:
            self._refuse("SQLError", str(error))
        except FrameError as error:
            self._refuse("FrameError", str(error))
        except MemoryError:
            log.exception("out of memory")
            self._refuse("MemoryError", "sqlembed's service ran out of memory")
        except Exception as error:
            log.exception("a call failed")
            name = type(error).__name__
            self._refuse(name, f"a fault in sqlembed's service: {name}: {error}; its log says more")
        finally:
            self._depth -= 1

    def _answered(self, kind: int, reader: Reader) -> bytes:
        if kind in (Type.CALL, Type.STEP, Type.FINAL):
            name = reader.text()
            if name not in FUNCTIONS:
                raise InputError(f"no function is called {name!r}")
            with metrics.request(name):
                if kind == Type.CALL:
                    return self._call(name, reader)
                return self._gather(name, kind == Type.FINAL, reader)
        raise FrameError(f"a request is CALL, STEP or FINAL; got {kind}")

    def _call(self, name: str, reader: Reader) -> bytes:
        arguments = [reader.value() for _ in range(reader.u16())]
        pushed = [_pushed(reader) for _ in range(reader.u16())]
        reader.end()
        match FUNCTIONS[name]:
            case Scalar() as function:
                _check_count(name, function.least, function.most, arguments)
                result: SqlValue = function.call(self._engine, *arguments)
                return frames.frame(Type.VALUE, frames.value(result))
            case Procedure() as function:
                _check_count(name, function.least, function.most, arguments)
                result = drive(function.plan(self._engine, *arguments), self._perform)
                return frames.frame(Type.VALUE, frames.value(result))
            case Table() as function:
                _check_count(name, function.least, len(function.parameters), arguments)
                arguments += [None] * (len(function.parameters) - len(arguments))
                restriction = Restriction.of(function, pushed)
                plan = function.plan(self._engine, restriction, *arguments)
                return self._rows(len(function.columns), drive(plan, self._perform))
        raise InputError(
            f"{name}() gathers values: STEP ({Type.STEP:d}) and FINAL ({Type.FINAL:d})"
        )

    def _rows(self, columns: int, found: Iterable[Row]) -> bytes:
        for part in frames.parts(found):
            self._send(frames.frame(Type.ROWS, frames.rows(columns, part)), last=False)
        return frames.frame(Type.END)

    def _gather(self, name: str, ends: bool, reader: Reader) -> bytes:
        """Take values into a group of an aggregate, and give its result if it ends."""
        number, fresh = reader.u32(), reader.u8()
        values = [reader.value() for _ in range(reader.u32())]
        reader.end()
        function = FUNCTIONS[name]
        if not isinstance(function, Aggregate):
            raise InputError(f"{name}() is called with CALL ({Type.CALL:d})")
        if fresh and len(self._groups) >= MOST_GROUPS:
            raise InputError(f"{name}() has {MOST_GROUPS:,} groups open, and no more are allowed")
        group = function.start(self._engine) if fresh else self._groups.pop(number, None)
        if group is None:
            raise InputError(f"{name}() has no group {number}")
        for each in values:
            group.step(each)
        if ends:
            return frames.frame(Type.VALUE, frames.value(group.final()))
        self._groups[number] = group
        return frames.frame(Type.VALUE, frames.value(None))

    def _perform(self, request: Request) -> Rows:
        """Have the client run what a plan asks for."""
        match request:
            case Statement(sql, bindings):
                values = b"".join(map(frames.value, bindings))
                count = frames.u16(len(bindings))
                return self._ask(frames.frame(Type.RUN, frames.text(sql), count, values))
            case Many(sql, bindings):
                for part in frames.parts(bindings):
                    values = frames.rows(len(part[0]), part)
                    self._ask(frames.frame(Type.MANY, frames.text(sql), values))
            case Boundary.BEGIN:
                self._ask(frames.frame(Type.BEGIN))
            case Boundary.COMMIT:
                self._ask(frames.frame(Type.COMMIT))
        return []

    def _ask(self, request: bytes) -> Rows:
        self._send(request)
        found: Rows = []
        unreadable: FrameError | None = None
        while True:
            kind, payload = self._receive()
            if kind == Type.ROWS:
                try:
                    found += Reader(payload).rows()
                except FrameError as error:  # the rest is on its way all the same
                    unreadable = error
            elif kind == Type.DONE:
                if unreadable is not None:
                    raise StatementError(str(unreadable)) from unreadable
                return found
            elif kind == Type.FAILED:
                reader = Reader(payload)
                if reader.u8():
                    raise EndedByClientError
                raise StatementError(reader.text())
            else:
                self._answer(kind, payload)

    def _receive(self) -> tuple[int, bytes]:
        received = self._stream.receive()
        self.heard_at, self._waits = monotonic(), True
        return received

    def _send(self, data: bytes, *, last: bool = True) -> None:
        with self._sending:
            if last:  # now it is the client's turn
                self._waits = False
            self._stream.send(data)

    def _refuse(self, kind: str, words: str) -> None:
        self._send(frames.frame(Type.ERROR, frames.text(kind), frames.text(words)))

    def _last_words(self, kind: str, words: str) -> None:
        with suppress(OSError):  # it does not listen any more
            self._refuse(kind, words)


def _pushed(reader: Reader) -> tuple[Pushed, SqlValue | Collection[SqlValue]]:
    number = reader.u8()
    try:
        what = Pushed(number)
    except ValueError as error:
        raise FrameError(f"nothing that is pushed down has the number {number}") from error
    return what, reader.set() if what is Pushed.AMONG else reader.value()


def _check_count(name: str, least: int, most: int, arguments: list[SqlValue]) -> None:
    if not least <= len(arguments) <= most:
        raise InputError(f"{name}() takes {least} to {most} arguments; got {len(arguments)}")
