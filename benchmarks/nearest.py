"""knn() against what else finds the nearest rows, from ten thousand to a million of them.

Each contender builds and answers in processes of its own (contenders.py); the answering ones live
at the same time, and take turns at every query.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import glosses
import numpy as np
import peers
import psutil
import report
import texts
from contenders import LINKS, OVERSAMPLED, SOME
from report import Line, Table, tell
from rounds import ratio
from vectors import Truth, Vectors, embedded, enlarged, truth

from sqlembed import settings
from sqlembed.engine.cache import Cache
from sqlembed.engine.local import LocalEngine

HERE = Path(__file__).resolve().parent
SCRIPT = HERE / "contenders.py"
PLOTS = HERE / "plots"
KEPT = peers.ENVIRONMENT / "kept"
"""For graphs, which take long to build; it goes when a peer's version changes."""
KS = (10, 100)
GLOSSES, MADE = "glosses", "made of SMS"
LEAVE_OUT = 240.0
"""Seconds: a graph that would take longer, by its last figure and by rows, is left out; it takes
longer than by rows."""
WARM = 3
"""Queries before those that are counted, the first of them apart."""
WRITES = 20
PAUSE = 0.005
"""Seconds between turns, in which threads come to rest."""
ASKED = 200
"""Vectors that are kept apart as queries."""
FEW = 500
"""SMS that are embedded for a smoke run."""


class Side(NamedTuple):
    """A contender, as the tables call it."""

    name: str
    python: Path
    what: str
    """How safe it is, and what else is to be known of it."""
    graph: bool = False
    """Whether it takes long to build; then it is kept, or left out if it would take too long."""


HERE_PYTHON, PEERS_PYTHON = Path(sys.executable), peers.PYTHON
SIDES = {
    "Ours": Side("knn()", HERE_PYTHON, "transactional"),
    "Vec0": Side("vec0 float", HERE_PYTHON, "transactional"),
    "Vec0Bits": Side("vec0 bits, rescored", HERE_PYTHON, "transactional"),
    "SqliteVector": Side("sqlite-vector, quantized", HERE_PYTHON, "durable; quantized by hand"),
    "Vectorlite": Side("vectorlite, HNSW", HERE_PYTHON, "saved when closed", True),
    "Usearch": Side("usearch, HNSW bf16", PEERS_PYTHON, "saved by hand", True),
    "FaissGraph": Side("faiss, HNSW float", PEERS_PYTHON, "saved by hand", True),
    "FaissLists": Side("faiss, IVF PQ refined", PEERS_PYTHON, "saved by hand"),
    "FaissFlat": Side("faiss, flat", PEERS_PYTHON, "saved by hand"),
    "Numpy": Side("numpy", HERE_PYTHON, "saved by hand"),
}
OURS, VEC0 = "Ours", "Vec0"


class Built(NamedTuple):
    """What was built."""

    directory: Path
    seconds: float


class Size(NamedTuple):
    """A number of rows to be measured."""

    of: str
    """GLOSSES or MADE."""
    rows: int
    queries: int
    fresh: bool = False
    """Whether to show a first query in a fresh process."""
    changing: bool = False
    """Whether to show queries right after a write, and ones among some rows."""
    goal: str = ""
    """What knn() is to take, k = 10."""

    @property
    def name(self) -> str:
        return f"{self.rows:,} {'rows' if self.of == MADE else self.of}"


FULL = (
    Size(GLOSSES, 10_000, 50),
    Size(GLOSSES, 117_459, 50),
    Size(MADE, 200_000, 50, changing=True, goal="3 ms"),
    Size(MADE, 1_000_000, 20, fresh=True, goal="12 ms"),
)
QUICK = (Size(GLOSSES, 2_000, 5), Size(MADE, 12_000, 5, fresh=True, changing=True))


