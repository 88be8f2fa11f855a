"""Open a database for a verb, and close it and the engine in the end."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw

from sqlembed.cli.failure import Failure
from sqlembed.doors.apsw_door import connect, shared_engine
from sqlembed.errors import NotFoundError
from sqlembed.plan import SqlValue

MEMORY = ":memory:"


@contextmanager
def opened(
    path: str = MEMORY, *, write: bool = False, create: bool = False
) -> Iterator[apsw.Connection]:
    """A connection to the database at *path* with every function registered.

    :param write: whether the database may be changed
    :param create: whether a file that is not there becomes an empty database
    :raises NotFoundError: there is no such file
    :raises Failure: SQLite cannot do it: no database, locked, not readable
    """
    if not create and path != MEMORY and not Path(path).is_file():
        raise NotFoundError(f"there is no database file {path}")
    flags = apsw.SQLITE_OPEN_READWRITE if write else apsw.SQLITE_OPEN_READONLY
    if create:
        flags |= apsw.SQLITE_OPEN_CREATE
    try:
        connection = connect(path, flags=flags)
        try:
            yield connection
        finally:
            connection.close(True)
    except apsw.Error as error:
        raise Failure(f"{path}: {error}") from error
    finally:
        shared_engine().close()


def records(
    db: apsw.Connection, sql: str, bindings: tuple[SqlValue, ...] = ()
) -> list[dict[str, SqlValue]]:
    """The rows of a statement as dictionaries, ready for ``--json``."""
    cursor = db.execute(sql, bindings)
    return [
        dict(zip((name for name, *_ in cursor.description), row, strict=True)) for row in cursor
    ]
