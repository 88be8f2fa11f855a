"""Run plans on an APSW connection, inside whatever transaction is open there."""

from collections.abc import Callable
from contextlib import suppress
from random import uniform
from time import monotonic, sleep
from typing import TypeVar

import apsw

from sqlembed.errors import BusyError
from sqlembed.plan import (
    Boundary,
    Many,
    Plan,
    Request,
    Row,
    Rows,
    Statement,
    StatementError,
    drive,
)

Result = TypeVar("Result")
SAVEPOINT = "sqlembed_plan"
BEGIN = "BEGIN IMMEDIATE"
UNDO_TRIES = 3
BUSY_SECONDS = 10.0
"""How long others that write or read are waited for."""
BUSY_PAUSES = 0.01, 0.02
"""Seconds between two tries, drawn anew: two who wait shall not meet again and again."""
STEPS = """
WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c LIMIT 300) SELECT count(n) FROM c"""
"""Fails after an interrupt; of so many steps that a host's progress handler (a time limit) is
asked too."""
ANOTHER_WROTE = (
    "database is locked: this connection reads the database as it was before another's write;"
    " finish the statements or the transaction that read, then call it alone"
)
ANOTHER_WRITES = (
    "database is locked: another writes while this connection reads;"
    " finish the statements or the transaction that read, then call it alone"
)


def run(db: apsw.Connection, plan: Plan[Result], patience: float = BUSY_SECONDS) -> Result:
    """Run *plan* to its end and return its result.

    :param patience: seconds to wait for others that lock the database, whatever the host's own
        time limit for locks is

    What it changed after BEGIN is undone if it fails before COMMIT. An error of SQLite
    that the plan does not handle is raised as APSW raised it.
    """
    transaction = Transaction(db, patience)

    def perform(request: Request) -> Rows:
        try:
            return _perform(db, transaction, request, patience)
        except (apsw.SQLError, apsw.LockedError) as error:
            # Others (busy, interrupted, full) are no plan's to handle.
            raise StatementError(str(error)) from error
        except apsw.BusyError as error:
            if _is_snapshot(error):
                raise BusyError(ANOTHER_WROTE) from error
            if db.txn_state("main") == apsw.SQLITE_TXN_READ:
                raise BusyError(ANOTHER_WRITES) from error
            raise
        except apsw.CorruptError as error:
            if _extended(error) == apsw.SQLITE_CORRUPT_VTAB:  # a table of FTS5, not the file
                raise StatementError(str(error)) from error
            raise

    try:
        return drive(plan, perform)
    except StatementError as failure:
        transaction.undo()
        raise failure.__cause__ or failure from None
    except BaseException:
        transaction.undo()
        raise


def _perform(
    db: apsw.Connection, transaction: "Transaction", request: Request, patience: float
) -> Rows:
    match request:
        case Statement() as statement:
            if _holds_nothing(db):
                return _patiently(db, lambda: _rows(db, statement), patience)
            return _rows(db, statement)
        case Many(sql, bindings):
            db.executemany(sql, bindings)
        case Boundary.BEGIN:
            transaction.begin()
        case Boundary.COMMIT:
            transaction.commit()
    return []


def _rows(db: apsw.Connection, statement: Statement) -> Rows:
    cursor = db.cursor()
    if db.row_trace is not None:  # the host's may turn rows into something else
        cursor.row_trace = _as_it_is
    return cursor.execute(statement.sql, statement.bindings or None).fetchall()


def _holds_nothing(db: apsw.Connection) -> bool:
    """Whether no other waits for this connection, while it waits for them."""
    return not db.in_transaction and db.txn_state("main") == apsw.SQLITE_TXN_NONE


def _patiently(db: apsw.Connection, work: Callable[[], Result], patience: float) -> Result:
    """Do *work*, again and again while the database is locked by others."""
    until = monotonic() + patience
    while True:
        try:
            return work()
        except apsw.BusyError as error:
            # Where the host reads the state from before another's write, no waiting helps.
            if _is_snapshot(error) or monotonic() >= until:
                raise
        sleep(uniform(*BUSY_PAUSES))
        with suppress(apsw.BusyError):  # where the schema is not known yet, it too has to read
            db.execute(STEPS)


def _is_snapshot(error: apsw.BusyError) -> bool:
    return _extended(error) == apsw.SQLITE_BUSY_SNAPSHOT


def _extended(error: apsw.Error) -> int:
    code: int = getattr(error, "extendedresult", 0)  # not in APSW's annotations
    return code


def _as_it_is(_: apsw.Cursor, row: Row) -> Row:
    return row


class Transaction:
    """The changes between BEGIN and COMMIT of one plan.

    Under a statement that is itself writing, SQLite refuses COMMIT and savepoints;
    there that statement is atomic, and nothing is to be done.
    """

    def __init__(self, db: apsw.Connection, patience: float) -> None:
        """Begin nothing yet."""
        self._db = db
        self._patience = patience
        self._commit: str | None = None
        self._undo = ""

    def begin(self) -> None:
        """Start a transaction, or a savepoint in the host's."""
        if self._db.in_transaction:
            try:
                self._db.execute(f"SAVEPOINT {SAVEPOINT}")
            except apsw.BusyError:  # cannot open savepoint - SQL statements in progress
                return
            self._commit = f"RELEASE {SAVEPOINT}"
            self._undo = f"ROLLBACK TO {SAVEPOINT}; RELEASE {SAVEPOINT}"
        elif self._db.txn_state() != apsw.SQLITE_TXN_WRITE:
            if _holds_nothing(self._db):
                _patiently(self._db, lambda: self._db.execute(BEGIN), self._patience)
            else:
                # The host reads. With a rollback journal, who writes waits for that to end; with a
                # WAL, what it reads is old when the other is done: not even a while is waited.
                self._db.execute(BEGIN)
            self._commit, self._undo = "COMMIT", "ROLLBACK"

    def commit(self) -> None:
        """Keep the changes; with a rollback journal when those who read now have ended."""
        if self._commit is not None:
            sql = self._commit
            _patiently(self._db, lambda: self._db.execute(sql), self._patience)
            self._commit = None

    def undo(self) -> None:
        """Drop the changes of what was begun and not committed."""
        if self._commit is None:
            return
        self._commit = None
        for _ in range(UNDO_TRIES):
            if not self._db.in_transaction:
                return
            try:
                self._db.execute(self._undo)
                return
            except apsw.InterruptError:
                # After an interrupt nothing runs until the host's statement ends, ROLLBACK
                # neither. But a statement that writes and is interrupted makes SQLite roll
                # the whole transaction back, as it documents; this one is prepared already.
                with suppress(apsw.Error):
                    self._db.execute(BEGIN)
