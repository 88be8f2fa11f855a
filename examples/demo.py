"""The main job, on real weights and real messages: SMS in a table that answers questions.

``make demo`` runs this. It fetches what is missing, says so, and makes its database anew.
Every figure it prints was measured in the same run.
"""

import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import TypeVar

import apsw
import datasets
from rich.console import Console

import sqlembed
from sqlembed import settings
from sqlembed.cli.opening import records
from sqlembed.cli.progress import bytes_bar, rows_bar
from sqlembed.cli.pull import install
from sqlembed.cli.storing import store_waiting
from sqlembed.cli.tables import aligned
from sqlembed.errors import SqlembedError
from sqlembed.weights import receipt

TABLE = "CREATE TABLE sms(id INTEGER PRIMARY KEY, body TEXT)"
INDEX = """SELECT sqlembed_index('sms', 'body', '{"backlog": "later"}')"""
# Many messages were sent more than once: each text is shown once.
KNN = """
SELECT min(distance) AS distance, text FROM knn('sms', ?, 10)
GROUP BY text ORDER BY distance LIMIT 3"""
RERANK = """
WITH found AS MATERIALIZED (
    SELECT text, row_number() OVER (ORDER BY min(distance)) AS nearest
    FROM knn('sms', ?1, 20) GROUP BY text)
SELECT rerank(?1, text) AS score, nearest, text FROM found ORDER BY score DESC LIMIT 3"""
COUNTS = "SELECT total(hits), total(misses) FROM sqlembed_cache WHERE kind = 'embedding'"
INSERT = (
    "INSERT INTO sms(body) VALUES ('Pizza with all of us at 8 tonight, will you come and eat?')"
)
SAMPLE = "SELECT body FROM sms WHERE length(body) < 100 ORDER BY random() LIMIT ?"
WAITING = "SELECT waiting FROM sqlembed_status"

EATING = "shall we eat together tonight?"
NEAREST_QUESTIONS = (EATING, "you have won a prize", "can you pick me up from the station?")
RERANKED_QUESTIONS = (
    "what time does class start?",
    "I am ill and staying at home",
    "did you watch the football match?",
)
KNN_SAMPLE, RERANK_SAMPLE = 40, 10
"""How many questions are timed."""

INDENT = "  "
Result = TypeVar("Result")
console = Console(highlight=False)


def main() -> None:
    """Run the demo from nothing to the figures."""
    get_model(settings.default_model())
    path = settings.data_directory() / "demo.db"
    db = fresh_database(path)
    rows, seconds = load(db)
    for question in NEAREST_QUESTIONS:
        ask(db, f"knn('sms', '{question}')", KNN, question)
    for question in RERANKED_QUESTIONS:
        ask(db, f"rerank('{question}', text) over the 20 nearest", RERANK, question)
    insert(db)
    figures(db, rows, seconds)
    db.close()
    say(f"\nGo on by hand: [bold]sqlembed shell {path}[/bold]")


def get_model(name: str) -> None:
    """Install the default model, if it is not here."""
    if not receipt.gguf_path(name).is_file():
        say(f"{name} is not on this machine: getting it.")
    say(install(name))


def fresh_database(path: Path) -> apsw.Connection:
    """An empty database at *path*, with every function."""
    for ending in ("", "-wal", "-shm", "-journal"):
        Path(f"{path}{ending}").unlink(missing_ok=True)
    return sqlembed.connect(str(path))


def load(db: apsw.Connection) -> tuple[int, float]:
    """Put the messages into an ordinary table and index it; rows, and seconds of indexing."""
    with bytes_bar() as bar:
        messages = datasets.sms(lambda stage, done, total: bar.update(f"SMS: {stage}", done, total))
    db.execute(TABLE)
    with db:
        db.executemany("INSERT INTO sms(body) VALUES (?)", ((text,) for text in messages))
    say(f"{len(messages):,} SMS are in an ordinary table; indexing them.")
    db.execute("SELECT sqlembed_load(?)", (settings.default_model(),))
    db.execute(INDEX)
    with rows_bar() as bar:
        return timed(lambda: store_waiting(db, "sms", bar))


def ask(db: apsw.Connection, title: str, sql: str, question: str) -> None:
    """Ask and show the three best."""
    found = records(db, sql, (question,))
    console.print(f"\n[bold]{title}[/bold]")
    header, *lines = aligned(list(found[0]), found, console.width - len(INDENT))
    console.print(f"{INDENT}[dim]{header}[/dim]")
    for line in lines:
        console.print(INDENT + line, markup=False)


def insert(db: apsw.Connection) -> None:
    """Show that a row is found before its vector is stored."""
    db.execute(INSERT)
    waiting = db.execute(WAITING).fetchall()[0][0]
    say(f"\n[bold]{INSERT}[/bold]")
    say(f"{INDENT}{waiting} row waits for its vector, and is found at once:")
    ask(db, f"knn('sms', '{EATING}')", KNN, EATING)


def figures(db: apsw.Connection, rows: int, seconds: float) -> None:
    """Print what was measured."""
    hits, misses = db.execute(COUNTS).fetchall()[0]
    # Messages taken at random are questions that hardly anyone asked before.
    asked = [str(row[0]) for row in db.execute(SAMPLE, (KNN_SAMPLE,))]
    console.print()
    for what, value in (
        ("indexed", f"{rows:,} rows in {seconds:.1f} s: {rows / seconds:,.0f} rows a second"),
        ("cache", f"{hits:,.0f} hits, {misses:,.0f} texts computed"),
        ("knn, a new question", milliseconds(db, KNN, asked)),
        ("knn, asked before", milliseconds(db, KNN, asked)),
        ("rerank of 20, new", milliseconds(db, RERANK, asked[:RERANK_SAMPLE])),
        ("rerank of 20, again", milliseconds(db, RERANK, asked[:RERANK_SAMPLE])),
    ):
        console.print(f"{what:<20} {value}")


def milliseconds(db: apsw.Connection, sql: str, questions: Sequence[str]) -> str:
    """The median time of a question."""
    times = [timed(partial(records, db, sql, (question,)))[1] for question in questions]
    return f"{median(times) * 1000:,.1f} ms (median of {len(times)})"


def timed(work: Callable[[], Result]) -> tuple[Result, float]:
    """What *work* gives, and how many seconds it took."""
    begun = time.perf_counter()
    result = work()
    return result, time.perf_counter() - begun


def say(line: str) -> None:
    """Print a line."""
    console.print(line, soft_wrap=True)


if __name__ == "__main__":
    try:
        main()
    except SqlembedError as error:
        sys.exit(f"sqlembed: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
