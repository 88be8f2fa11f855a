"""The programs that are killed: each works on a database until it is told to stop, or dies.

A role ends with an error only where something is wrong; what others cause (a lock that was not
had, an index that is dropped, a service that was killed) is tried again.
"""

import os
import random
import signal
import sqlite3
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import apsw
import click
from crash import model, truth, world
from crash.phases import SLOTS, Phase
from crash.world import World

import sqlembed
from sqlembed.cli import main as command
from sqlembed.engine.local import LocalEngine
from sqlembed.errors import BusyError, NotFoundError
from sqlembed.index import backlog

STOP = SLOTS - 1
"""The byte that tells all roles to end after what they are at."""
STATEMENTS = 20
OTHERS_FAULT = (apsw.BusyError, BusyError)
"""What a role may meet while others write."""
CHANGES = (
    "SELECT sqlembed_reindex('t', 'fake')",
    "SELECT sqlembed_reindex('t', 'wide')",
    """SELECT sqlembed_alter('t', '{"tokens": 12}')""",
    """SELECT sqlembed_alter('t', '{"tokens": null}')""",
    """SELECT sqlembed_alter('t', '{"words": null}')""",
    """SELECT sqlembed_alter('t', '{"words": "unicode61"}')""",
    """SELECT sqlembed_alter('t', '{"expression": "body || '' again''"}')""",
    """SELECT sqlembed_alter('t', '{"expression": "body"}')""",
)
"""What an index is changed to while others use it."""
LEASE_SECONDS = 1
"""So that what a killed worker had is soon free."""


class Actor:
    """What a role has: the database, its own chance, and where it tells what it does."""

    def __init__(self, here: World, seed: str, slot: int) -> None:
        """See ``phases`` for *slot*."""
        self.world = here
        self.chance = random.Random(seed)
        phases = f"{here.directory}/phases"
        self.exclusive = False
        """Whether to be the database's only user, as a VFS in Python must with a WAL."""
        self.transactions: int | None = None
        """That may begin before it kills itself; None for any number."""
        self.begun = 0
        """How many have."""
        self.phase = Phase(phases, slot)
        self._stop = Phase(phases, STOP)
        model.use()
        model.CrashModel.began = staticmethod(lambda: self.phase.begin("embedding"))

    def goes_on(self) -> bool:
        """Whether nobody has told to stop."""
        return self._stop.now() == "starting"

    def connect(self, vfs: str | None = None) -> apsw.Connection:
        """Open the database with sqlembed; what it runs is seen."""
        if vfs is None:
            db = sqlembed.connect(self.world.path, engine=LocalEngine())
        else:
            db = apsw.Connection(self.world.path, vfs=vfs)
            if self.exclusive:
                db.execute("PRAGMA locking_mode = EXCLUSIVE")
            sqlembed.register(db, engine=LocalEngine())
        db.set_busy_timeout(int(world.BUSY_SECONDS * 1000))
        db.exec_trace = self._trace
        return db

    def _trace(self, _: apsw.Cursor, sql: str, __: object) -> bool:
        self.phase.seen(sql)
        if sql.startswith("BEGIN"):
            if self.begun == self.transactions:
                os.kill(os.getpid(), signal.SIGKILL)
            self.begun += 1
        return True


def plain_writer(actor: Actor) -> None:
    """An application that never heard of sqlembed, with Python's own sqlite3."""
    db = sqlite3.connect(actor.world.path, timeout=world.BUSY_SECONDS, isolation_level=None)
    while actor.goes_on():
        actor.phase.begin("writing rows")
        _write(actor, lambda sql, bindings: db.execute(sql, bindings))
        actor.phase.begin("idle")
        time.sleep(actor.chance.random() * 0.005)
    db.close()


