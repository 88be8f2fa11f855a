"""Programs that share the service through the extension: start, calls, memory, many at once."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from itertools import count
from pathlib import Path
from statistics import median, quantiles
from threading import Event, Thread

import apsw
import numpy as np
import peers
import psutil
import report
import texts
from calls import CALLS, INSERT, MILLISECONDS, ROWS, WARM
from embedding import INDEX, PACKED, PACKED_TWO, TABLE, tell_same
from packed import Loop
from report import Line, Table
from rounds import in_turn, ratio, seconds

from sqlembed import extension, settings

EXTENSION = str(extension.path())
CLIENTS = 8
ALONE = "one client alone"
SHELL_EMBEDS = f".load {EXTENSION}\nSELECT length(embed('Dinner at 8?'));"
ONE = "SELECT embed(?)"
EACH = "SELECT embed(body) FROM sms"
CLEAR = "SELECT sqlembed_cache_clear()"
BATCHES = """
SELECT max(value) FILTER (WHERE name LIKE '%_sum'), max(value) FILTER (WHERE name LIKE '%_count')
FROM sqlembed_metrics WHERE name LIKE 'sqlembed_batch_inference_duration_seconds%'"""
MEGABYTE = 1e6


def measure(quick: bool) -> list[Table]:
    """Every table of the service."""
    texts.model()
    with running():
        return [*shells(quick), cached(quick), together(quick), interactive(quick)]


@contextmanager
def running() -> Iterator[None]:
    """A service of the benchmark's own, with the model loaded."""
    with tempfile.TemporaryDirectory(prefix="sqe", dir="/tmp") as work:
        os.environ |= {"SQLEMBED_SOCKET": f"{work}/s", "SQLEMBED_LOG": f"{work}/log"}
        connect().execute(ONE, ("The model is loaded by this.",)).fetchall()
        try:
            yield
        finally:
            subprocess.run([sys.executable, "-m", "sqlembed", "serve", "--stop"], check=True)


def connect(path: str = ":memory:") -> apsw.Connection:
    """A connection that knows sqlembed by its loadable extension alone."""
    db = apsw.Connection(path)
    db.set_busy_timeout(10_000)
    db.enable_load_extension(True)
    db.load_extension(EXTENSION)
    return db


def shells(quick: bool) -> list[Table]:
    """The stock shell: how long until it has a vector, and what it takes of memory."""
    if shutil.which("sqlite3") is None:
        report.tell(peers.NO_SHELL)
        return []
    rounds, number = 3 if quick else 21, count()

    def shell(*commands: str) -> float:
        return MILLISECONDS * seconds(
            lambda: subprocess.run(
                ["sqlite3", ":memory:", *commands], check=True, stdout=subprocess.DEVNULL
            )
        )

    def embedding() -> float:
        return shell(f".load {EXTENSION}", f"SELECT embed('Dinner at {next(number)}?')")

    measured = in_turn(
        {"a bare shell": partial(shell, "SELECT 1"), "with a first embed()": embedding}, rounds
    )
    bare, ours = measured.values()
    started = [
        Line.of("sqlite3, SELECT 1", bare),
        Line.of("sqlite3, .load and embed() of a new text", ours, ratio(ours, bare), "50 ms"),
    ]
    service = psutil.Process(int(Path(os.environ["SQLEMBED_SOCKET"] + ".lock").read_text()))

    def more() -> tuple[float, float]:
        before = own_memory(service)
        with shell_that_ran("SELECT 1;") as bare, shell_that_ran(SHELL_EMBEDS) as ours:
            return own_memory(ours) - own_memory(bare), own_memory(service) - before

    each = [more() for _ in range(rounds)]
    memory = [
        Line.of("both together, for one more shell", [sum(pair) for pair in each], goal="5 MB"),
        Line.of("the shell, more than a bare one", [pair[0] for pair in each]),
        Line.of("the service, more than before", [pair[1] for pair in each]),
        Line.of("the service itself", [own_memory(service)]),
    ]
    return [
        Table("A fresh sqlite3 shell, the service running", "ms", "times a bare shell", started),
        Table("Memory of one more program", "MB", "", memory, ["Private memory (USS)."]),
    ]


def own_memory(process: psutil.Process) -> float:
    """Megabytes that *process* shares with nobody."""
    return float(process.memory_full_info().uss) / MEGABYTE


@contextmanager
def shell_that_ran(script: str) -> Iterator[psutil.Process]:
    """A stock shell that has run *script*, which prints a line, and waits for more."""
    pipe = subprocess.PIPE
    with subprocess.Popen(["sqlite3", ":memory:"], stdin=pipe, stdout=pipe, text=True) as shell:
        assert shell.stdin and shell.stdout
        shell.stdin.write(f"{script}\n")
        shell.stdin.flush()
        shell.stdout.readline()
        yield psutil.Process(shell.pid)


def cached(quick: bool) -> Table:
    """Calls a second of embed() on texts that were seen before, each a question to the service."""
    rows, passes, rounds = (64, 20, 2) if quick else (512, 60, 9)
    db = connect()
    db.execute(ROWS)
    db.executemany(INSERT, ((text,) for text in texts.messages()[:rows]))
    db.execute(WARM).fetchall()

    def rate(function: str) -> float:
        sql = CALLS.format(passes=passes, function=function)
        return rows * passes / seconds(lambda: db.execute(sql).fetchall())

    sides = {"embed(text)": partial(rate, "embed")}
    found = in_turn(sides, rounds)["embed(text)"]
    note = f"{rows * passes:,} calls in one statement, over {rows} texts, one connection."
    line = Line.of("embed(text)", found, goal="15,000 calls/s")
    return Table("Cached embed() through the extension", "calls/s", "", [line], [note])