@dataclass
class Found:
    """All that is measured, as lines of tables."""

    nearest: dict[int, list[Line]] = field(default_factory=lambda: {k: [] for k in KS})
    some: list[Line] = field(default_factory=list)
    fresh: list[Line] = field(default_factory=list)
    written: list[Line] = field(default_factory=list)
    memory: list[Line] = field(default_factory=list)
    built: list[Line] = field(default_factory=list)
    points: list[dict[str, object]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def tables(self) -> list[Table]:
        """Those that have lines."""
        takes = "takes ... times knn()"
        notes = [
            "Glosses are those of WordNet, all real; rows are SMS, and vectors made out of them: a"
            " real one or, of five, one mixture of two, plus noise (cosine 0.9). Queries are of"
            " the same kind, and not among them. Each side runs in a process of its own, and they"
            f" take turns at every query. vec0 bits: {OVERSAMPLED} times k by their signs, then by"
            f" floats in an ordinary table. HNSW: M = {LINKS}, ef = 100 + 3 k.",
            *self.notes,
        ]
        among = [
            "With a condition of the application's own on the row: id IN (SELECT ...). k = 10."
        ]
        fresh = [
            "From opening what is stored to the first answer, k = 10; imports are not counted."
        ]
        written = [
            "Another connection commits a row, and sqlembed_flush() with it where it is ours;"
            f" {WRITES} times, k = 10."
        ]
        memory = ["What a process takes that has answered, less what it took when it had imported."]
        building = [
            "With what it takes to store it. Graphs are kept from one run to the"
            " next, as they were built."
        ]
        found = [
            Table(
                f"Nearest rows at size, k = {k}",
                "ms",
                takes,
                self.nearest[k],
                notes if k == KS[0] else [],
            )
            for k in KS
        ]
        found += [
            Table("Nearest rows among some", "ms", "vec0 takes ... times", self.some, among),
            Table("A first query in a fresh process", "ms", takes, self.fresh, fresh),
            Table("A query right after a write", "ms", "times none written", self.written, written),
            Table("Memory of the nearest rows", "bytes a row", takes, self.memory, memory),
            Table("Building for the nearest rows", "s", takes, self.built, building),
        ]
        return [table for table in found if table.lines]


class Peer:
    """A contender's process that answers."""

    def __init__(self, key: str, directory: Path, given: Path) -> None:
        self.side = SIDES[key]
        self._process = subprocess.Popen(
            [self.side.python, SCRIPT, key, "answer", directory, given],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment(),
        )
        self._answer()
        self._before = self._resident()

    def __call__(self, query: int, k: int, among: str | None = None) -> tuple[float, list[int]]:
        """The milliseconds that a query took, and the ids that it found."""
        answer = self._ask({"query": query, "k": k, "among": among})
        return answer["ms"], answer["ids"]

    def do(self, what: str) -> float:
        """Open, or write; the milliseconds that it took."""
        milliseconds: float = self._ask({"do": what})["ms"]
        return milliseconds

    def memory(self) -> int:
        """Bytes that it took since it had imported what it needs."""
        return self._resident() - self._before

    def close(self) -> None:
        """End it."""
        self._process.communicate()

    def _ask(self, what: dict[str, object]) -> dict[str, Any]:
        assert self._process.stdin is not None
        print(json.dumps(what), file=self._process.stdin, flush=True)
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            sys.exit(f"{self.side.name} ended early; it said why above")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _resident(self) -> int:
        return int(psutil.Process(self._process.pid).memory_info().rss)


def environment() -> dict[str, str]:
    """The processes' own: where the peers' packages are, and that idle threads do not spin."""
    packages = next(peers.ENVIRONMENT.glob("lib/python*/site-packages"), peers.ENVIRONMENT)
    idle = {"OMP_WAIT_POLICY": "passive", "OPENBLAS_THREAD_TIMEOUT": "14"}
    return {**os.environ, **idle, "PEERS": str(packages)}


def measure(quick: bool) -> list[Table]:
    """Every table; and the plots, if it is not quick."""
    if not quick:
        peers.prepare()
    found = Found()
    builds: dict[str, tuple[int, float]] = {}
    for size, stored, questions in sets(quick, found):
        tell(f"{size.name}, of {stored.shape[1]} dimensions")
        with tempfile.TemporaryDirectory() as work:
            given = Path(work)
            np.save(given / "vectors.npy", stored)
            np.save(given / "questions.npy", questions)
            answers = truth(stored, questions[: size.queries], max(KS))
            digest = blake2b(np.ascontiguousarray(stored), digest_size=8).hexdigest()
            del stored
            built = {}
            for key, side in SIDES.items():
                kept = KEPT / f"{key}-{digest}" if side.graph and not quick else given / key
                seconds = build(key, kept, given, size, builds, found)
                if seconds is not None:
                    built[key] = Built(kept, seconds)
            with ExitStack() as stack:
                peers_ = {
                    key: stack.enter_context(closing(Peer(key, each.directory, given)))
                    for key, each in built.items()
                }
                compare(size, peers_, built, answers, found)
    if not quick:
        draw(found.points)
    return found.tables()


def sets(quick: bool, found: Found) -> Iterator[tuple[Size, Vectors, Vectors]]:
    """The vectors that are stored and those that are asked for, by size."""
    texts.model()
    made: Vectors | None = None
    for size in QUICK if quick else FULL:
        if size.of == MADE:
            made = messages(FEW if quick else None) if made is None else made
            yield size, enlarged(made[ASKED:], size.rows), made[:ASKED]
            continue
        try:
            every = glosses.vectors(ASKED + size.rows if quick else None)
        except (OSError, subprocess.SubprocessError) as error:
            found.notes.append(f"Glosses are left out: WordNet could not be fetched ({error}).")
        else:
            yield size, every[ASKED : ASKED + size.rows], every[:ASKED]


def messages(limit: int | None) -> Vectors:
    """The vectors of the first *limit* SMS."""
    chosen = texts.messages()[:limit]
    tell(f"embedding {len(chosen):,} SMS")
    with tempfile.TemporaryDirectory() as work:
        engine = LocalEngine(Cache(f"{work}/cache.db", settings.cache_bytes()))
        found = embedded(engine, chosen)
        engine.close()
    return found


def build(
    key: str,
    directory: Path,
    given: Path,
    size: Size,
    builds: dict[str, tuple[int, float]],
    found: Found,
) -> float | None:
    """Seconds that it took a contender; None if it is left out, and *found* says why."""
    side, mark = SIDES[key], directory / "seconds"
    if mark.exists():
        builds[key] = size.rows, float(mark.read_text())
        return builds[key][1]
    rows, taken = builds.get(key, (size.rows, 0.0))
    if side.graph and taken * size.rows / rows > LEAVE_OUT:
        why = f"to build {rows:,} took {taken:.0f} s"
        found.notes.append(f"{side.name} is left out at {size.rows:,} rows: {why}.")
        return None
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    try:
        done = subprocess.run(
            [side.python, SCRIPT, key, "build", directory, given],
            capture_output=True,
            text=True,
            env=environment(),
            check=True,
        )
    except (OSError, subprocess.CalledProcessError) as error:
        said = error.stderr if isinstance(error, subprocess.CalledProcessError) else str(error)
        last = (said.strip().splitlines() or [str(error)])[-1]
        found.notes.append(f"{side.name} is left out at {size.rows:,} rows: {last}")
        tell(found.notes[-1])
        return None
    taken = json.loads(done.stdout)["seconds"]
    tell(f"{side.name}: built in {taken:.1f} s")
    mark.write_text(str(taken))
    builds[key] = size.rows, taken
    return taken


def compare(
    size: Size, peers_: Mapping[str, Peer], built: Mapping[str, Built], answers: Truth, found: Found
) -> None:
    """Ask everything that is to be asked at this size."""
    first = {}
    for key, peer in peers_.items():
        first[key] = peer.do("open") + peer(0, KS[0])[0]
        for query in range(1, WARM):
            peer(query, KS[0])
    if size.fresh:
        opened = {key: [value] for key, value in first.items()}
        found.fresh += lines(size, opened, goal="1,000 ms")
    for k in KS:
        times, recalls = in_turn(peers_, size.queries, answers._replace(k=k), k)
        goal = ", ".join(filter(None, (size.goal if k == KS[0] else "", "recall 0.99")))
        details = {key: f"recall@{k} {recalls[key]:.3f}" for key in times}
        found.nearest[k] += lines(size, times, details, goal)
        found.points += [
            {
                "set": size.of,
                "rows": size.rows,
                "k": k,
                "side": SIDES[key].name,
                "ms": median(times[key]),
                "missed": 1 - recalls[key],
            }
            for key in times
        ]
    memory = {key: [peer.memory() / size.rows] for key, peer in peers_.items()}
    found.memory += lines(size, memory, {key: SIDES[key].what for key in memory})
    found.built += lines(size, {key: [built[key].seconds] for key in peers_ if key != "Numpy"})
    if size.changing:
        among(size, peers_, answers._replace(k=KS[0]), found)
        writing(size, peers_, found)


def in_turn(
    peers_: Mapping[str, Peer], queries: int, answers: Truth, k: int, condition: str | None = None
) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Milliseconds of each query, and the mean recall."""
    times: dict[str, list[float]] = {key: [] for key in peers_}
    recalls: dict[str, list[float]] = {key: [] for key in peers_}
    for query in range(queries):
        for key in list(peers_)[:: -1 if query % 2 else 1]:
            time.sleep(PAUSE)
            taken, ids = peers_[key](query, k, condition)
            times[key].append(taken)
            recalls[key].append(answers.recall(query, ids))
    return times, {key: float(np.mean(values)) for key, values in recalls.items()}


def lines(
    size: Size,
    values: Mapping[str, Sequence[float]],
    details: Mapping[str, str] | None = None,
    goal: str = "",
) -> list[Line]:
    """A line for each contender, beside knn(), whose is the *goal*."""
    return [
        Line.of(
            f"{size.name}: {SIDES[key].name}",
            each,
            None if key == OURS else ratio(each, values[OURS]),
            goal if key == OURS else "",
            (details or {}).get(key, ""),
        )
        for key, each in values.items()
    ]


def among(size: Size, peers_: Mapping[str, Peer], answers: Truth, found: Found) -> None:
    """Ask knn() and vec0 for the nearest of few rows, and of most."""
    two = {key: peers_[key] for key in (OURS, VEC0)}
    numbers = np.arange(1, size.rows + 1)
    allowed = {"1 of 100": numbers[numbers % 100 == 0], "9 of 10": numbers[numbers % 10 != 0]}
    for name in SOME:
        some = answers.among(allowed[name].tolist())
        times, recalls = in_turn(two, size.queries, some, KS[0], name)
        for key, values in times.items():
            mine = key == OURS
            found.some.append(
                Line.of(
                    f"{name} of {size.name}: {SIDES[key].name}",
                    values,
                    ratio(times[VEC0], values) if mine else None,
                    "recall 0.99" if mine else "",
                    f"recall@{KS[0]} {recalls[key]:.3f}",
                )
            )


def writing(size: Size, peers_: Mapping[str, Peer], found: Found) -> None:
    """Ask knn() and vec0 after each of several writes."""
    for key in (OURS, VEC0):
        peer = peers_[key]
        times: dict[str, list[float]] = {}
        for number in range(WRITES):
            query = number % size.queries
            times.setdefault("nothing written", []).append(peer(query, KS[0])[0])
            peer.do("write")
            times.setdefault("right after a write", []).append(peer(query, KS[0])[0])
            times.setdefault("the next", []).append(peer(query, KS[0])[0])
        none = times["nothing written"]
        found.written += [
            Line.of(
                f"{size.name}: {SIDES[key].name}, {name}",
                values,
                None if values is none else ratio(values, none),
            )
            for name, values in times.items()
        ]


def draw(points: list[dict[str, object]]) -> None:
    """Draw the plots, in the peers' environment."""
    PLOTS.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as work:
        (kept := Path(work) / "points.json").write_text(json.dumps(points))
        subprocess.run([PEERS_PYTHON, HERE / "plots.py", kept, PLOTS], check=True)


if __name__ == "__main__":
    report.main(measure)
