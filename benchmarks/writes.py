"""What watching a table costs its writers: INSERT with our triggers against INSERT without.

The writer is a plain APSW connection that never heard of sqlembed: the triggers are
core SQL, and cost any program the same.
"""

import itertools
import tempfile
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

import apsw
import report
import texts
from report import Line, Table
from rounds import in_turn, ratio, seconds

import sqlembed

TABLE = "CREATE TABLE sms(id INTEGER PRIMARY KEY, body TEXT)"
INDEX = """SELECT sqlembed_index('sms', 'body', '{"backlog": "later"}')"""
INSERT = "INSERT INTO sms(body) VALUES (?)"
MICROSECONDS = 1_000_000


def measure(quick: bool) -> list[Table]:
    """Microseconds an INSERT, by journal and by what a transaction holds."""
    alone, bulk, rounds = (20, 1000, 2) if quick else (200, 20_000, 15)
    texts.model()
    chosen = list(itertools.islice(itertools.cycle(texts.messages()), bulk))
    lines: list[Line] = []
    for what, journal, work, rows, goal in (
        ("a transaction each, WAL", "WAL", each, alone, "1.5"),
        ("a transaction each, rollback journal", "DELETE", each, alone, "1.5"),
        ("one transaction, WAL, execute() a row", "WAL", one_by_one, bulk, "2"),
        ("one transaction, WAL, executemany()", "WAL", in_one, bulk, "2"),
        ("one transaction, rollback journal, executemany()", "DELETE", in_one, bulk, "2"),
    ):
        with tempfile.TemporaryDirectory() as directory:
            plain = database(Path(directory) / "plain.db", journal, watched=False)
            watched = database(Path(directory) / "watched.db", journal, watched=True)
            write = partial(work, chosen=chosen[:rows])
            with closing(plain), closing(watched):
                measured = in_turn(
                    {
                        f"{what}: plain": partial(write, plain),
                        f"{what}: watched": partial(write, watched),
                    },
                    rounds,
                )
        theirs, ours = measured.values()
        lines.append(Line.of(f"{what}: plain", theirs))
        lines.append(Line.of(f"{what}: watched", ours, ratio(ours, theirs), f"at most {goal}"))
    note = (
        f"SMS into a table on disk, synchronous=FULL; {rounds} rounds of {alone} rows in"
        f" transactions of their own, of {bulk:,} rows in one. Nobody flushes meanwhile."
    )
    return [Table("INSERT", "µs a row", "watched takes ... times", lines, [note])]


def database(path: Path, journal: str, *, watched: bool) -> apsw.Connection:
    """A plain connection to a new database with an empty table, *watched* or not."""
    with closing(sqlembed.connect(str(path))) as db:
        db.execute(f"PRAGMA journal_mode = {journal}")
        db.execute(TABLE)
        if watched:
            db.execute(INDEX).fetchall()
    db = apsw.Connection(str(path))
    db.execute("PRAGMA synchronous = FULL")
    return db


def each(db: apsw.Connection, chosen: Sequence[str]) -> float:
    """Microseconds a row where each has a transaction of its own."""

    def work() -> None:
        for text in chosen:
            db.execute(INSERT, (text,))

    return MICROSECONDS * seconds(work) / len(chosen)


def one_by_one(db: apsw.Connection, chosen: Sequence[str]) -> float:
    """Microseconds a row of many in one transaction, the host making a call for each."""

    def work() -> None:
        with db:
            for text in chosen:
                db.execute(INSERT, (text,))

    return MICROSECONDS * seconds(work) / len(chosen)


def in_one(db: apsw.Connection, chosen: Sequence[str]) -> float:
    """Microseconds a row of many in one transaction, in one call of the host."""
    rows = [(text,) for text in chosen]

    def work() -> None:
        with db:
            db.executemany(INSERT, rows)

    return MICROSECONDS * seconds(work) / len(chosen)


if __name__ == "__main__":
    report.main(measure)