def door_writer(actor: Actor) -> None:
    """An application on APSW with sqlembed; in immediate mode it stores what it writes."""
    db = actor.connect()
    while actor.goes_on():
        actor.phase.begin("writing rows")
        _write(actor, lambda sql, bindings: db.execute(sql, bindings or None))
        actor.phase.begin("idle")
        time.sleep(actor.chance.random() * 0.005)
    db.close()


def _write(actor: Actor, run: Callable[[str, tuple[Any, ...]], object]) -> None:
    """A transaction of some statements, that mostly is kept."""
    count = actor.chance.randint(1, STATEMENTS)
    run("BEGIN IMMEDIATE", ())
    for sql, bindings in world.changes(actor.world, actor.chance, count):
        run(sql, bindings)
    actor.phase.begin("committing")
    run("ROLLBACK" if actor.chance.random() < 0.1 else "COMMIT", ())


def flusher(actor: Actor) -> None:
    """A program that calls sqlembed_flush in a loop."""
    db = actor.connect()
    while actor.goes_on():
        some = actor.chance.choice(("", "'t'", "'t', 17"))
        with suppress(*OTHERS_FAULT):
            db.execute(f"SELECT sqlembed_flush({some})").fetchall()
        actor.phase.begin("idle")
        time.sleep(actor.chance.random() * 0.01)
    db.close()


def worker(actor: Actor) -> None:
    """``sqlembed work``."""
    backlog.LEASE_SECONDS = LEASE_SECONDS
    connection = apsw.Connection

    class Seen(connection):  # type: ignore[misc, valid-type]
        def __init__(self, *arguments: Any, **named: Any) -> None:
            super().__init__(*arguments, **named)
            self.exec_trace = actor._trace

    apsw.Connection = Seen  # type: ignore[misc]
    while actor.goes_on():
        with suppress(click.exceptions.Exit):
            command.main(["work", "--once", actor.world.path], standalone_mode=False)
        actor.phase.begin("idle")
        time.sleep(actor.chance.random() * 0.01)


def changer(actor: Actor) -> None:
    """Has the index made anew: another model, other chunks, words or texts."""
    db = actor.connect()
    while actor.goes_on():
        actor.phase.begin("reindexing")
        with suppress(*OTHERS_FAULT):
            db.execute(actor.chance.choice(CHANGES)).fetchall()
        actor.phase.begin("idle")
        time.sleep(actor.chance.random() * 0.02)
    db.close()


def checker(actor: Actor) -> None:
    """Checks an index that is whole, and repairs it: there is nothing to be found or mended."""
    db = actor.connect()
    while actor.goes_on():
        with suppress(*OTHERS_FAULT):
            actor.phase.begin("checking")
            truth.checked(db, truth.LASTING_FINDINGS)
            actor.phase.begin("repairing")
            try:
                db.execute("SELECT sqlembed_repair('t')").fetchall()
            except NotFoundError as error:
                if "replaced by another meanwhile" not in str(error):
                    raise
        actor.phase.begin("idle")
        time.sleep(actor.chance.random() * 0.01)
    db.close()


def searcher(actor: Actor) -> None:
    """Searches, and compares each answer and the status view with the truth of its moment."""
    db = actor.connect()
    while actor.goes_on():
        actor.phase.begin("searching")
        question = truth.question_of(actor.chance.randrange(1000))
        try:
            truth.snapshot(db, db_engine(db), actor.world, question, indexed=True)
        except OTHERS_FAULT:
            if db.in_transaction:
                db.execute("ROLLBACK")
        actor.phase.begin("idle")
        time.sleep(actor.chance.random() * 0.005)
    db.close()


def watcher(actor: Actor) -> None:
    """Looks at the status view, and compares it with the truth of its moment."""
    db = actor.connect()
    while actor.goes_on():
        actor.phase.begin("searching")
        with suppress(*OTHERS_FAULT):
            truth.standing(db, actor.world)
        actor.phase.begin("idle")
        time.sleep(actor.chance.random() * 0.05)
    db.close()


_engines: list[LocalEngine] = []


