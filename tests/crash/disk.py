"""A disk that fails at each of its calls in turn: ``disk.py [--every 1] [--seed N] [--only STEP]``; ``make crash``.

For each thing that sqlembed does, in both journal modes, and for n = 1, 2, 3 and so on, the n-th
write, sync, truncation, opening, deletion or read fails, or is cut short, or finds no room, or the
power goes and some of what was not synced is lost (``faults``). The caller must get an error in
words, the connection must be usable, the database must agree with the truth (``truth``), and the
same call, made again, must complete. Prints how many of each kind were survived.
"""

import argparse
import faulthandler
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from crash import model  # noqa: E402, I001  # first: it keeps llama.cpp out
import random  # noqa: E402

import apsw  # noqa: E402
from crash import old, truth, world  # noqa: E402
from crash.faults import Disk, Fault  # noqa: E402
from crash.world import World  # noqa: E402
from harness import FAILING, FAKES, install_fake  # noqa: E402

import sqlembed  # noqa: E402
from sqlembed.cli.working import Opened, Report, Stop, Worker, condition  # noqa: E402
from sqlembed.engine.cache import Cache  # noqa: E402
from sqlembed.engine.local import LocalEngine  # noqa: E402
from sqlembed.errors import InputError, SqlembedError  # noqa: E402

ROWS = 40
HANGS_SECONDS = 300
JOURNALS = ("delete", "wal")
EFFECTS = {
    "write": ("fail", "short", "full"),
    "sync": ("fail",),
    "truncate": ("fail",),
    "open": ("fail",),
    "delete": ("fail",),
    "read": ("fail",),
    "any": ("cut",),
}
"""By call: what goes wrong."""
STATE = "SELECT count(*), coalesce(sum(length(body)), 0) FROM t"

Sql = tuple[str, tuple[Any, ...]]


class Step(NamedTuple):
    """Something that sqlembed does."""

    name: str
    run: tuple[Sql, ...]
    indexed: bool = True
    """Whether the table is indexed before."""
    before: tuple[Sql, ...] = ()
    """What is done before, without faults."""
    again: tuple[Sql, ...] | None = None
    """How it is done again where it may have been done; as at first, if not given."""
    mode: str = "deferred"
    damaged: bool = False
    """Whether the index is not right before it is done."""


def one(*statements: str) -> tuple[Sql, ...]:
    """Statements without bindings."""
    return tuple((sql, ()) for sql in statements)


INDEX = "SELECT sqlembed_index('t', 'body', '{}')".format
MANY = "UPDATE t SET body = 'newer ' || id || ' sun' WHERE id % 2"
ROWS_MORE = """
WITH RECURSIVE n(i) AS (SELECT 100 UNION ALL SELECT i + 1 FROM n LIMIT 60)
INSERT OR REPLACE INTO t SELECT i, i, 'row number ' || i || ' sun moon' FROM n"""
FLUSH = "SELECT sqlembed_flush()"
WORK = "sqlembed work"
"""Not SQL: what the worker does, on the same connection."""

STEPS = (
    Step(
        "index",
        one(INDEX("{}")),
        indexed=False,
        again=one(INDEX('{"if_not_exists": true}'), FLUSH),
    ),
    Step("bulk insert", one("BEGIN", ROWS_MORE, MANY, "COMMIT")),
    Step("flush", one(FLUSH), before=one(MANY, ROWS_MORE, "DELETE FROM t WHERE id % 5 = 1")),
    Step("update and flush", one("UPDATE t SET body = 'other' WHERE id < 9", FLUSH)),
    Step(
        "flush in a transaction",
        one("BEGIN", "UPDATE t SET body = 'other still' WHERE id < 9", FLUSH, "COMMIT"),
    ),
    Step(
        "flush after REPLACE",
        one(FLUSH),
        before=one("INSERT OR REPLACE INTO t SELECT id + 500, code, body FROM t WHERE id < 9"),
    ),
    Step(
        "flush of a text that fails",
        one(FLUSH),
        before=((MANY, ()), ("UPDATE t SET body = ? WHERE id = 7", (FAILING,))),
    ),
    Step(
        "immediate mode",
        one(
            "INSERT OR REPLACE INTO t VALUES (900, 900, 'stored at once')",
            "UPDATE t SET body = 'changed at once' WHERE id < 4",
            "DELETE FROM t WHERE id = 5",
        ),
        mode="immediate",
    ),
    Step("drop", one("SELECT sqlembed_drop('t')"), before=one(MANY)),
    Step(
        "search",
        one(
            "SELECT * FROM knn('t', 'sun moon', 50)",
            "SELECT * FROM search('t', 'sun moon', 50)",
            "SELECT * FROM sqlembed_status",
        ),
        before=one(MANY),
    ),
    Step("worker", one(WORK), before=one(MANY, ROWS_MORE, "DELETE FROM t WHERE id % 5 = 1")),
    Step("reindex", one("SELECT sqlembed_reindex('t', 'wide')")),
    Step(
        "alter",
        one(
            """SELECT sqlembed_alter('t', '{"words": null, "tokens": 12}')""",
            """SELECT sqlembed_alter('t', '{"expression": "body || '' again''"}')""",
        ),
        before=one(MANY),
    ),
    Step(
        "import",
        one("SELECT sqlembed_import('t', 'v', 'text', 'vector')"),
        before=one(
            MANY, "CREATE TABLE v AS SELECT body AS text, embed(body) AS vector FROM t WHERE id % 2"
        ),
    ),
    Step("check", one("SELECT * FROM sqlembed_check"), before=one(MANY)),
    Step(
        "repair",
        one("SELECT sqlembed_repair()"),
        before=one(
            "UPDATE sqlembed_chunk_1 SET vector = x'00' WHERE chunk % 3 = 1",
            "UPDATE sqlembed_block SET codes = x'00'",
        ),
        damaged=True,
    ),
)
OLD = Step("migration", one(FLUSH))


