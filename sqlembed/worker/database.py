"""One database of a worker's: looked at cheaply, worked on a page at a time."""

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import apsw

from sqlembed import errors
from sqlembed.doors.plans import run
from sqlembed.index import backlog, catalog, waiting
from sqlembed.index.backlog import Leased
from sqlembed.index.catalog import Index
from sqlembed.plan import Plan
from sqlembed.worker import upkeep
from sqlembed.worker.report import At, Report
from sqlembed.worker.stop import Stop
from sqlembed.worker.trouble import Trouble

FIRST_ROWS, FEWEST_ROWS, MOST_ROWS = 128, 8, 512
"""Rows of a page: as many as take SHORT to LONG seconds, so that turns and stops come soon."""
SHORT, LONG = 0.5, 2.0
LOOK_MILLISECONDS, WORK_MILLISECONDS = 50, 2000
"""How long a lock is waited for within SQLite: before a page, since the other databases wait
too; and while one is worked on, since it would have to be done again."""
LOCK_SECONDS = 0.5
"""How long another's write is waited for before a page."""
OPEN_SECONDS = 60.0
"""After which who computes is chosen anew when there is something to do: a service may run now."""
STEPS = 1000
"""Of SQLite's virtual machine, between two looks whether to stop."""
COUNTED_SECONDS, COUNTED_SHARE = 5.0, 50
"""What waits is counted anew after so long, and after so many times what counting took."""
UPKEEP_SHARE = 50
"""The same for the upkeep of an index."""
MOST_TOLD = 10_000
"""Rows that failed, of an index, which are remembered so as to be told once."""

DATA_VERSION = "PRAGMA data_version"
LOAD = "SELECT sqlembed_load(?)"
WORK = "SELECT sqlembed_work(?, ?)"


class Opened(NamedTuple):
    """A connection with every function of sqlembed."""

    connection: apsw.Connection
    forwarded: bool
    """Whether the service computes, and not this process."""


class Share:
    """What a worker knows of one index."""

    def __init__(self, at: At, index: Index) -> None:
        """Know nothing yet."""
        self.at = at
        self.index = index
        self.trouble = Trouble()
        self.rows = FIRST_ROWS
        self.waiting = 0
        """About how many rows wait."""
        self.count_at = 0.0
        """When to count them, by time.monotonic()."""
        self.stored = False
        """Whether any was since it was told that nothing waits."""
        self.untidy = True
        self.tidy_at = 0.0
        self.tries = 0
        """How often, being filled, it has tried to take another's place."""
        self.told: set[int] = set()
        """Rows that failed, by key."""