def db_engine(_: apsw.Connection) -> LocalEngine:
    """An engine to cut texts with; it computes nothing."""
    if not _engines:
        _engines.append(LocalEngine())
    return _engines[0]


def service(actor: Actor, *more: str) -> None:
    """``sqlembed serve`` with the fake model."""
    actor.phase.begin("serving")
    command.main(["serve", "--foreground", "--idle", "0", *more], standalone_mode=False)


def working_service(actor: Actor) -> None:
    """A service that was told to work on the database."""
    backlog.LEASE_SECONDS = LEASE_SECONDS
    service(actor, "--work", actor.world.path)


def make_index(actor: Actor, vfs: str | None = None) -> None:
    """Make the index of a table that has rows."""
    _once(actor, "SELECT sqlembed_index('t', 'body', ?)", (actor.world.options,), vfs)


def flush(actor: Actor, vfs: str | None = None) -> None:
    """Flush once: what waits, and a database of an older format."""
    _once(actor, "SELECT sqlembed_flush()", (), vfs)


def drop(actor: Actor, vfs: str | None = None) -> None:
    """Drop the index."""
    _once(actor, "SELECT sqlembed_drop('t')", (), vfs)


def repair(actor: Actor, vfs: str | None = None) -> None:
    """Repair what ``crash.damage`` did."""
    actor.phase.begin("repairing")
    _once(actor, "SELECT sqlembed_repair()", (), vfs)


def reindex(actor: Actor, vfs: str | None = None) -> None:
    """Change the model, back and forth."""
    actor.phase.begin("reindexing")
    db = apsw.Connection(actor.world.path)
    found = truth.live(db)
    db.close()
    other = "wide" if found and found.model == "fake" else "fake"
    _once(actor, "SELECT sqlembed_reindex('t', ?)", (other,), vfs)


def _once(actor: Actor, sql: str, bindings: tuple[Any, ...], vfs: str | None) -> None:
    db = actor.connect(vfs)
    db.execute(sql, bindings or None).fetchall()
    actor.phase.begin("idle")
    db.close()


def verify(actor: Actor) -> None:
    """Check everything, with nobody else about; then flush, and check again."""
    db = actor.connect()
    truth.whole(db, db_engine(db), actor.world, truth.question_of(actor.chance.randrange(1000)))
    db.close()


def verify_standing(actor: Actor) -> None:
    """Check what can be checked of very many rows: SQLite's structures and the status view."""
    db = actor.connect()
    truth.sound(db)
    truth.standing(db, actor.world)
    db.close()


def look(actor: Actor) -> None:
    """Check a moment while others go on."""
    db = actor.connect()
    truth.sound(db)
    truth.checked(db, truth.LASTING_FINDINGS)
    question = truth.question_of(actor.chance.randrange(1000))
    truth.snapshot(db, db_engine(db), actor.world, question, stored=True, indexed=True)
    db.close()


def fill(actor: Actor) -> None:
    """Make the table and its first rows."""
    here = actor.world
    Path(here.path).parent.mkdir(parents=True, exist_ok=True)
    db = sqlite3.connect(here.path, isolation_level=None)
    db.execute(f"PRAGMA journal_mode = {here.journal}")
    db.execute(world.TABLES[here.shape])
    marks = ", ".join("?" * (len(here.key) + 2))
    db.execute("BEGIN")
    for number in range(1, here.rows + 1):
        row = (*here.values(number), number, world.text(actor.chance))
        db.execute(f"INSERT INTO t VALUES ({marks})", row)
    db.execute("COMMIT")
    db.close()


def log_much(actor: Actor) -> None:
    """Have the log of a search's index grow long: every row changes some times."""
    db = sqlite3.connect(actor.world.path, timeout=world.BUSY_SECONDS, isolation_level=None)
    for _ in range(4):
        db.execute("UPDATE t SET body = body || ' more' WHERE random() % 2")
    db.close()