class WrongError(Exception):
    """Something was not as it must be after a fault."""


class Kept(apsw.Connection):
    """A connection that a worker can work on, and does not close."""

    _working = False

    def work(self) -> None:
        """Do what ``sqlembed work --once`` does; what it says is wrong is an error."""
        told: list[str] = []
        report = Report(lambda words: None, told.append)
        stop = Stop()
        self._working = True
        try:
            opened = Opened(self, forwarded=False)
            always = condition("always")
            Worker([self.filename], lambda path: opened, stop, report, always).run(once=True)
        finally:
            self._working = False
            stop.close()
        if told:
            raise SqlembedError("; ".join(told))

    def close(self, force: bool = False) -> None:
        """Close it, if it is not the worker who asks."""
        if not self._working:
            super().close(force)


class Trial:
    """A step in a journal mode, done with one fault after the other."""

    def __init__(self, here: "Driver", step: Step, journal: str) -> None:
        """Make the database as it is before the step."""
        self.driver, self.step = here, step
        self.world = World(
            tempfile.mkdtemp(dir=here.directory),
            journal=journal,
            table="sms" if step is OLD else "t",
            mode=step.mode,
            rows=ROWS,
        )
        self.state = STATE.replace(" t", f" {self.world.table}")
        self._start = Path(f"{self.world.path}.start")
        if step is OLD:
            old.make(self.world, here.engine, random.Random(0))
        else:
            self._new()
        shutil.move(self.world.path, self._start)

    def _new(self) -> None:
        db = self._connect()
        db.execute(f"PRAGMA journal_mode = {self.world.journal}")
        db.execute(world.TABLES["integer"])
        chance = random.Random(0)
        rows = [(n, n, world.text(chance)) for n in range(1, ROWS + 1)]
        db.executemany("INSERT INTO t VALUES (?, ?, ?)", rows)
        if self.step.indexed:
            db.execute("SELECT sqlembed_index('t', 'body', ?)", (self.world.options,)).fetchall()
        for sql, bindings in self.step.before:
            db.execute(sql, bindings or None).fetchall()
        db.close()

    def _connect(self, vfs: str | None = None) -> "Kept":
        db = Kept(self.world.path, vfs=vfs)
        if vfs is not None and self.world.journal == "wal":
            db.execute("PRAGMA locking_mode = EXCLUSIVE")
        sqlembed.register(db, engine=self.driver.engine)
        return db

    def _fresh(self) -> None:
        for ending in ("-journal", "-wal", "-shm"):
            Path(self.world.path + ending).unlink(missing_ok=True)
        shutil.copyfile(self._start, self.world.path)

    def _do(self, db: "Kept", statements: tuple[Sql, ...]) -> list[Any]:
        """Run statements; the states of the table between them."""
        states = [db.execute(self.state).fetchall()]
        for sql, bindings in statements:
            try:
                if sql == WORK:
                    db.work()
                else:
                    db.execute(sql, bindings or None).fetchall()
            except InputError as error:
                if "told to fail" not in str(error):  # that is what it is to say
                    raise
            if not db.in_transaction:
                states.append(db.execute(self.state).fetchall())
        return states

    def run(self, every: int) -> Iterator[tuple[str, str]]:
        """Do it with every fault, or one of so many; gives the call and the effect of each."""
        disk = self.driver.disk
        self._fresh()
        db = self._connect(disk.name)
        disk.set(None)
        states = self._do(db, self.step.run)
        db.close()
        counts = dict(disk.counts)
        self._check()
        for call, effects in EFFECTS.items():
            for effect in effects:
                first = 1 + self.driver.chance.randrange(every)
                for number in range(first, counts.get(call, 0) + 1, every):
                    lasting = effect in ("fail", "full") and number % 2 == 0
                    fault = Fault(call, number, effect, lasting)
                    self.driver.current = f"{self.step.name}, {self.world.journal}: {fault}"
                    if self._survives(fault, states):
                        yield call, effect

    def _survives(self, fault: Fault, states: list[Any]) -> bool:
        """Do it with a fault; whether that came."""
        disk = self.driver.disk
        self._fresh()
        error: Exception | None = None
        db = self._connect(disk.name)
        disk.set(fault)
        try:
            self._do(db, self.step.run)
        except Exception as raised:
            error = raised
        happened = disk.happened
        if error is not None:
            self._is_told(error)
        if fault.effect == "cut":
            with suppress(apsw.Error):
                db.close(force=True)
            disk.lose()
        else:
            disk.set(None)
            if db.in_transaction:
                db.execute("ROLLBACK")
            # On the same connection; or on another, as after a read that failed: FTS5 may keep words
            # of what was rolled back until the connection is closed or rolls back once more.
            if fault.number % 3 and fault.call != "read":
                self._agrees(db, states, done=error is None)
                self._again(db)
            db.close()
        self._check(states)
        return happened

    def _again(self, db: "Kept") -> None:
        """Do it once more, unless it is a drop that was done."""
        if self.step.name != "drop" or truth.live(db) is not None:
            self._do(db, self.step.again or self.step.run)

    def _is_told(self, error: Exception) -> None:
        if not isinstance(error, (apsw.Error, SqlembedError)) or not str(error):
            raise WrongError(f"the error is {error!r}") from error

    def _agrees(self, db: apsw.Connection, states: list[Any], *, done: bool) -> None:
        state = db.execute(self.state).fetchall()
        truth.check(state in (states[-1:] if done else states), "the table is", state, states)
        if not self.step.damaged:
            truth.snapshot(db, self.driver.engine, self.world, "sun moon", stored=True)

    def _check(self, states: list[Any] | None = None) -> None:
        """Open the database as usual, and compare all; do the step again, and compare again."""
        db = self._connect()
        if states is not None:
            self._agrees(db, states, done=False)
            if not self.step.damaged:
                truth.sound(db)
            self._again(db)
        if self.step.before and FAILING in str(self.step.before):
            db.execute("UPDATE t SET body = 'mended' WHERE id = 7")
        truth.whole(db, self.driver.engine, self.world, "sun moon")
        db.close()


