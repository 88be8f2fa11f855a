"""Another model for an index while programs write and search; killed (-9) half-way, it goes on.

Every answer is checked: each distance must be that of the query and the row's stored vector, both
of the model that the index had in the same read transaction. 20,000 rows take about a quarter
of an hour; ``--quick`` is 400.
"""

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from statistics import median
from typing import TypedDict

import apsw
import numpy as np
import report
import texts
from report import Line, Table, tell

import sqlembed
from sqlembed.cli.pull import install
from sqlembed.weights import receipt

OLD, NEW = "all-MiniLM-L6-v2", "multilingual-e5-small"
TABLE = "CREATE TABLE sms(id INTEGER PRIMARY KEY, body TEXT)"
INDEX = "SELECT sqlembed_index('sms', 'body', ?)"
REINDEX = "SELECT sqlembed_reindex('sms', ?)"
LIVE = "SELECT index_id, model FROM sqlembed_catalog WHERE state = 'live'"
SHADOW = "SELECT index_id FROM sqlembed_catalog WHERE replaces IS NOT NULL"
DONE = "SELECT count(DISTINCT key) FROM sqlembed_chunk_{}"
KNN = "SELECT id, distance, start, coverage FROM knn('sms', ?, 10)"
SEARCH = "SELECT id, distance, start, coverage FROM search('sms', ?, 10)"
STORED = """
SELECT vector FROM sqlembed_chunk_{index} WHERE key = ?1 AND start = ?2
AND NOT EXISTS (SELECT 1 FROM sqlembed_queue WHERE index_id = {index} AND key = ?1)
AND NOT EXISTS (SELECT 1 FROM sqlembed_backlog WHERE index_id = {index} AND key = ?1)"""
SEARCHERS = 2
QUESTIONS = 20
CLOSE = 1e-4
"""Of two spaces, distances of the same texts differ by tenths."""
FLUSH_EVERY = 20
"""Writes."""
PAUSE_SECONDS = 0.25
POLL_SECONDS = 0.05


class Told(TypedDict):
    """What a program that works meanwhile tells in the end."""

    searches: list[tuple[float, float, int]]
    """When, how many seconds it took, and how many distances were checked."""
    problems: list[str]
    writes: int


def measure(quick: bool) -> list[Table]:
    """Searches' times before, during and after, and what went wrong: nothing may."""
    rows = 400 if quick else 20_000
    for model in (OLD, NEW):
        if not receipt.gguf_path(model).is_file():
            tell(install(model))
    with tempfile.TemporaryDirectory() as work:
        os.environ["SQLEMBED_CACHE"] = f"{work}/cache.db"
        path = f"{work}/app.db"
        fill(path, rows)
        with others(path) as told:
            time.sleep(5 if quick else 30)
            begun = time.time()
            resumed = change(path, rows)
            ended = time.time()
            time.sleep(5 if quick else 30)
        problems = settled(path)
    searches = [search for each in told for search in each["searches"]]
    problems += [problem for each in told for problem in each["problems"]]
    writes = sum(each["writes"] for each in told)
    for problem in problems:
        tell(problem)
    parts: dict[str, Callable[[float], bool]] = {
        "before": lambda at: at < begun,
        "while the model changes": lambda at: begun <= at < ended,
        "after": lambda at: at >= ended,
    }
    lines = []
    for what, when in parts.items():
        taken = [1000 * seconds for at, seconds, _ in searches if when(at)]
        checked = sum(distances for at, _, distances in searches if when(at))
        detail = f"{len(taken):,} searches, {checked:,} distances checked"
        ratio = median(taken) / lines[0].value if lines else None
        lines.append(Line.of(what, taken, ratio, "", detail))
    note = (
        f"{rows:,} SMS from {OLD} to {NEW} in {ended - begun:,.0f} s, killed at {resumed:,} rows,"
        f" which were kept; meanwhile {SEARCHERS} programs searched (knn or search) and one wrote"
        f" {writes:,} rows; {len(problems)} problems."
    )
    assert not problems
    return [Table("Another model under load", "ms", "of before", lines, [note])]


