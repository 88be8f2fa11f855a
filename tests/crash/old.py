"""A database in an older format: the tests' own, left with one index, of today's fake model."""

import json
import lzma
import random
from pathlib import Path

from crash import world
from crash.world import World

import sqlembed
from sqlembed.engine.local import LocalEngine

DATABASE = Path(__file__).parents[1] / "index" / "format_2.db.xz"
OTHERS = "SELECT index_id, triggers FROM sqlembed_catalog WHERE name <> 'sms'"


def make(here: World, engine: LocalEngine, chance: random.Random) -> None:
    """Make it; its table is ``sms``, and ``rows`` more rows wait."""
    Path(here.path).write_bytes(lzma.decompress(DATABASE.read_bytes()))
    db = sqlembed.connect(here.path, engine=engine)
    db.execute(f"PRAGMA journal_mode = {here.journal}")
    for number, triggers in db.execute(OTHERS).fetchall():
        for trigger in json.loads(triggers):
            db.execute(f"DROP TRIGGER {trigger}")
        for what in ("chunk", "code", "word", "key"):
            db.execute(f"DROP TABLE IF EXISTS sqlembed_{what}_{number}")
        db.execute("DELETE FROM sqlembed_catalog WHERE index_id = ?", (number,))
        db.execute("UPDATE sqlembed_queue SET index_id = 0 WHERE index_id = ?", (number,))
    db.execute("UPDATE sqlembed_catalog SET space = ?", (engine.space("fake").fingerprint,))
    rows = [(world.text(chance),) for _ in range(here.rows)]
    db.executemany("INSERT INTO sms(body) VALUES (?)", rows)
    db.close()
