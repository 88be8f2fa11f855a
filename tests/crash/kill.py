"""Kill -9, hundreds of times: ``kill.py --kills 500 [--seed N] [--only ROUND]``; ``make crash``.

A round is a database of some random kind, and some kills on it. Before each, programs (``roles``)
work on it: writers with and without sqlembed, a worker, a flush in a loop, changes of the model and
of options, checks and repairs, a searcher that compares its answers with brute force, a service, which
may work itself, and its client. At a random moment one of them, or all, are
killed. Then SQLite's integrity, the index, the status view and every answer are compared with the truth
(``truth``), as they are and once more after a flush. Prints how many died of what at which moment;
what fails is told with the seed, and the database is kept.
"""

import argparse
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from crash import model  # noqa: E402, I001  # first: it keeps llama.cpp out
from crash import faults, old, phases, roles, world  # noqa: E402
from crash.program import Program, Role, WrongError, until_it_answers  # noqa: E402
from crash.world import World  # noqa: E402
from harness import FAKES, install_fake  # noqa: E402

import sqlembed.cli.serve  # noqa: E402, F401  # now, for all that are forked
from sqlembed import extension  # noqa: E402
from sqlembed.engine.local import LocalEngine  # noqa: E402

SYSTEM_PYTHON = "/usr/bin/python3"
"""Whose sqlite3 can load extensions."""
LONGEST_SECONDS = 0.25
"""Between the start of the programs and a kill."""
KILLS_A_ROUND = 10
FEW_KILLS = 100
"""With fewer, such as in the suite, there is no round of many rows."""
MANY_ROWS = 12_000
"""Of the rounds that look at the status view alone."""

LASTING: dict[str, Role] = {
    "writer": roles.plain_writer,
    "writer with sqlembed": roles.door_writer,
    "flush": roles.flusher,
    "worker": roles.worker,
    "searcher": roles.searcher,
    "model change": roles.changer,
    "check and repair": roles.checker,
}
ONCE: dict[str, Callable[..., None]] = {
    "index": roles.make_index,
    "flush once": roles.flush,
    "drop": roles.drop,
    "migration": roles.flush,
    "reindex": roles.reindex,
    "repair": roles.repair,
}
"""What is done once, and killed before a random call of the disk, between two transactions, or at a
random moment."""

KINDS = ("programs", *ONCE, "many rows")
"""Rounds; the first of each run are one of each."""
WEIGHTS = (14, *[2] * len(ONCE), 1)