def together(quick: bool) -> Table:
    """Clients that ask for one text at a time each, against the packed loop over all texts."""
    rows, alone, rounds = (128, 16, 2) if quick else (2048, 256, 3)
    chosen, cores = texts.messages()[:rows], settings.threads()
    one, each = (Loop(texts.model(), *shape) for shape in ((1, cores), (cores, 1)))
    clearing = connect()

    def asked(parts: Sequence[Sequence[str]]) -> float:
        clearing.execute(CLEAR).fetchall()
        with ThreadPoolExecutor(len(parts)) as pool:
            clients = list(pool.map(client, parts))
            taken = seconds(lambda: list(pool.map(embed_each, clients)))
        first = [np.frombuffer(row[0], "<f4") for row in embed_each(clients[0])[:8]]
        tell_same("the service", np.array(first), one.embed(parts[0][:8]))
        return sum(map(len, parts)) / taken

    many = f"{CLIENTS} clients together, one text at a time each"
    sides: dict[str, Callable[[], float]] = {
        many: lambda: asked([chosen[start::CLIENTS] for start in range(CLIENTS)]),
        PACKED: lambda: rows / seconds(partial(one.embed, chosen)),
        PACKED_TWO: lambda: rows / seconds(partial(each.embed, chosen)),
        ALONE: lambda: asked([chosen[:alone]]),
    }
    measured = in_turn(sides, rounds)
    ours = measured[many]
    lines = [
        Line.of(
            name,
            values,
            None if values is ours else ratio(ours, values),
            "0.85" if name == PACKED else "",
            f"{alone} texts" if name == ALONE else "",
        )
        for name, values in measured.items()
    ]
    note = (
        f"{rows:,} different SMS, none in the cache; a client is a connection with the extension."
    )
    return Table("Many clients", "texts/s", f"{CLIENTS} clients are ... times", lines, [note])


def client(mine: Sequence[str]) -> apsw.Connection:
    """A connection with a table of its texts, that has talked to the service already."""
    db = connect()
    db.execute(ROWS)
    db.executemany(INSERT, ((text,) for text in mine))
    db.execute("SELECT count(*) FROM sqlembed_models").fetchall()
    return db


def embed_each(db: apsw.Connection) -> list[tuple[bytes]]:
    """A vector a row."""
    return db.execute(EACH).fetchall()


def interactive(quick: bool) -> Table:
    """How long a person waits for one text, alone and while another program indexes a backlog."""
    asked, rows, rounds = (8, 128, 2) if quick else (60, 4000, 3)
    chosen = texts.messages()
    db, fresh = connect(), count()

    def ask(text: str) -> None:
        db.execute(ONE, (text,)).fetchall()

    def waits() -> list[float]:
        """Milliseconds of each of a row of questions, of texts that were never seen."""
        found = []
        for number in range(asked):
            text = f"{chosen[-1 - number]} {next(fresh)}"
            found.append(MILLISECONDS * seconds(partial(ask, text)))
            time.sleep(0.02)
        return found

    with backlog(chosen[:rows]):
        batch = batch_milliseconds(db)
    alone: list[float] = []
    busy: list[float] = []
    for round_ in range(rounds):
        report.tell(f"round {round_ + 1} of {rounds}")
        alone += waits()
        with backlog(chosen[:rows]):
            busy += waits()
    slow_alone, slow_busy = (quantiles(waits, n=20)[-1] for waits in (alone, busy))
    bound = 2 * slow_alone + batch
    lines = [
        Line.of("alone, median", [median(alone)]),
        Line.of("alone, 95th percentile", [slow_alone]),
        Line.of("beside a backlog, median", [median(busy)]),
        Line.of("beside a backlog, 95th percentile", [slow_busy], slow_busy / bound, "1"),
        Line.of("a batch of the backlog, mean", [batch]),
    ]
    note = (
        f"{asked * rounds} questions a side, each of a text never seen, while a second program runs"
        " sqlembed_index() over a table."
    )
    title = "embed() beside a backlog"
    return Table(title, "ms", "times (twice the idle one, and a batch)", lines, [note])


def batch_milliseconds(db: apsw.Connection) -> float:
    """The mean duration of the batches of a while."""
    ((seconds_before, before),) = db.execute(BATCHES)
    time.sleep(3)
    ((seconds_after, after),) = db.execute(BATCHES)
    return MILLISECONDS * (seconds_after - seconds_before) / (after - before)


@contextmanager
def backlog(chosen: Sequence[str]) -> Iterator[None]:
    """Another program indexes *chosen* meanwhile, and has not ended before the block does."""
    with tempfile.TemporaryDirectory() as work:
        db = connect(f"{work}/app.db")
        db.execute(CLEAR).fetchall()
        db.execute(TABLE)
        with db:
            db.executemany("INSERT INTO sms(body) VALUES (?)", ((text,) for text in chosen))
        ended = Event()

        def index() -> None:
            with suppress(apsw.InterruptError):
                db.execute(INDEX).fetchall()
            ended.set()

        thread = Thread(target=index)
        thread.start()
        time.sleep(0.5)
        yield
        if ended.is_set():
            raise ValueError(f"a backlog of {len(chosen)} rows ended before the questions did")
        db.interrupt()
        thread.join()
        db.close()


if __name__ == "__main__":
    report.main(measure)
