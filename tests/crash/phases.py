"""What a role is doing: a byte for each in a shared file, so that a kill knows what it hit."""

import mmap
import os

SLOTS = 16
PHASES = (
    "starting",
    "idle",
    "making the index",
    "filling the backlog",
    "migrating",
    "absorbing the log",
    "leasing",
    "reading rows",
    "embedding",
    "storing",
    "committing",
    "dropping",
    "searching",
    "writing rows",
    "serving",
    "reindexing",
    "repairing",
    "checking",
)
# The first that a statement contains tells what begins with it.
SIGNS = (
    ("COMMIT", "committing"),
    ("RELEASE", "committing"),
    ("ALTER TABLE main.sqlembed", "migrating"),
    ("CREATE TABLE main.sqlembed_chunk", "making the index"),
    ("row_number() OVER", "filling the backlog"),
    ("max(generation), ?2 FROM main.sqlembed_queue", "absorbing the log"),
    ("takes = takes + 1", "leasing"),
    ("AS TEXT) AS BLOB)", "reading rows"),
    ("INSERT INTO main.sqlembed_chunk", "storing"),
    ("DELETE FROM main.sqlembed_chunk", "storing"),
    ("DROP TABLE", "dropping"),
    ("DROP TRIGGER", "dropping"),
    ("replaces = ", "reindexing"),
    ("sqlembed_repair", "repairing"),
)


def make(path: str) -> None:
    """Make the file, every byte 0."""
    with open(path, "wb") as file:
        file.write(bytes(SLOTS))


class Phase:
    """One role's byte."""

    def __init__(self, path: str, slot: int) -> None:
        """Look at byte *slot* of the file."""
        file = os.open(path, os.O_RDWR)
        self._bytes = mmap.mmap(file, SLOTS)
        os.close(file)
        self._slot = slot

    def begin(self, phase: str) -> None:
        """Say what begins."""
        self._bytes[self._slot] = PHASES.index(phase)

    def seen(self, sql: str) -> None:
        """Say it by a statement that is about to run."""
        for sign, phase in SIGNS:
            if sign in sql:
                self.begin(phase)
                return

    def now(self) -> str:
        """What it was told last."""
        return PHASES[self._bytes[self._slot]]