def fill(path: str, rows: int) -> None:
    """Make the table and its index, and have the questions' vectors in the cache."""
    messages = texts.messages()
    with closing(sqlembed.connect(path)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute(TABLE)
        bodies = ((f"{messages[n % len(messages)]} {n}",) for n in range(rows))
        with db:
            db.executemany("INSERT INTO sms(body) VALUES (?)", bodies)
        begun = time.perf_counter()
        db.execute(INDEX, (json.dumps({"model": OLD}),)).fetchall()
        tell(f"{rows:,} rows indexed in {time.perf_counter() - begun:,.0f} s")


@contextmanager
def others(path: str) -> Iterator[list[Told]]:
    """Programs that search and write meanwhile; in the end, what they tell."""
    roles = [*(["search"] * SEARCHERS), "write"]
    running = [
        subprocess.Popen(
            [sys.executable, __file__, f"--{role}", path, str(n)], stdout=subprocess.PIPE, text=True
        )
        for n, role in enumerate(roles)
    ]
    while not all(_begun(path, n).exists() for n in range(SEARCHERS)):
        time.sleep(POLL_SECONDS)
    told: list[Told] = []
    yield told
    Path(f"{path}.stop").touch()
    for process in running:
        out, _ = process.communicate()
        assert process.returncode == 0
        told.append(json.loads(out))


def change(path: str, rows: int) -> int:
    """Change the model in a process of its own, killed half-way and begun again.

    :returns: how many rows it had done when it was killed
    """
    command = [sys.executable, __file__, "--change", path, "0"]
    with closing(apsw.Connection(path)) as db:
        db.set_busy_timeout(10_000)
        first = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        while (done := rows_done(db)) < rows // 2:
            assert first.poll() is None
            time.sleep(POLL_SECONDS)
        first.send_signal(signal.SIGKILL)
        first.wait()
        done = rows_done(db)
        tell(f"killed at {done:,} rows")
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as second:
            while second.poll() is None:
                kept = rows_done(db)
                assert kept == 0 or kept > done * 0.98, "rows that were done are done again"
                time.sleep(10 * POLL_SECONDS)
        assert second.returncode == 0
        assert [model for _, model in db.execute(LIVE)] == [NEW]
    return done


def rows_done(db: apsw.Connection) -> int:
    """The rows that have vectors of the new model; 0 once it has taken the old one's place."""
    with db:
        for (index,) in db.execute(SHADOW).fetchall():
            return int(str(db.execute(DONE.format(index)).get))
    return 0


def settled(path: str) -> list[str]:
    """What is wrong with the index when all is stored: nothing may be."""
    with closing(sqlembed.connect(path)) as db:
        db.execute("SELECT sqlembed_flush()").fetchall()
        wrong = [str(row) for row in db.execute("SELECT * FROM sqlembed_check")]
        tables = db.execute("SELECT count(*) FROM sqlite_schema WHERE name GLOB 'sqlembed_chunk_*'")
        wrong += [] if tables.get == 2 else ["the old model's tables are left"]  # one has an index
        return wrong


def search(path: str, number: int) -> Told:
    """Search until told to stop, and check each answer."""
    chance, told = random.Random(number), Told(searches=[], problems=[], writes=0)
    asked = texts.messages()[:QUESTIONS]
    with closing(sqlembed.connect(path)) as db:
        queries = {
            (model, text): np.frombuffer(
                db.execute("SELECT embed_query(?, ?)", (text, model)).get, "<f4"
            )
            for model in (OLD, NEW)
            for text in asked
        }
        while not stopped(path):
            text, begun, at = chance.choice(asked), time.perf_counter(), time.time()
            try:
                db.execute("BEGIN")
                ((index, model),) = db.execute(LIVE).fetchall()
                found = db.execute(chance.choice([KNN, SEARCH]), (text,)).fetchall()
                taken, checked = time.perf_counter() - begun, 0
                for id, distance, start, _ in found:
                    rows = db.execute(STORED.format(index=index), (id, start)).fetchall()
                    for (vector,) in rows:
                        right = 1 - float(queries[model, text] @ np.frombuffer(vector, "<f4"))
                        checked += 1
                        if abs(distance - right) > CLOSE:
                            told["problems"].append(f"{model}: {distance}, not {right}")
                told["searches"].append((at, taken, checked))
                _begun(path, number).touch()
                if len(found) != 10:
                    told["problems"].append(f"{len(found)} rows found")
            except apsw.Error as error:
                told["problems"].append(f"a search failed: {error}")
            finally:
                if db.in_transaction:
                    db.execute("ROLLBACK")
            time.sleep(PAUSE_SECONDS)
    return told


def write(path: str, number: int) -> Told:
    """Insert, update and delete until told to stop, and flush now and then."""
    chance, told = random.Random(number), Told(searches=[], problems=[], writes=0)
    messages = texts.messages()
    ways = (
        "INSERT INTO sms(body) VALUES (:body)",
        "UPDATE sms SET body = :body WHERE id = (SELECT max(id) * :place / 100 FROM sms)",
        "DELETE FROM sms WHERE id = (SELECT max(id) * :place / 100 FROM sms)",
    )
    with closing(sqlembed.connect(path)) as db:
        db.set_busy_timeout(5000)
        while not stopped(path):
            body = f"{chance.choice(messages)} {chance.choice(messages)}"
            try:
                db.execute(chance.choice(ways), {"body": body, "place": chance.randrange(100)})
                told["writes"] += 1
                if told["writes"] % FLUSH_EVERY == 0:
                    db.execute("SELECT sqlembed_flush('sms')").fetchall()
            except apsw.Error as error:
                told["problems"].append(f"a write failed: {error}")
            time.sleep(PAUSE_SECONDS)
    return told


def _begun(path: str, number: int) -> Path:
    return Path(f"{path}.{number}")


def stopped(path: str) -> bool:
    """Whether it is time to end."""
    return Path(f"{path}.stop").exists()


def change_model(path: str, _: int) -> Told:
    """Give the index the new model."""
    with closing(sqlembed.connect(path)) as db:
        db.execute(REINDEX, (NEW,)).fetchall()
    return Told(searches=[], problems=[], writes=0)


ROLES = {"--search": search, "--write": write, "--change": change_model}

if __name__ == "__main__":
    if sys.argv[1:2] and sys.argv[1] in ROLES:
        print(json.dumps(ROLES[sys.argv[1]](sys.argv[2], int(sys.argv[3]))))
    else:
        report.main(measure)
