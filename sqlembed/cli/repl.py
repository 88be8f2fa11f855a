"""APSW's shell, taught to open with our functions, to show vectors, and to remember errors."""

from collections.abc import Sequence

import apsw
import apsw.shell
import numpy as np

from sqlembed.doors.apsw_door import register
from sqlembed.plan import SqlValue

SHOWN = 4
"""Numbers of a vector that are shown."""
STEPS = 50_000
"""Steps of SQLite's machine between two looks for Ctrl-C, some milliseconds."""
LARGEST = 1000.0
"""A BLOB of larger numbers is no vector."""


class Repl(apsw.shell.Shell):
    """A shell on one connection."""

    def __init__(self, connection: apsw.Connection) -> None:
        """Use *connection*, standard input and standard output."""
        super().__init__(db=connection)
        _hear_interrupts(connection)
        self.prompt = "sql> "
        self.moreprompt = "...> "
        self.failed = False
        """Whether anything failed."""

    def run(self, commands: Sequence[str]) -> None:
        """Run SQL and dot-commands, up to the first that fails."""
        for command in commands:
            try:
                self.process_complete_line(command)
            except Exception:
                self.handle_exception()
                return

    def handle_exception(self) -> None:
        """Print the error, and remember that there was one."""
        self.failed = True
        super().handle_exception()

    def command_open(self, cmd: list[str]) -> None:
        super().command_open(cmd)
        register(self.db)
        _hear_interrupts(self.db)

    # `.help` shows the docstrings.
    command_open.__doc__ = apsw.shell.Shell.command_open.__doc__

    def command_quit(self, cmd: list[str]) -> None:
        # The sqlite3 shell has it, not every APSW.
        self.command_exit(cmd)

    command_quit.__doc__ = "quit ?CODE?: Exit this program with optional exit code"

    def output_box(self, column_names: Sequence[str], rows: Sequence[object]) -> None:
        self.box_options.setdefault("binary", brief)
        super().output_box(column_names, rows)

    output_box.__doc__ = apsw.shell.Shell.output_box.__doc__
    output_box.all_at_once = True  # type: ignore[attr-defined]

    def _fmt_text_col(self, v: SqlValue) -> str:
        return brief(v) if isinstance(v, bytes) else str(super()._fmt_text_col(v))


def _hear_interrupts(connection: apsw.Connection) -> None:
    # Python raises KeyboardInterrupt only where Python runs: without this a long statement
    # went on after Ctrl-C.
    connection.set_progress_handler(lambda: False, STEPS)


def brief(blob: bytes) -> str:
    """A BLOB in a few words: a vector's first numbers, or the number of its bytes."""
    if blob and len(blob) % 4 == 0:
        vector = np.frombuffer(blob, dtype="<f4")
        if len(vector) > SHOWN and np.isfinite(vector).all() and abs(vector).max() < LARGEST:
            numbers = ", ".join(f"{number:.4f}" for number in vector[:SHOWN])
            return f"[{numbers}, ... {len(vector)} dimensions]"
    return f"[{len(blob)} bytes]"
