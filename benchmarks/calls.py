"""What a call costs when nothing is to be computed: cached embed(), registration, start-up."""

import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial

import apsw
import report
import sqlite_vec
import texts
from report import Line, Table
from rounds import in_turn, ratio, seconds

import sqlembed
from sqlembed import settings
from sqlembed.plan import SqlValue

ROWS = "CREATE TABLE sms(body TEXT)"
INSERT = "INSERT INTO sms VALUES (?)"
WARM = "SELECT body, embed(body) FROM sms"
CALLS = """
WITH RECURSIVE pass(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM pass WHERE n < {passes})
SELECT sum(length({function}(body))) FROM pass CROSS JOIN sms"""
MILLISECONDS = 1000
NO_CACHE = {**os.environ, "SQLEMBED_CACHE": settings.MEMORY_ONLY}


def measure(quick: bool) -> list[Table]:
    """Every table of calls."""
    rounds = 2 if quick else 9
    return [cached(quick, rounds), registration(rounds), start(rounds)]


def cached(quick: bool, rounds: int) -> Table:
    """Calls a second of embed() on texts that were seen before."""
    texts.model()
    rows, passes = (64, 100) if quick else (512, 400)
    chosen = texts.messages()[:rows]
    db = sqlembed.connect(":memory:")
    db.execute(ROWS)
    db.executemany(INSERT, ((text,) for text in chosen))
    remembered: dict[SqlValue, SqlValue] = dict(db.execute(WARM))
    look_up: Callable[..., SqlValue] = remembered.get
    db.create_scalar_function("plain", look_up, 1, deterministic=True)

    def rate(function: str) -> float:
        sql = CALLS.format(passes=passes, function=function)
        return rows * passes / seconds(lambda: db.execute(sql).fetchall())

    measured = in_turn(
        {"embed(text)": partial(rate, "embed"), "a Python dict's get()": partial(rate, "plain")},
        rounds,
    )
    ours, theirs = measured.values()
    lines = [
        Line.of("embed(text)", ours, goal="500,000 calls/s"),
        Line.of("a Python dict's get()", theirs, ratio(ours, theirs)),
    ]
    note = f"{rows * passes:,} calls in one statement through APSW, over {rows} texts."
    return Table("Cached embed()", "calls/s", "embed() is ... times", lines, [note])


def registration(rounds: int) -> Table:
    """Milliseconds to open a connection with every function."""

    def ours() -> float:
        return MILLISECONDS * seconds(lambda: sqlembed.connect(":memory:").close())

    def theirs() -> float:
        return MILLISECONDS * seconds(vec_alone)

    ours()
    measured = in_turn({"sqlembed": ours, "sqlite-vec alone": theirs}, rounds)
    lines = [
        Line.of("sqlembed.connect()", measured["sqlembed"], goal="5 ms"),
        Line.of(
            "sqlite-vec alone",
            measured["sqlite-vec alone"],
            ratio(measured["sqlembed"], measured["sqlite-vec alone"]),
        ),
    ]
    return Table("Opening a connection", "ms", "sqlembed takes ... times", lines)


def vec_alone() -> None:
    """A connection with sqlite-vec's functions and nothing of ours."""
    db = apsw.Connection(":memory:")
    db.enable_load_extension(True)
    db.load_extension(sqlite_vec.loadable_path())
    db.close()


def start(rounds: int) -> Table:
    """Milliseconds of a fresh process."""
    programs = {
        "python -c pass": "pass",
        "sqlembed --version": "import sys; sys.argv = ['sqlembed', '--version'];"
        " from sqlembed.cli import main; main()",
        "sqlembed.connect()": "import sqlembed; sqlembed.connect(':memory:')",
        "a first embed(), the model loaded": "import sqlembed;"
        " sqlembed.connect(':memory:').execute(\"SELECT embed('Dinner at 8?')\").fetchall()",
    }
    sides: dict[str, Callable[[], float]] = {
        name: partial(process, program) for name, program in programs.items()
    }
    for side in sides.values():
        side()  # the files are in memory afterwards
    measured = in_turn(sides, rounds)
    bare, goals = measured["python -c pass"], {"sqlembed --version": "150 ms"}
    lines = [
        Line.of(name, values, None if values is bare else ratio(values, bare), goals.get(name, ""))
        for name, values in measured.items()
    ]
    return Table("A fresh process", "ms", "times a bare python", lines)


def process(program: str) -> float:
    """Milliseconds of a process that runs *program*."""
    command = [sys.executable, "-c", program]
    return MILLISECONDS * seconds(
        lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=NO_CACHE)
    )


if __name__ == "__main__":
    report.main(measure)
