"""A forked child answers, or says in words that it cannot; it never hangs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.model

PATIENCE = 60
PROGRAM = """
import os, sqlembed
from sqlembed.errors import ModelError

db = sqlembed.connect(":memory:")
db.execute("SELECT * FROM sqlembed_cache").fetchall()
if {loaded}:
    db.execute("SELECT embed('in the parent')").fetchall()
child = os.fork()
if not child:
    try:
        mine = sqlembed.connect(":memory:")
        print(len(mine.execute("SELECT embed('in the child')").get), flush=True)
    except ModelError as error:
        print(error, flush=True)
    os._exit(0)
os.waitpid(child, 0)
print(len(db.execute("SELECT embed('in the parent again')").get))
"""


def fork(loaded: bool, cache: Path) -> list[str]:
    """What the child and then the parent say."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM.format(loaded=loaded)],
        env={**os.environ, "SQLEMBED_CACHE": str(cache)},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    return done.stdout.splitlines()


def test_a_child_forked_before_a_model_is_loaded_answers(tmp_path: Path) -> None:
    assert fork(False, tmp_path / "cache.db") == ["1536", "1536"]


def test_a_child_forked_afterwards_is_told_so(tmp_path: Path) -> None:
    child, parent = fork(True, tmp_path / "cache.db")
    assert "forked from one that had loaded a model" in child
    assert parent == "1536"
