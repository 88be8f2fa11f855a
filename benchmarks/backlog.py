"""A worker on a long backlog: whether a row costs the same in the end, and memory stays flat.

A stand-in for the model, which takes no time, so that what is measured is the queue, the storing
and the searching. ``--quick`` is 20,000 rows; else a million, which takes about ten minutes.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from hashlib import blake2b
from pathlib import Path
from statistics import median

import apsw
import numpy as np
import psutil
import report
from report import Line, Table

import sqlembed
from sqlembed.engine import library
from sqlembed.engine.cache import Cache
from sqlembed.engine.chunk import Chunk
from sqlembed.engine.local import LocalEngine
from sqlembed.weights import receipt

TENTHS = 10
MODEL = "stand-in"
DIMENSION = 384
MANIFEST = f"""
name = "{MODEL}"
summary = "Numbers out of a hash"
kind = "embedder"
architecture = "none"
dimension = {DIMENSION}
context = 256
pooling = "mean"
licence = "none"
homepage = "none"
"""
TABLE = "CREATE TABLE sms(id INTEGER PRIMARY KEY, body TEXT)"
INDEX = """SELECT sqlembed_index('sms', 'body', '{"words": null}')"""
KNN = "SELECT id, coverage FROM knn('sms', ?, 10)"
NOTHING_WAITS = "DELETE FROM sqlembed_backlog"
CACHE_BYTES = 1 << 22
SAMPLES = 5


class StandIn:
    """A model that takes no time."""

    def __init__(self, manifest: object, path: Path) -> None:
        self.manifest = manifest

    def embed(self, texts: Sequence[str], role: str) -> np.ndarray:
        """Vectors of unit length, out of a hash of each text."""
        seeds = [blake2b(text.encode(), digest_size=64).digest() for text in texts]
        few = np.array([np.frombuffer(seed, dtype=np.uint8) for seed in seeds], dtype=np.float32)
        wide = np.tile(few - 127.5, DIMENSION // 64)
        return wide / np.linalg.norm(wide, axis=1, keepdims=True)

    def chunk(self, texts: Sequence[str], *_: object) -> list[list[Chunk]]:
        """Each text whole."""
        return [[Chunk(text, 0, len(text), 8)] for text in texts]

    def count(self, texts: Sequence[str], *_: object) -> list[int]:
        """Eight tokens each."""
        return [8 for _ in texts]

    def waiting(self) -> dict[str, int]:
        """Nothing."""
        return {"urgent": 0, "backlog": 0}

    def close(self) -> None:
        """Nothing is held."""


def stand_in(model: type[StandIn] = StandIn) -> LocalEngine:
    """An engine on it, or on another that takes no time either."""
    path = receipt.gguf_path(MODEL)
    if not path.exists():
        path.parent.mkdir(parents=True)
        path.with_suffix(".toml").write_text(MANIFEST)
        path.write_bytes(b"GGUF")
        receipt.write_receipt(MODEL, receipt.make_receipt(path, "gguf", "benchmarks"))
    library.Model = model  # type: ignore[assignment,misc]
    return LocalEngine(Cache(":memory:", CACHE_BYTES))


def measure(quick: bool) -> list[Table]:
    """Rows a second by tenth of the way, the worker's memory, and a search's time meanwhile."""
    rows = 20_000 if quick else 1_000_000
    with tempfile.TemporaryDirectory() as directory:
        os.environ |= {"SQLEMBED_DATA": directory, "SQLEMBED_MODEL": MODEL}
        engine, path = stand_in(), f"{directory}/app.db"
        with closing(sqlembed.connect(path, engine=engine)) as db:
            db.execute("PRAGMA journal_mode = WAL")
            db.execute(TABLE)
            db.execute(INDEX)
            begun = time.perf_counter()
            with db:
                db.executemany("INSERT INTO sms(body) VALUES (?)", bodies(rows))
            queued = time.perf_counter() - begun
            report.tell(f"{rows:,} rows queued in {queued:.1f} s")
            lines = drain(path, rows, db)
        engine.close()
    note = (
        f"{rows:,} rows, queued in {queued:.1f} s by one transaction, WAL; a stand-in for the"
        f" model that takes no time; vectors of {DIMENSION} dimensions, no words. Searches: the"
        f" median of {SAMPLES} knn(), k = 10, by another process, while the worker works; and twice"
        " while it rests: as it is, and as if nothing waited."
    )
    return [Table("A worker on a backlog", "rows/s", "the first tenth is ... times", lines, [note])]


def bodies(rows: int) -> "Sequence[tuple[str]]":
    """Short texts, each another."""
    return [(f"message {n} of many, and no two alike",) for n in range(rows)]


def searched(db: apsw.Connection) -> tuple[float, float]:
    """How many milliseconds a search takes now, and how much it covers."""
    taken = []
    for n in range(SAMPLES):
        begun = time.perf_counter()
        found = db.execute(KNN, (f"a question {n} {begun}",)).fetchall()
        taken.append(1000 * (time.perf_counter() - begun))
    return median(taken), found[0][1]


def searched_alone(db: apsw.Connection) -> float:
    """How many milliseconds it would take if nothing waited."""
    db.execute("BEGIN IMMEDIATE")
    db.execute(NOTHING_WAITS)
    taken, coverage = searched(db)
    db.execute("ROLLBACK")
    assert coverage == 1
    return taken


def drain(path: str, rows: int, db: apsw.Connection) -> list[Line]:
    """Have a worker drain it in a process of its own; a line for each tenth."""
    worker = subprocess.Popen(
        [sys.executable, __file__, "--worker", path, str(rows)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert worker.stdin and worker.stdout
    lines: list[Line] = []
    with worker:
        for told in map(json.loads, worker.stdout):
            alone, (resting, _) = searched_alone(db), searched(db)
            print(file=worker.stdin, flush=True)
            busy, coverage = searched(db)
            detail = (
                f"{told['memory'] >> 20:,} MB resident; knn {busy:,.0f} ms, coverage"
                f" {coverage:.2f}: {busy / alone:.1f} times the {alone:,.0f} ms where nothing"
                f" waits, {resting / alone:.1f} while the worker rests"
            )
            ratio = told["rate"] / lines[0].value if lines else 1.0
            what = f"to {told['done']:,} rows"
            lines.append(Line(what, told["rate"], told["rate"], told["rate"], ratio, "", detail))
            report.tell(f"{what}: {told['rate']:,.0f} rows/s, {detail}")
    assert worker.returncode == 0
    return lines


def work(path: str, rows: int) -> None:
    """Be the worker; tell of each tenth, and rest until the other has looked."""
    from sqlembed.cli.working import open_with
    from sqlembed.worker.conditions import condition
    from sqlembed.worker.loop import Worker
    from sqlembed.worker.report import At, Report
    from sqlembed.worker.stop import Stop

    class Tenths(Report):
        done, told, since = 0, 0, time.perf_counter()

        def advanced(self, at: At, count: int, seconds: float, waiting: int) -> None:
            """Tell, if a tenth has passed."""
            self.done += count
            if self.done >= (self.told + rows // TENTHS):
                now = time.perf_counter()
                rate = (self.done - self.told) / (now - self.since)
                memory = psutil.Process().memory_info().rss
                print(json.dumps({"done": self.done, "rate": rate, "memory": memory}), flush=True)
                sys.stdin.readline()
                self.told, self.since = self.done, time.perf_counter()

    stop, engine = Stop(), stand_in()
    said = Tenths(lambda _: None, lambda words: print(words, file=sys.stderr))
    worker = Worker([path], partial(open_with, engine=engine), stop, said, condition("always"))
    assert worker.run(once=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        work(sys.argv[2], int(sys.argv[3]))
    else:
        report.main(measure)
