"""The short forms of ``make crash``: kills at random moments, and a disk that fails."""

import re
import subprocess
import sys
from pathlib import Path

from crash import truth
from crash.conftest import make
from crash.world import World

import sqlembed
from sqlembed.engine.local import LocalEngine

HERE = Path(__file__).parent
MANY_ROWS = 10_500


def run(program: str, *arguments: str) -> str:
    """What a program of ours prints; it must end well."""
    command = [sys.executable, str(HERE / program), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_nothing_is_lost_when_programs_are_killed() -> None:
    told = run("kill.py", "--kills", "20")
    ((killed, compared),) = re.findall(r"^(\d+) killed, and all was right (\d+) times", told, re.M)
    assert int(killed) >= 20
    assert int(compared) >= 10


def test_nothing_is_lost_when_the_disk_fails() -> None:
    told = run("disk.py", "--every", "97")
    (faults,) = re.findall(r"^(\d+) faults survived$", told, re.M)
    assert int(faults) > 50
    for kind in ("power cut", "write: fail", "write: short", "write: full", "read: fail"):
        assert kind in told


def test_the_status_view_is_right_past_10000_rows(tmp_path: Path, engine: LocalEngine) -> None:
    here = make(World(str(tmp_path), rows=MANY_ROWS), engine)
    db = sqlembed.connect(here.path, engine=engine)
    shown = "SELECT indexed, waiting, coverage FROM sqlembed_status"
    assert db.execute(shown).get == (0, MANY_ROWS, 0.0)
    for number in range(4):
        truth.standing(db, here)
        db.execute("SELECT sqlembed_flush('t', 1500)").fetchall()
        truth.standing(db, here)
        db.execute("UPDATE t SET body = body || ' ' || ? WHERE id % 9 = ?", (number, number))
        truth.standing(db, here)
        db.execute("DELETE FROM t WHERE id % 50 = ?", (number,))
        truth.standing(db, here)
    db.execute("SELECT sqlembed_flush()").fetchall()
    rows = db.execute("SELECT count(*) FROM t").get
    assert rows < MANY_ROWS - 500
    assert db.execute(shown).get == (rows, 0, 1.0)
    truth.standing(db, here)
    db.close()
