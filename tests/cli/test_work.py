"""``sqlembed work`` as a command: what it says, its exit codes, and its bars."""

import io
import signal
from pathlib import Path

import apsw
import pytest
from harness import FAILING
from rich.console import Console

from sqlembed.cli.progress import Bars
from sqlembed.cli.work import BarReport
from sqlembed.worker import report
from sqlembed.worker.report import At, Report


@pytest.fixture(autouse=True)
def no_service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever service runs on this machine is not this test's."""
    monkeypatch.setenv("SQLEMBED_SOCKET", str(tmp_path / "s"))


@pytest.fixture
def waiting(indexed):
    """Two rows wait."""
    db = apsw.Connection(indexed)
    db.execute("INSERT INTO sms(body) VALUES ('one more'), ('and another')")
    db.close()
    return indexed


def test_once_stores_what_waits(run, waiting):
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    result = run("work", waiting, "--once")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith(f"{waiting} sms: 2 rows in ")
    assert run("work", waiting, "--once").stdout == ""
    assert run("flush", waiting).stdout.startswith("sms: 0 rows")
    assert handlers == [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]


def test_once_fails_where_anything_was_in_the_way(run, waiting, tmp_path):
    result = run("work", str(tmp_path / "none.db"), waiting, "--once")
    assert result.exit_code == 1
    assert result.stderr == (
        f"sqlembed: {tmp_path}/none.db: cannot be opened: No such file or directory\n"
    )
    assert result.stdout.startswith(f"{waiting} sms: 2 rows in ")


def test_once_fails_where_a_row_does(run, waiting):
    db = apsw.Connection(waiting)
    db.execute("INSERT INTO sms(body) VALUES (?)", (FAILING,))
    db.close()
    result = run("work", waiting, "--once")
    assert result.exit_code == 1
    assert "sms: the row of key 7 cannot be stored: the fake model was told to" in result.stderr
    assert result.stdout.startswith(f"{waiting} sms: 2 rows in ")


def test_a_database_named_twice_is_one(run, waiting):
    assert run("work", waiting, waiting, "--once").stdout.count("\n") == 1


def test_help_says_when_it_works_and_how_it_ends(run):
    text = " ".join(run("work", "--help").stdout.split())
    for words in ("always|idle|charging", "without a battery", "exit code 0", "a fifth"):
        assert words in text


@pytest.mark.parametrize("arguments", [[], ["app.db", "--when", "sunny"]])
def test_misuse_is_a_usage_error(run, arguments):
    assert run("work", *arguments).exit_code == 2


class Clock:
    """Seconds, as a test says."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_line_a_minute_and_one_in_the_end(monkeypatch):
    clock, told, at = Clock(), [], At("a.db", "t")
    monkeypatch.setattr(report, "monotonic", clock)
    said = Report(told.append, told.append, "noon")
    for _ in range(40):
        clock.now += 2
        said.advanced(at, 100, 2.0, 7200)
    assert told == ["a.db t: 3,000 rows, 50 rows/s; 7,200 wait, 0:02:24 left"]
    clock.now += 60
    said.drained(at)
    assert told[1:] == ["a.db t: 1,000 rows in 20.0 s"]
    for _ in range(5):  # a trickle
        clock.now += 2
        said.advanced(at, 1, 0.1, 0)
        said.drained(at)
        said.rest()
    assert len(told) == 2
    clock.now += 60
    said.rest()
    assert told[2:] == ["a.db t: 5 rows in 0.5 s"]
    for _ in range(50):
        said.paused()
        clock.now += 1
    assert told[3:] == ["rows wait until noon"]
    said.advanced(at, 1, 0.1, 0)
    said.end()
    assert told[4:] == ["a.db t: 1 rows in 0.1 s"]


def test_a_bar_for_each_backlog_on_a_terminal(monkeypatch):
    file = io.StringIO()
    monkeypatch.setattr("sqlembed.cli.work.click.echo", lambda *_, **__: None)
    with Bars(Console(file=file, force_terminal=True, width=100)) as bars:
        said = BarReport(bars, "always")
        said.advanced(At("a.db", "t"), 100, 1.0, 300)
        said.advanced(At("a.db", "u"), 10, 1.0, 30)
        said.advanced(At("b.db", "trickle"), 1, 1.0, 0)
        said.drained(At("a.db", "t"))
        said.drained(At("b.db", "trickle"))
        bars._progress.refresh()
    drawn = file.getvalue()
    assert "a.db t" in drawn and "100/400" in drawn
    assert "a.db u" in drawn and "10/40" in drawn
    assert "trickle" not in drawn
