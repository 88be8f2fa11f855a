"""A program among many on one database: ``traffic.py ROLE DATABASE TIMEOUT EXTENSION [NUMBER COUNT]``.

``write`` inserts, changes and deletes rows in COUNT short transactions, with nothing of sqlembed. ``search``
and ``flush`` go on until standard input ends; EXTENSION is a path, or ``apsw`` for Python's door on a fake
model. TIMEOUT is the busy timeout in milliseconds. Any error ends it; else it prints when it begins, and in
the end what it did.
"""

import random
import select
import sqlite3
import sys
from pathlib import Path

PICK = "SELECT id, body FROM t ORDER BY random() LIMIT 1"
NEAREST = "SELECT id, coverage FROM knn('t', ?, 3)"
ITSELF = "SELECT id FROM knn('t', ?1, 1) WHERE id IN (?2, ?2 + 1) AND distance < 1e-6"


def opened(database, timeout, extension):
    """A connection whose ``execute`` gives rows; it begins no transaction by itself."""
    if extension == "apsw":
        sys.path.insert(0, str(Path(__file__).parents[1]))
        from harness import FakeModel

        import sqlembed
        from sqlembed.engine import library

        library.Model = FakeModel
        db = sqlembed.connect(database)
        db.set_busy_timeout(timeout)
        return db
    db = sqlite3.connect(database, timeout=timeout / 1000, isolation_level=None)
    if extension:
        db.enable_load_extension(True)
        db.load_extension(extension)
    return db


def write(db, number, count):
    """Short transactions, one after another; rows of other writers are left alone."""
    dice = random.Random(number)
    mine = []
    for step in range(count):
        db.execute("BEGIN IMMEDIATE" if step % 2 else "BEGIN")
        for _ in range(dice.randrange(1, 4)):
            text = f"writer {number} step {step} word {dice.randrange(500)}"
            what = dice.random()
            if what < 0.7 or len(mine) < 5:
                mine.append(
                    db.execute("INSERT INTO t(body) VALUES (?) RETURNING id", (text,)).fetchall()[0]
                )
            elif what < 0.9:
                db.execute("UPDATE t SET body = ? WHERE id = ?", (text, *dice.choice(mine)))
            else:
                db.execute("DELETE FROM t WHERE id = ?", mine.pop(dice.randrange(len(mine))))
        db.execute("COMMIT")
    return count


def ended():
    """Whether standard input has."""
    return bool(select.select([sys.stdin], [], [], 0)[0])


def search(db):
    """Rows of one snapshot are found by their own texts; gives how many were."""
    done = 0
    while not ended():
        db.execute("BEGIN")
        for key, body in db.execute(PICK).fetchall():
            assert db.execute(ITSELF, (body, key)).fetchall(), f"{body!r} is not found"
            done += 1
        db.execute("COMMIT")
        db.execute(NEAREST, ("writer 2 word",)).fetchall()
        db.execute("SELECT waiting, coverage FROM sqlembed_status").fetchall()
        db.execute("SELECT id FROM search('t', 'writer 1 step', 3)").fetchall()
    return done


def flush(db):
    """Store what waits, again and again; gives how many rows."""
    done = 0
    while not ended():
        done += db.execute("SELECT sqlembed_flush()").fetchall()[0][0]
    return done


if __name__ == "__main__":
    _, role, database, timeout, extension, *numbers = sys.argv
    db = opened(database, int(timeout), extension)
    print("begun", flush=True)
    print(globals()[role](db, *map(int, numbers)), flush=True)
    db.close()
