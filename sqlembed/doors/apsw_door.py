"""The APSW door: every function on a connection of this process."""

import atexit
import os
import weakref
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING, Any

import apsw
import sqlite_vec

from sqlembed import settings
from sqlembed.doors.plans import STEPS, run
from sqlembed.doors.tables import Module
from sqlembed.engine import clients
from sqlembed.engine.interface import Engine
from sqlembed.errors import ClientGoneError, ServiceError
from sqlembed.functions import ALL
from sqlembed.functions.registry import Aggregate, Function, Procedure, Scalar, Table
from sqlembed.index.immediate import watch
from sqlembed.plan import Plan, SqlValue, Statement
from sqlembed.service.client import forwarded
from sqlembed.service.link import Link

BUSY_MILLISECONDS = 5000

if TYPE_CHECKING:
    from sqlembed.engine.local import LocalEngine

_engine: "LocalEngine | None" = None
_engine_lock = Lock()
_connections: "weakref.WeakSet[apsw.Connection]" = weakref.WeakSet()
"""Those that :func:`connect` made in this process."""
# Its parent's may be in a transaction, which a child that closes them rolls back.
os.register_at_fork(after_in_child=_connections.clear)


def close() -> None:
    """Close the connections of :func:`connect` that the program leaves open when it ends.

    Where another module holds one of its functions, Python frees its connections after it has
    cleared APSW, and APSW crashes when it frees a table that Python made.
    """
    for connection in list(_connections):
        with suppress(apsw.Error):  # a thread still uses it
            connection.close()


def shared_engine() -> "LocalEngine":
    """The engine that every connection of this process uses, made when first asked for."""
    global _engine
    with _engine_lock:
        if _engine is None:
            # Not at the top: who uses the service needs no llama.cpp.
            from sqlembed.engine.local import LocalEngine

            _engine = LocalEngine()
            atexit.register(_engine.cache.close)
        return _engine


def made_engine() -> "LocalEngine | None":
    """That engine, if anybody has asked for it."""
    return _engine


def connect(
    path: str, *, flags: int | None = None, engine: Engine | str | None = None
) -> apsw.Connection:
    """Open a database with every function of sqlembed and sqlite-vec registered.

    :param path: the database file, or ``:memory:``
    :param flags: SQLite's open flags; read, write and create, if not given
    :param engine: who computes: ``"local"`` (this process), ``"service"``, ``"auto"`` (the service
        if one runs, else this process), or an engine of your own; SQLEMBED_ENGINE, if not given
    :returns: an ``apsw.Connection`` that waits up to 5 seconds for locks
    """
    chosen = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE if flags is None else flags
    connection = apsw.Connection(str(path), flags=chosen)
    connection.set_busy_timeout(BUSY_MILLISECONDS)
    register(connection, engine=engine)
    _connections.add(connection)
    return connection


def register(connection: apsw.Connection, *, engine: Engine | str | None = None) -> None:
    """Add every function of sqlembed and sqlite-vec to a connection of yours."""
    functions, chosen = _chosen(connection, engine)
    if not run(connection, _has_vec0()):
        connection.enable_load_extension(True)
        try:
            connection.load_extension(sqlite_vec.loadable_path())
        finally:
            connection.enable_load_extension(False)
    for function in functions:
        _add(connection, chosen, function)
    with suppress(apsw.BusyError):  # locked by another: its rows wait, as in deferred mode
        run(connection, watch(), patience=0)


def _has_vec0() -> Plan[bool]:
    # The table of this name would have SQLite read the database's schema, and that may be locked.
    return ("vec0",) in (yield Statement("PRAGMA module_list"))


def _chosen(
    connection: apsw.Connection, engine: Engine | str | None
) -> tuple[Iterable[Function], Engine | None]:
    """The functions to register, and the engine they are given; forwarded ones need none."""
    if engine is not None and not isinstance(engine, str):
        return ALL, engine
    who = settings.engine(engine)
    if who == "local":
        return ALL, shared_engine()
    link = _link(connection)
    if who == "auto":
        try:
            link.ready(start=False)
        except ServiceError:
            return ALL, shared_engine()
    return (forwarded(link, function) for function in ALL), None


def _link(connection: apsw.Connection) -> Link:
    owner = weakref.ref(connection)

    def check_interrupt() -> None:
        database = owner()
        if database is not None:
            with suppress(apsw.BusyError):  # it may have to read the schema, and needs none of it
                database.execute(STEPS)

    return Link(check_interrupt)


def _add(connection: apsw.Connection, engine: Engine | None, function: Function) -> None:
    match function:
        case Scalar():
            flags = apsw.SQLITE_DIRECTONLY if function.direct_only else apsw.SQLITE_INNOCUOUS
            call: Callable[..., SqlValue] = partial(function.call, engine)
            if function.lengthy and engine is not None:
                call = _ended_by_interrupt(connection, call)
            for count in range(function.least, function.most + 1):
                connection.create_scalar_function(
                    function.name, call, count, deterministic=function.deterministic, flags=flags
                )
        case Procedure():
            work = _procedure(connection, engine, function)
            for count in range(function.least, function.most + 1):
                connection.create_scalar_function(
                    function.name, work, count, flags=apsw.SQLITE_DIRECTONLY
                )
        case Aggregate():
            connection.create_aggregate_function(
                function.name, _steps(engine, function), 1, flags=apsw.SQLITE_INNOCUOUS
            )
        case Table():
            module: Any = Module(engine, function)
            connection.create_module(
                function.name,
                module,
                use_bestindex_object=True,
                eponymous_only=True,
                read_only=True,
            )


def _ended_by_interrupt(
    connection: apsw.Connection, call: Callable[..., SqlValue]
) -> Callable[..., SqlValue]:
    """*call*, given up once the connection's statements are refused, as a service's client does."""
    owner = weakref.ref(connection)

    def interrupted() -> bool:
        database = owner()
        try:
            with suppress(apsw.BusyError):  # it may have to read the schema, and needs none of it
                database and database.execute(STEPS)
        except apsw.InterruptError:
            return True
        return False

    def watched(*arguments: SqlValue) -> SqlValue:
        before = clients.gone.set(interrupted)
        try:
            return call(*arguments)
        except ClientGoneError as error:
            raise apsw.InterruptError("interrupted") from error
        finally:
            clients.gone.reset(before)

    return watched


def _procedure(
    connection: apsw.Connection, engine: Engine | None, procedure: Procedure
) -> Callable[..., SqlValue]:
    # The connection owns the function: held strongly, it would never be freed.
    owner = weakref.ref(connection)

    def call(*arguments: SqlValue) -> SqlValue:
        database = owner()
        assert database is not None
        result = run(database, procedure.plan(engine, *arguments))
        if procedure.makes_index:
            run(database, watch())
        return result

    return call


def _steps(engine: Engine | None, function: Aggregate) -> Callable[[], Any]:
    def start() -> Any:
        accumulator = function.start(engine)
        return (
            accumulator,
            lambda _, value: accumulator.step(value),
            lambda _: accumulator.final(),
        )

    return start