class Driver:
    """Every step, and the counts."""

    def __init__(self, seed: int, say: Callable[[str], None]) -> None:
        """Make a directory with fake models."""
        self.directory = tempfile.mkdtemp(prefix="sqe", dir="/tmp")
        self.chance = random.Random(seed)
        self.disk = Disk(seed=seed)
        self.survived: Counter[tuple[str, str, str]] = Counter()
        """By step, journal mode, and what went wrong."""
        self.current = ""
        """What is tried just now."""
        self._say = say
        os.environ |= {"SQLEMBED_DATA": f"{self.directory}/data", "SQLEMBED_MODEL": "fake"}
        model.use()
        model.SLOWEST_SECONDS = 0
        for name, kind, dimension, query in FAKES:
            if kind == "embedder":
                install_fake(name, kind, dimension, query)
        self.engine = LocalEngine(Cache(":memory:", 1 << 26))

    def run(self, every: int, only: str | None, journals: Sequence[str]) -> None:
        """Do every step with every fault, or one of so many."""
        for step in (*STEPS, OLD):
            if only not in (None, step.name):
                continue
            for journal in journals:
                faulthandler.dump_traceback_later(HANGS_SECONDS, exit=True)
                for call, effect in Trial(self, step, journal).run(every):
                    what = "power cut" if effect == "cut" else f"{call}: {effect}"
                    self.survived[step.name, journal, what] += 1
                self._say(f"{step.name}, {journal}: {self.total(step.name, journal)} faults")
        faulthandler.cancel_dump_traceback_later()

    def total(self, *which: str) -> int:
        """How many were survived, of those whose names begin so."""
        return sum(n for names, n in self.survived.items() if names[: len(which)] == which)

    def table(self) -> str:
        """The counts by what went wrong."""
        kinds = sorted({kind for _, _, kind in self.survived})
        lines = ["| fault | rollback journal | WAL |", "|---|---|---|"]
        for kind in kinds:
            counts = [
                sum(n for (_, j, k), n in self.survived.items() if (j, k) == (journal, kind))
                for journal in JOURNALS
            ]
            lines.append("| " + " | ".join([kind, *map(str, counts)]) + " |")
        lines.append(f"{self.total()} faults survived")
        return "\n".join(lines)


def main() -> None:
    """Read the command line, and go wrong."""
    truth.small_blocks()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--only", metavar="STEP", help="; ".join(step.name for step in STEPS))
    parser.add_argument("--journal", choices=JOURNALS, action="append")
    chosen = parser.parse_args()
    driver = Driver(chosen.seed, lambda words: print(words, flush=True))
    try:
        driver.run(chosen.every, chosen.only, chosen.journal or JOURNALS)
    except BaseException:
        print(f"FAILED with --seed {chosen.seed}: {driver.current}; kept: {driver.directory}")
        raise
    print(driver.table())
    shutil.rmtree(driver.directory)


if __name__ == "__main__":
    main()