class Round:
    """A database, and the kills that it survives."""

    def __init__(self, driver: "Driver", name: str, kind: str | None) -> None:
        """Choose what the database is like; *kind* is of ``KINDS``, or random."""
        self.driver, self.name = driver, name
        chance = self.chance = random.Random(name)
        directory = str(driver.directory / name.replace("/", "_"))
        os.makedirs(directory)
        self.kind = kind or chance.choices(KINDS, WEIGHTS)[0]
        client = self.kind == "programs" and chance.random() < 0.4
        self.world = World(
            directory,
            journal=chance.choice(("delete", "wal")),
            shape=chance.choice(sorted(world.TABLES)),
            words=chance.random() < 0.8,
            mode=chance.choice(("deferred", "deferred", "immediate")),
            tokens=None if client else chance.choice((None, None, 12)),
            rows=MANY_ROWS if self.kind == "many rows" else chance.randint(60, 200),
        )
        self.with_client = client
        self.serve = chance.choice((roles.service, roles.working_service))
        self._started = 0
        self._service: Program | None = None

    def run(self, kills: int) -> None:
        """Kill so many times."""
        self._start("fill", roles.fill).wait()
        self.world.save()
        if self.kind != "programs":
            getattr(self, f"_{self.kind.replace(' ', '_')}")(kills)
            return
        self._start("index", roles.make_index).wait()
        for _ in range(kills):
            self._kill_some()
        self._end_service(count=False)

    def _start(self, name: str, work: Role, slot: int | None = None) -> Program:
        phases_file = f"{self.world.directory}/phases"
        if slot is None:
            phases.make(phases_file)
            slot = 0
        self._started += 1
        return Program(self.world, name, work, f"{self.name}/{self._started}", slot)

    def _verify(self) -> None:
        self.driver.survived += 1
        self._start("verify", roles.verify).wait()

    # Programs that go on until they are told to stop.

    def _kill_some(self) -> None:
        phases.make(f"{self.world.directory}/phases")
        # The client's brute force knows one model and one way to cut texts.
        some = sorted(LASTING.keys() - {"model change"} if self.with_client else LASTING)
        names = self.chance.sample(some, self.chance.randint(2, 4))
        programs = [self._start(n, LASTING[n], slot) for slot, n in enumerate(names)]
        if self.with_client:
            programs += self._client(len(programs))
        for each in programs:
            each.begun()
        time.sleep(self.chance.random() * LONGEST_SECONDS)
        everybody = self.chance.random() < 0.2
        victims = programs if everybody else [self.chance.choice(programs)]
        for victim in victims:
            self.driver.note(self, victim.name, victim.kill())
            if victim is self._service:
                self._service = None
        left = [each for each in programs if each not in victims and each is not self._service]
        if left and self.chance.random() < 0.3:
            self._start("look", roles.look, 10).wait()
        if self.chance.random() < 0.3:
            for each in left:
                self.driver.note(self, each.name, each.kill())
        else:
            phases.Phase(f"{self.world.directory}/phases", roles.STOP).begin("idle")
            for each in left:
                each.wait()
        self._verify()

    def _client(self, slot: int) -> list[Program]:
        """The service, which may run already, and a client of it."""
        if self._service is None:
            self._service = self._start("service", self.serve, slot)
            until_it_answers(self.driver.socket, self._service)
        self._service.phase.begin("serving")
        library = str(extension.path()).removesuffix(".so")
        arguments = [SYSTEM_PYTHON, str(HERE / "client.py"), self.world.directory, str(slot + 1)]

        def client(actor: roles.Actor) -> None:
            environment = os.environ | {"HOST_LIBRARY": library, "SQLEMBED_COMMAND": "/bin/false"}
            os.execve(SYSTEM_PYTHON, [*arguments, str(self._started)], environment)

        return [self._service, self._start("client", client, slot + 1)]

    def _end_service(self, *, count: bool) -> None:
        if self._service is not None:
            self._service.kill()
            self._service = None

    # What is done once.

    def _killed(self, name: str) -> bool:
        """Have *name* done, and killed meanwhile; whether it was, or had ended before."""
        work, driver = ONCE[name], self.driver
        how = self.chance.choice(("call", "call", "transaction", "transaction", "moment"))
        number = self.chance.randrange(driver.counted.get((name, how), 20))
        counted = Path(self.world.directory, "counted")
        counted.unlink(missing_ok=True)

        def killed_by_call(actor: roles.Actor) -> None:
            disk = faults.Disk()
            disk.set(faults.Fault("any", number + 1, "kill"))
            # Shared memory is not to be had there: without others, none is needed.
            actor.exclusive = True
            work(actor, disk.name)
            counted.write_text(str(disk.counts["any"]))

        def killed_by_transaction(actor: roles.Actor) -> None:
            actor.transactions = number
            work(actor)
            counted.write_text(str(actor.begun))

        begun = time.monotonic()
        if how == "moment":
            program = self._start(name, work)
            program.begun()
            time.sleep(self.chance.random() * driver.seconds.get(name, 0.05))
            phase = program.kill()
            if phase is None:
                driver.seconds[name] = time.monotonic() - begun
        else:
            deadly = killed_by_call if how == "call" else killed_by_transaction
            program = self._start(name, deadly)
            phase = program.phase.now() if program.wait() else None
            if phase is None:
                driver.counted[name, how] = max(1, int(counted.read_text()))
        self.driver.note(self, name, phase)
        return phase is not None

    def _index(self, kills: int) -> None:
        for _ in range(kills):
            self._killed("index")
            self._verify()
            self._start("drop if there", _drop_if_there).wait()

    def _drop(self, kills: int) -> None:
        for _ in range(kills):
            self._start("index if not there", _index_if_not_there).wait()
            self._start("much is logged", roles.log_much).wait()
            self._killed("drop")
            self._verify()

    def _flush_once(self, kills: int) -> None:
        self._start("index", roles.make_index).wait()
        for _ in range(kills):
            self._start("much is logged", roles.log_much).wait()
            self._killed("flush once")
            self._verify()

    def _reindex(self, kills: int) -> None:
        self._start("index", roles.make_index).wait()
        for _ in range(kills):
            self._start("much is logged", roles.log_much).wait()
            self._killed("reindex")
            self._verify()

    def _repair(self, kills: int) -> None:
        self._start("index", roles.make_index).wait()
        for _ in range(kills):
            self._start("damage", _damage).wait()
            self._killed("repair")
            self._start("repair", roles.repair).wait()
            self._verify()

    def _many_rows(self, kills: int) -> None:
        """The status view past 10,000 rows, while it fills and its programs die."""
        self._start("index", _index_later).wait()
        for _ in range(kills):
            phases.make(f"{self.world.directory}/phases")
            names = ("flush", "worker", "writer", "status view")
            some = {**LASTING, "status view": roles.watcher}
            programs = [self._start(name, some[name], slot) for slot, name in enumerate(names)]
            for each in programs:
                each.begun()
            time.sleep(self.chance.random() * 4 * LONGEST_SECONDS)
            victim = self.chance.choice(programs)
            self.driver.note(self, victim.name, victim.kill())
            phases.Phase(f"{self.world.directory}/phases", roles.STOP).begin("idle")
            for each in programs:
                if each is not victim:
                    each.wait()
            self.driver.survived += 1
            self._start("verify", roles.verify_standing).wait()

    def _migration(self, kills: int) -> None:
        for number in range(kills):
            directory = f"{self.world.directory}/{number}"
            os.makedirs(directory)
            self.world = World(directory, journal=self.world.journal, table="sms")
            self._start("old format", _make_old).wait()
            self._killed("migration")
            self._verify()


