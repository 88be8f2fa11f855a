"""``sqlembed work`` as real processes: signals, several at once, and with a service beside or around it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest
from service.scene import HERE, Scene, until

ROWS = 2000
BACKLOG = "SELECT count(*), sum(lease > 0), sum(takes), sum(tries) FROM sqlembed_backlog"
STORED = "SELECT count(*) FROM sqlembed_chunk_1"


class Programs:
    """Workers of a scene."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.path = str(scene.directory / "app.db")
        self.db = apsw.Connection(self.path)
        self.db.set_busy_timeout(20_000)
        self.started: list[subprocess.Popen[str]] = []

    def fill(self, *bodies: str) -> None:
        """Make a table of texts that wait in an index."""
        self.db.execute("PRAGMA journal_mode = WAL")
        self.db.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, body)")
        self.db.execute("BEGIN")
        self.db.executemany("INSERT INTO t(body) VALUES (?)", [(body,) for body in bodies])
        self.db.execute("COMMIT")
        code = (
            "import sqlembed, sys\n"
            "db = sqlembed.connect(sys.argv[1], engine='local')\n"
            """db.execute('SELECT sqlembed_index(\\'t\\', \\'body\\', \\'{"backlog": "later"}\\')')"""
        )
        environment = self.scene.environment
        subprocess.run([sys.executable, "-c", code, self.path], env=environment, check=True)

    def work(self, *arguments: str, **environment: str) -> "subprocess.Popen[str]":
        """Start a worker."""
        made = subprocess.Popen(
            [sys.executable, str(HERE / "fake_serve.py"), "work", self.path, *arguments],
            env=self.scene.environment | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.started.append(made)
        return made

    def end(self) -> None:
        """Kill them."""
        for each in self.started:
            each.kill()
            each.communicate()
        self.db.close()


@pytest.fixture
def programs(scene: Scene) -> Iterator[Programs]:
    """Workers of a scene."""
    made = Programs(scene)
    yield made
    made.end()


def row(programs: Programs, sql: str) -> tuple[object, ...]:
    found: tuple[object, ...] = programs.db.execute(sql).fetchall()[0]
    return found


def test_processes_share_a_backlog_and_do_no_row_twice(programs: Programs) -> None:
    programs.fill(*(f"number {n}" for n in range(ROWS)))
    # A cache of its own, else what one does twice would be found there.
    both = [programs.work("--once", SQLEMBED_CACHE=":memory:") for _ in range(2)]
    for each in both:
        assert each.communicate(timeout=60)[1] == ""
        assert each.returncode == 0
    assert sorted(programs.scene.texts()) == sorted(f"number {n}" for n in range(ROWS))
    assert row(programs, STORED) == (ROWS,)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("served", [False, True])
def test_a_signal_gives_back_what_was_leased(
    programs: Programs, number: signal.Signals, served: bool
) -> None:
    programs.fill(*(f"number {n}" for n in range(200)), "wait:go words")
    if served:
        programs.scene.start()
    worker = programs.work()
    programs.scene.begun("go")
    assert row(programs, BACKLOG)[1] == 73
    worker.send_signal(number)
    out, error = worker.communicate(timeout=30)
    assert (worker.returncode, error) == (0, "")
    left, leased, takes, tries = row(programs, BACKLOG)
    assert (leased or 0, takes or 0, tries or 0) == (0, 0, 0)
    assert row(programs, STORED) == (201 - int(str(left)),)
    if served:  # here the fake model's answer comes too late; in one process it may be stored
        assert left == 73
        assert out.startswith(f"{programs.path} t: 128 rows in ")
    programs.scene.touch("go")
    assert programs.work("--once").wait(60) == 0
    assert row(programs, STORED) == (201,)


def test_a_second_signal_ends_it_at_once(programs: Programs) -> None:
    programs.fill("sleep:600 words")
    worker = programs.work()
    until(lambda: programs.scene.texts(), "its work")
    worker.send_signal(signal.SIGTERM)
    time.sleep(0.2)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(30) == 128 + signal.SIGTERM
    assert row(programs, BACKLOG) == (1, 1, 1, 0)


def test_what_takes_long_is_interrupted_after_a_while(programs: Programs) -> None:
    programs.fill("sleep:600 words")
    worker = programs.work()
    until(lambda: programs.scene.texts(), "its work")
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(30) == 0
    assert row(programs, BACKLOG) == (1, 0, 0, 0)


def test_the_service_computes_if_one_runs(programs: Programs) -> None:
    programs.fill("one", "two", "three")
    programs.scene.start()
    process = programs.scene.process()
    assert programs.work("--once").wait(60) == 0
    assert sorted(programs.scene.texts()) == ["one", "three", "two"]
    assert programs.scene.process() == process


def test_a_row_that_kills_the_service_is_counted_and_the_others_are_stored(
    programs: Programs,
) -> None:
    programs.fill("die", *(f"number {n}" for n in range(150)))
    programs.scene.start()
    worker = programs.work()
    until(lambda: row(programs, STORED) == (23,), "those of the next page")
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(30) == 0
    assert row(programs, BACKLOG) == (128, 128, 128, 0)
    assert worker.stderr is not None
    assert "t: sqlembed's service ended while it was asked" in worker.stderr.read()


def test_the_service_itself_works_on_databases(programs: Programs) -> None:
    programs.fill("one", "two")
    scene = programs.scene
    scene.start("--work", programs.path, "--work", str(scene.directory / "none.db"))
    until(lambda: row(programs, STORED) == (2,), "what waited")
    programs.db.execute("INSERT INTO t(body) VALUES ('three')")
    until(lambda: row(programs, STORED) == (3,), "what was written")
    refused = scene.serve("--work", programs.path)
    assert refused.returncode == 1
    assert "was not told of these databases" in refused.stderr
    programs.db.execute("INSERT INTO t(body) VALUES ('wait:go words')")
    scene.begun("go")
    assert scene.serve("--stop").stdout == "ended\n"
    left = row(programs, BACKLOG)
    assert (left[0] or 0) + row(programs, STORED)[0] == 4  # type: ignore[operator]
    assert not left[1]
    log = Path(scene.log).read_text()
    assert f"{programs.path} t: 2 rows in " in log
    assert f"{scene.directory}/none.db: cannot be opened: No such file or directory" in log
    assert "Traceback" not in log
    until(lambda: not scene.processes(), "its end")


def test_with_a_missing_database_once_is_a_failure(programs: Programs) -> None:
    programs.fill("one")
    worker = programs.work(str(programs.scene.directory / "none.db"), "--once")
    assert "cannot be opened" in worker.communicate(timeout=30)[1]
    assert worker.returncode == 1
    assert row(programs, STORED) == (1,)
    assert os.listdir(programs.scene.directory).count("none.db") == 0
