"""Run plans on an APSW connection, inside whatever transaction is open there."""

from typing import TypeVar

import apsw

from sqlembed.plan import Boundary, Many, Plan, Rows, Statement, StatementError

Result = TypeVar("Result")
SAVEPOINT = "sqlembed_plan"


def run(db: apsw.Connection, plan: Plan[Result]) -> Result:
    """Run *plan* to its end and return its result.

    What it changed after BEGIN is undone if it fails before COMMIT. An error of SQLite
    that the plan does not handle is raised as APSW raised it.
    """
    transaction = Transaction(db)
    try:
        request = next(plan)
        while True:
            try:
                rows = _perform(db, transaction, request)
            except apsw.Error as error:
                failure = StatementError(str(error))
                failure.__cause__ = error
                request = plan.throw(failure)
            else:
                request = plan.send(rows)
    except StopIteration as end:
        result: Result = end.value
        return result
    except StatementError as failure:
        transaction.undo()
        raise failure.__cause__ or failure from None
    except BaseException:
        transaction.undo()
        raise


def _perform(
    db: apsw.Connection, transaction: "Transaction", request: Statement | Many | Boundary
) -> Rows:
    match request:
        case Statement(sql, bindings):
            return db.execute(sql, bindings or None).fetchall()
        case Many(sql, bindings):
            db.executemany(sql, bindings)
        case Boundary.BEGIN:
            transaction.begin()
        case Boundary.COMMIT:
            transaction.commit()
    return []


class Transaction:
    """The changes between BEGIN and COMMIT of one plan.

    Under a statement that is itself writing, SQLite refuses COMMIT and savepoints;
    there that statement is atomic, and nothing is to be done.
    """

    def __init__(self, db: apsw.Connection) -> None:
        """Begin nothing yet."""
        self._db = db
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
        elif self._db.txn_state("main") != apsw.SQLITE_TXN_WRITE:
            self._db.execute("BEGIN IMMEDIATE")
            self._commit, self._undo = "COMMIT", "ROLLBACK"

    def commit(self) -> None:
        """Keep the changes."""
        if self._commit is not None:
            self._db.execute(self._commit)
            self._commit = None

    def undo(self) -> None:
        """Drop the changes of what was begun and not committed."""
        if self._commit is not None and self._db.in_transaction:
            self._commit = None
            self._db.execute(self._undo)