def _index_if_not_there(actor: roles.Actor) -> None:
    db = actor.connect()
    options = actor.world.options[:-1] + ', "if_not_exists": true}'
    db.execute("SELECT sqlembed_index('t', 'body', ?)", (options,)).fetchall()
    db.close()


def _index_later(actor: roles.Actor) -> None:
    db = actor.connect()
    options = actor.world.options[:-1] + ', "backlog": "later"}'
    db.execute("SELECT sqlembed_index('t', 'body', ?)", (options,)).fetchall()
    db.close()


def _drop_if_there(actor: roles.Actor) -> None:
    db = actor.connect()
    if db.execute("SELECT 1 FROM sqlembed_status").fetchall():
        db.execute("SELECT sqlembed_drop('t')").fetchall()
    db.close()


def _damage(actor: roles.Actor) -> None:
    """Spoil what is stored, and lose some of it."""
    db = actor.connect()
    found = roles.truth.live(db)
    assert found is not None
    table = f"sqlembed_chunk_{found.number}"
    for sql in (
        f"UPDATE {table} SET vector = x'00' WHERE chunk % 7 = 1",
        f"UPDATE {table} SET digest = x'00' WHERE chunk % 7 = 2",
        "UPDATE sqlembed_block SET codes = x'00' WHERE first % 3",
        f"DELETE FROM {table} WHERE chunk % 7 = 4",
    ):
        if actor.chance.random() < 0.6:
            db.execute(sql)
    db.close()


def _make_old(actor: roles.Actor) -> None:
    old.make(actor.world, LocalEngine(), actor.chance)