class Database:
    """What waits in one file. No error leaves here: it is told, and the file tried again later."""

    def __init__(
        self, path: str, connect: Callable[[str], Opened], stop: Stop, report: Report
    ) -> None:
        """Open nothing yet; *connect* opens a path to write, and makes no file."""
        self.path = path
        self.trouble = Trouble()
        self.failed = False
        """Whether anything was in the way, or a row failed."""
        self._connect = connect
        self._stop = stop
        self._report = report
        self._opened: Opened | None = None
        self._opened_at = 0.0
        self._file: tuple[int, int] | None = None
        self._shares: dict[int, Share] = {}
        self._quiet: int | None = None
        """The version of the data in which nothing was to be done."""
        self._again_at = 0.0
        """When to look even so, by time.time()."""

    @property
    def locked(self) -> bool:
        """Whether anything waits for others to finish, which is no failure."""
        return self.trouble.busy or any(share.trouble.busy for share in self._shares.values())

    def look(self) -> bool:
        """Whether anything is to be done now; only reads."""
        if self.trouble.waits() and not (self._file is None and os.path.exists(self.path)):
            return False
        with self._watched():
            db = self._open()
            db.set_busy_timeout(LOOK_MILLISECONDS)
            (version,) = db.execute(DATA_VERSION).fetchall()[0]
            if version == self._quiet and time.time() < self._again_at:
                return False
            found = run(db, self._find())
            if not (found and self.trouble.busy):  # a lock is over when something was written
                self._recovered(self.trouble, self.path)
            if found and self._quiet is not None and self._is_old():
                self.close()
            self._quiet = None if found else int(str(version))
            return found
        return False

    def turns(self) -> list[Share]:
        """Take what was written into the backlog; the indexes that have a page to work on."""
        with self._watched():
            db = self._open()
            db.set_busy_timeout(LOOK_MILLISECONDS)
            run(db, catalog.bring_forward(), LOCK_SECONDS)
            upto = run(db, backlog.newest())
            with self._stopping():
                run(db, backlog.absorb(upto), LOCK_SECONDS)
            every = run(db, catalog.every())
            self._note(every)
            if any(index.state == "dropped" for index in every):
                run(db, upkeep.free(), LOCK_SECONDS)
            found = []
            for share in list(self._shares.values()):
                if share.trouble.waits() or self._stop.asked() or self._takes_place(db, share):
                    continue
                if run(db, backlog.waits(share.index, upto, others=False)):
                    found.append(share)
                else:
                    self._keep_up(db, share, upto)
            return found
        return []

    def page(self, share: Share) -> None:
        """Embed and store a page of an index."""
        with self._watched(share):
            db = self._open()
            db.set_busy_timeout(LOOK_MILLISECONDS)
            self._count(db, share)
            with self._stopping(self._forwards()):
                db.execute(LOAD, (share.index.model,)).fetchall()  # before any lease
            begun = time.monotonic()
            upto = run(db, backlog.newest())
            leased = run(db, backlog.lease(share.index, 0, upto, share.rows), LOCK_SECONDS)
            if leased:
                db.set_busy_timeout(WORK_MILLISECONDS)
                done = self._work(db, share, leased)
                self._recovered(self.trouble, self.path)
                self._recovered(share.trouble, str(share.at))
                self._advance(share, done, len(leased), time.monotonic() - begun)
                if done < len(leased):
                    self._tell_failed(share, run(db, backlog.reasons(share.index, leased)))

    def close(self) -> None:
        """Let go of the file."""
        opened, self._opened, self._quiet = self._opened, None, None
        if opened is not None:
            opened.connection.close(True)

    def _open(self) -> apsw.Connection:
        try:
            found = os.stat(self.path)
        except OSError as error:
            self.close()
            self._file = None
            raise errors.NotFoundError(f"cannot be opened: {error.strerror}") from error
        file = found.st_dev, found.st_ino
        if file != self._file:  # another than before
            self.close()
            self._shares.clear()
        if self._opened is None:
            self._file, self._opened_at = file, time.monotonic()
            self._opened = self._connect(self.path)
        return self._opened.connection

    def _is_old(self) -> bool:
        return time.monotonic() - self._opened_at > OPEN_SECONDS

    def _find(self) -> Plan[bool]:
        """Whether anything is to be done; and if not, when to look again."""
        every = yield from catalog.every()
        self._note(every)
        self._again_at = float("inf")
        if any(index.state == "dropped" for index in every):
            return True
        if not self._shares:
            return False
        upto = yield from backlog.newest()
        if (yield from backlog.logged(upto)):
            return True
        for share in self._shares.values():
            if share.trouble.waits():
                self._again_after(share.trouble.until)
                continue
            if not share.index.has_backlog:  # an older format, where all is on the log
                continue
            if (yield from backlog.waits(share.index, upto, others=False)):
                return True
            if not share.tries and (yield from upkeep.wants_place(share.index)):
                return True
            if share.trouble.busy:  # others have done what it waited for
                share.trouble.over()
            if share.stored or (share.untidy and time.monotonic() >= share.tidy_at):
                return True
            if share.untidy:
                self._again_after(share.tidy_at)
            due = yield from backlog.next_due(share.index)
            self._again_at = min(self._again_at, float("inf") if due is None else due)
        return False

    def _again_after(self, until: float) -> None:
        self._again_at = min(self._again_at, time.time() + until - time.monotonic())

    def _note(self, indexes: list[Index]) -> None:
        """Know these indexes, and no others."""
        known, self._shares = self._shares, {}
        for index in indexes:
            if index.state == "dropped":
                continue
            share = known.get(index.index_id)
            if share is None or share.index.space != index.space:
                share = Share(At(self.path, index.name), index)
            share.index, share.at = index, At(self.path, index.name)
            self._shares[index.index_id] = share

    def _count(self, db: apsw.Connection, share: Share) -> None:
        begun = time.monotonic()
        if begun >= share.count_at:
            share.waiting = run(db, waiting.count(share.index))
            took = time.monotonic() - begun
            share.count_at = begun + max(COUNTED_SECONDS, COUNTED_SHARE * took)

    def _work(self, db: apsw.Connection, share: Share, leased: list[Leased]) -> int:
        rows = json.dumps(leased)
        try:
            with self._stopping(self._forwards()):
                return int(str(db.execute(WORK, (share.index.index_id, rows)).fetchall()[0][0]))
        except errors.ServiceError:
            raise  # one of the rows may have ended it, so the leases stay, and are counted
        except BaseException:
            run(db, backlog.let_go(share.index, leased))
            raise

    def _keep_up(self, db: apsw.Connection, share: Share, upto: int) -> None:
        """What is left to do once nothing of an index waits."""
        if share.stored:
            share.stored, share.count_at = False, 0.0
            self._report.drained(share.at)
        if not share.untidy or time.monotonic() < share.tidy_at:
            return
        with self._watched(share):
            begun = time.monotonic()
            run(db, upkeep.drained(share.index, upto))
            took = time.monotonic() - begun
            share.untidy, share.tidy_at = False, begun + UPKEEP_SHARE * took
            self._recovered(share.trouble, str(share.at))

    def _takes_place(self, db: apsw.Connection, share: Share) -> bool:
        """Have a shadow that is filled take its place; whether it has, and is another index now."""
        with self._watched(share):
            if run(db, upkeep.wants_place(share.index)):
                taken = run(db, upkeep.take_place(share.index, share.tries), LOCK_SECONDS)
                share.tries += 1
                return taken
        return False

    def _advance(self, share: Share, done: int, leased: int, took: float) -> None:
        share.stored = share.untidy = True
        if took < SHORT and leased == share.rows:
            share.rows = min(MOST_ROWS, 2 * share.rows)
        elif took > LONG:
            share.rows = max(FEWEST_ROWS, share.rows // 2)
        share.waiting = max(0, share.waiting - done)
        self._report.advanced(share.at, done, took, share.waiting)

    def _tell_failed(self, share: Share, reasons: dict[int, str]) -> None:
        new = {key: reason for key, reason in reasons.items() if key not in share.told}
        if not new:
            return
        self.failed = True
        if len(share.told) < MOST_TOLD:
            share.told |= new.keys()
        key, reason = next(iter(new.items()))
        which = f"the row of key {key}" if len(new) == 1 else f"{len(new)} rows, first key {key}"
        self._report.warn(
            f"{share.at}: {which} cannot be stored: {reason}; tried again later, and in the end"
            f" set aside; at once: SELECT sqlembed_retry('{share.index.name}')"
        )

    def _forwards(self) -> bool:
        return self._opened is not None and self._opened.forwarded

    @contextmanager
    def _stopping(self, wanted: bool = True) -> Iterator[None]:
        """Have a stop interrupt what SQLite runs, or what the service is waited for."""
        if not wanted or self._opened is None:
            yield
            return
        connection = self._opened.connection
        connection.set_progress_handler(self._stop.asked, STEPS)
        try:
            yield
        finally:
            connection.set_progress_handler(None)

    @contextmanager
    def _watched(self, share: Share | None = None) -> Iterator[None]:
        """Tell what goes wrong, once, and have it tried again later."""
        try:
            yield
        except (apsw.BusyError, apsw.LockedError, errors.BusyError) as error:
            if share is None or isinstance(error, apsw.Error):
                trouble, where = self.trouble, self.path
            else:
                trouble, where = share.trouble, str(share.at)
            if trouble.met_lock(str(error)):
                self._report.warn(f"{where}: {error}; waiting")
        except Exception as error:
            if not self._stop.asked():  # else it is what ended the work
                self._meet(error, share)

    def _meet(self, error: Exception, share: Share | None) -> None:
        self.failed = True
        words = str(error) or type(error).__name__
        of_file = isinstance(error, apsw.Error) and not isinstance(error, apsw.SQLError)
        if share is not None and not of_file:
            if share.trouble.met(words):
                self._report.warn(f"{share.at}: {words}")
            return
        self.close()
        if self.trouble.met(words):
            self._report.warn(f"{self.path}: {words}")

    def _recovered(self, trouble: Trouble, what: str) -> None:
        if trouble.over():
            self._report.warn(f"{what}: all is well again")
