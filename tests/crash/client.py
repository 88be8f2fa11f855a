"""A client of the service: Debian's Python with the extension, run as ``client.py DIRECTORY SLOT SEED``.

Writes, flushes and searches in one connection; each answer of knn is compared with brute force, by
the service's own vectors, within the transaction that read it.
"""

import os
import random
import sqlite3
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from crash import world
from crash.phases import SLOTS, Phase

OTHERS_FAULT = (
    "sqlembed's service",
    "link to sqlembed",
    "cannot be started",
    "no sqlembed service",
    "is locked",
)
BRUTE_FORCE = """
SELECT {id}, min(vec_distance_cosine(embed(part.text), embed_query(?1)))
FROM t, chunks(t.body) AS part WHERE t.body IS NOT NULL GROUP BY 1"""


def main(directory: str, slot: str, seed: str) -> None:
    """Go on until told to stop."""
    here, chance = world.World.load(directory), random.Random(seed)
    phase, stop = (Phase(f"{directory}/phases", number) for number in (int(slot), SLOTS - 1))
    db = sqlite3.connect(here.path, timeout=world.BUSY_SECONDS, isolation_level=None)
    db.enable_load_extension(True)
    db.load_extension(os.environ["HOST_LIBRARY"])
    db.set_trace_callback(phase.seen)
    phase.begin("idle")
    while stop.now() == "starting":
        try:
            chance.choice((write, write, flush, search))(db, here, chance, phase)
        except sqlite3.Error as error:
            if db.in_transaction:
                db.execute("ROLLBACK")
            if not any(words in str(error) for words in OTHERS_FAULT):
                raise
        phase.begin("idle")
        time.sleep(chance.random() * 0.01)
    db.close()


def write(db, here, chance, phase):
    """A transaction of some statements."""
    phase.begin("writing rows")
    db.execute("BEGIN IMMEDIATE")
    for sql, bindings in world.changes(here, chance, chance.randint(1, 20)):
        db.execute(sql, bindings)
    db.execute("COMMIT")


def flush(db, here, chance, phase):
    """Store what waits."""
    phase.begin("serving")
    db.execute("SELECT sqlembed_flush('t', 50)").fetchall()


def search(db, here, chance, phase):
    """Compare knn with brute force, in one state of the database."""
    phase.begin("searching")
    question = " ".join(chance.choices(world.VOCABULARY, k=2))
    db.execute("BEGIN")
    answer = db.execute("SELECT id, distance, coverage FROM knn('t', ?, 4096)", (question,))
    answer = answer.fetchall()
    truth = dict(db.execute(BRUTE_FORCE.format(id=here.id_sql), (question,)).fetchall())
    db.execute("COMMIT")
    got = {id_: distance for id_, distance, _ in answer}
    assert len(got) == len(answer), f"knn gave a row twice: {answer}"
    assert not answer or answer[0][2] < 1 or got.keys() == truth.keys(), (
        f"knn and the table differ: {got.keys() ^ truth.keys()}"
    )
    for id_, distance in got.items():
        assert id_ in truth, f"knn gave a row that is not there, or has no text: {id_}"
        assert abs(distance - truth[id_]) < 1e-5, f"{id_} is at {truth[id_]}, not {distance}"


if __name__ == "__main__":
    main(*sys.argv[1:])