class Driver:
    """Rounds, until enough have died."""

    def __init__(self, seed: int) -> None:
        """Make a directory with fake models."""
        self.seed = seed
        self.directory = Path(tempfile.mkdtemp(prefix="sqe", dir="/tmp"))
        self.socket = self.directory / "s"
        self.kills: Counter[tuple[str, str, str]] = Counter()
        """By role, journal mode, and what it was doing."""
        self.survived = 0
        """Times that all was compared."""
        self.counted: dict[tuple[str, str], int] = {}
        """Calls of the disk or transactions of something that is done once."""
        self.seconds: dict[str, float] = {}
        """What it took when it was not killed."""
        for name in [name for name in os.environ if name.startswith("SQLEMBED_")]:
            del os.environ[name]
        os.environ |= {
            "SQLEMBED_DATA": str(self.directory / "data"),
            "SQLEMBED_CACHE": str(self.directory / "cache.db"),
            "SQLEMBED_SOCKET": str(self.socket),
            "SQLEMBED_LOG": str(self.directory / "log"),
            "SQLEMBED_MODEL": "fake",
            "SQLEMBED_ENGINE": "local",
        }
        model.use()
        model.prepare()
        for name, kind, dimension, query in FAKES:
            if kind == "embedder":
                install_fake(name, kind, dimension, query)

    def note(self, here: Round, role: str, phase: str | None) -> None:
        """Count a death; None is none."""
        if phase is not None:
            self.kills[role, here.world.journal, phase] += 1

    def run(self, kills: int, only: str | None = None) -> None:
        """Go on until so many have died, or do the round *only*."""
        number = 0
        while sum(self.kills.values()) < kills:
            name = only or f"{self.seed}/{number}"
            place = int(name.split("/")[1])
            kind = KINDS[place] if place < len(KINDS) else None
            if kind == "many rows" and kills < FEW_KILLS:
                kind = "programs"  # it takes its time
            left = kills - sum(self.kills.values())
            here = Round(self, name, kind)
            try:
                here.run(min(left, KILLS_A_ROUND, max(2, kills // (2 * len(KINDS)))))
            except WrongError as failure:
                raise WrongError(
                    f"{here.world}\nround {name} (again: --only {name}): {failure}\n"
                    f"kept: {here.world.directory}"
                ) from None
            shutil.rmtree(self.directory / name.replace("/", "_"))
            number += 1
            if only is not None:
                return

    def table(self) -> str:
        """The counts: by role and moment, then by role as docs/storage.md shows them."""
        lines = [f"{'role':22}{'journal':10}{'at':24}{'killed':>7}"]
        for (role, journal, phase), count in sorted(self.kills.items()):
            lines.append(f"{role:22}{journal:10}{phase:24}{count:7}")
        lines += ["", "| killed | rollback journal | WAL |", "|---|---|---|"]
        for role in sorted({role for role, *_ in self.kills}):
            lines.append("| " + " | ".join([role, *map(str, self._counts(role))]) + " |")
        lines.append("| all | {} | {} |".format(*self._counts(None)))
        total = sum(self.kills.values())
        lines.append(f"{total} killed, and all was right {self.survived} times after")
        return "\n".join(lines)

    def _counts(self, role: str | None) -> list[int]:
        return [
            sum(n for (r, j, _), n in self.kills.items() if j == journal and role in (None, r))
            for journal in ("delete", "wal")
        ]


def main() -> None:
    """Read the command line, and kill."""
    roles.truth.small_blocks()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--only", metavar="ROUND", help="a round that failed: SEED/NUMBER")
    chosen = parser.parse_args()
    driver = Driver(chosen.seed)
    try:
        driver.run(chosen.kills, chosen.only)
    except WrongError as failure:
        print(driver.table())
        sys.exit(f"FAILED with --seed {chosen.seed}: {failure}")
    print(driver.table())
    shutil.rmtree(driver.directory)


if __name__ == "__main__":
    main()
