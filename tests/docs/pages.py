"""The fenced examples of a Markdown page: run in order, and the output that each gives.

===========  ===============================================================================
```sql       statements, each ending with a line; all of a page meet one database, ``app.db``
```python    one program a page; ``app.db`` is the same file
```console   commands after ``$ ``; run where all are ``sqlembed`` with a verb of ``VERBS``,
             or one ``sqlite3``, with the lines after its prompts
```toml      a manifest of the user's own, put into the data directory
```text      right after one of these: what it prints, or the error it gives
===========  ===============================================================================

``<!-- not run -->`` in the line before a block leaves it alone. What has no output
block may print anything, but must not fail. Rows are shown as the sqlite3 shell's column mode
does; a single value stands alone. Numbers are rounded to two decimal places, and
compared to within ``TOLERANCE``: other CPUs give slightly other floats.
"""

import contextlib
import io
import os
import re
import shlex
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import textwrap
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import apsw
from click.testing import CliRunner

import sqlembed
from sqlembed import settings
from sqlembed.cli import main
from sqlembed.doors import apsw_door
from sqlembed.engine.local import LocalEngine
from sqlembed.errors import SqlembedError
from sqlembed.service import daemon
from sqlembed.weights import manifest

ROOT = Path(__file__).parents[2]
PAGES = [*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md"]
DATABASE = "app.db"

FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
OUTPUT = re.compile(r"\s*^```text\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SKIP = "<!-- not run -->"
VERBS = {"cache", "check", "flush", "index", "models", "pull", "search", "status"}
PROMPTS = ("sqlite> ", "   ...> ")
"""Of the sqlite3 shell: a statement, and more of it."""
PRINTED = "-- printed --"
DECIMAL = re.compile(r"-?\d+\.\d+")
TOLERANCE = 0.0101
WIDTH = 96
"""Where the line of an error is broken."""


@contextlib.contextmanager
def surroundings(directory: Path) -> Iterator[None]:
    """Run in *directory*, with the installed weights, and a cache and an engine of its own.

    What a shell starts is ended.
    """
    models = directory / "data" / "models"
    models.mkdir(parents=True)
    for name in manifest.available():
        for installed in (settings.data_directory() / "models").glob(f"{name}.[gj]*"):
            (models / installed.name).symlink_to(installed.absolute())
    changed = {
        "SQLEMBED_DATA": str(directory / "data"),
        "SQLEMBED_CACHE": str(directory / "cache.db"),
        "SQLEMBED_MODEL": settings.DEFAULT_MODEL,
        "SQLEMBED_LOG": str(directory / "log"),
        "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])),
    }
    with (
        tempfile.TemporaryDirectory(prefix="sqe", dir="/tmp") as short,
        mock.patch.dict(os.environ, {"SQLEMBED_SOCKET": f"{short}/s"}),
        contextlib.chdir(directory),
        mock.patch.dict(os.environ, changed),
        mock.patch.object(apsw_door, "_engine", LocalEngine()),
    ):
        try:
            yield
        finally:
            apsw_door.shared_engine().close()
            daemon.stop(daemon.Place(settings.socket_path()))


class Session:
    """A page's database and program, while its examples run."""

    def __init__(self) -> None:
        """Open an empty database in the current directory."""
        self._db = sqlembed.connect(DATABASE)
        self._names: dict[str, Any] = {}

    def close(self) -> None:
        """Close what the examples opened."""
        for value in self._names.values():
            if isinstance(value, apsw.Connection):
                value.close(force=True)
        self._db.close(force=True)

    def sql(self, script: str) -> str:
        """The output of each statement; raises what SQLite or sqlembed raises."""
        outputs = [table(*self._rows(statement)) for statement in statements(script)]
        return "\n".join(output for output in outputs if output)

    def python(self, program: str) -> str:
        """What *program* prints."""
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(program, "<example>", "exec"), self._names)
        return printed.getvalue()

    def toml(self, text: str) -> str:
        """Put a manifest into the data directory."""
        name = tomllib.loads(text)["name"]
        manifest.parse(text, name)
        (settings.data_directory() / "models" / f"{name}.toml").write_text(text)
        return ""

    def console(self, commands: list[str]) -> list[str]:
        """What each command prints, standard error too."""
        outputs = []
        for command in commands:
            arguments = shlex.split(os.path.expandvars(command), comments=True)
            result = CliRunner().invoke(main, arguments[1:])
            if result.exit_code:
                raise RuntimeError(f"{command}: {result.output}{result.exception}")
            outputs.append(result.output)
        return outputs

    def shell(self, command: str, lines: list[str]) -> str:
        """*lines*, with what the stock shell prints after each statement."""
        asked = [line for line in lines if line.startswith(PROMPTS)]
        script = []
        for line, following in zip(asked, [*asked[1:], PROMPTS[0]], strict=True):
            script.append(line[len(PROMPTS[0]) :])
            if following.startswith(PROMPTS[0]):
                script.append(f".print {PRINTED}")
        done = subprocess.run(
            command, shell=True, input="\n".join(script), capture_output=True, text=True, check=True
        )
        printed = iter(done.stdout.split(f"{PRINTED}\n"))
        shown = []
        for line, following in zip(asked, [*asked[1:], PROMPTS[0]], strict=True):
            shown.append(f"{line}\n")
            if following.startswith(PROMPTS[0]):
                shown.append(next(printed))
        return "".join(shown)

    def _rows(self, statement: str) -> tuple[list[str], list[tuple[Any, ...]], bool]:
        cursor = self._db.cursor()
        columns: list[str] = []

        def watch(_: apsw.Cursor, __: str, ___: Any) -> bool:
            columns.extend(name for name, *_ in cursor.description)
            return True

        cursor.exec_trace = watch
        rows = cursor.execute(statement).fetchall()
        return columns, rows, bool(columns)


def regenerated(page: str) -> str:
    """*page* with the outputs that its examples give now, those that agree left as they are."""
    session = Session()
    try:
        return _regenerated(page, session)
    finally:
        session.close()


def _regenerated(page: str, session: Session) -> str:
    result: list[str] = []
    copied = 0
    for block in FENCE.finditer(page):
        kind, body = block.groups()
        skipped = page[: block.start()].rstrip("\n").endswith(SKIP)
        if skipped or kind not in ("sql", "python", "console", "toml"):
            continue
        below = OUTPUT.match(page, block.end())
        if kind == "console":
            start, stop, output = *block.span(2), _console(session, body)
        else:
            try:
                output = getattr(session, kind)(body)
            except (apsw.Error, SqlembedError) as error:
                if below is None:
                    raise
                output = textwrap.fill(
                    f"{type(error).__name__}: {error}", WIDTH, break_on_hyphens=False
                )
            if below is None:
                continue
            start, stop = below.span(1)
        output = output.rstrip("\n") + "\n"
        if not agree(page[start:stop], output):
            result += [page[copied:start], output]
            copied = stop
    return "".join([*result, page[copied:]])


def _console(session: Session, body: str) -> str:
    parts = re.split(r"^\$ ", body, flags=re.MULTILINE)[1:]
    commands = [part.partition("\n")[0] for part in parts]
    if commands[0].startswith("sqlite3 "):
        command, *lines = body.removeprefix("$ ").splitlines()
        return f"$ {command}\n{session.shell(command, lines)}" if shutil.which("sqlite3") else body
    verbs = [command.split()[:2] for command in commands]
    if not all(words[0] == "sqlembed" and words[-1] in VERBS for words in verbs):
        return body
    outputs = session.console(commands)
    lines = []
    for part, command, output in zip(parts, commands, outputs, strict=True):
        lines.append(f"$ {command}\n")
        if part.partition("\n")[2].strip():
            lines.append(output)
    return "".join(lines)


def statements(script: str) -> Iterator[str]:
    """The statements of *script*, each ending at a line's end."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
    if statement.strip():
        raise ValueError(f"an example does not end with a semicolon: {statement}")


def table(columns: list[str], rows: list[tuple[Any, ...]], gives_rows: bool) -> str:
    """Rows as the sqlite3 shell's column mode shows them; one value alone."""
    if not gives_rows:
        return ""
    if not rows:
        return "(no rows)\n"
    lines = [list(map(shown, row)) for row in rows]
    if len(rows) == len(columns) == 1:
        return lines[0][0] + "\n"
    widths = [max(map(len, each)) for each in zip(columns, *lines, strict=True)]
    lines = [columns, ["-" * width for width in widths], *lines]
    return "".join("  ".join(map(str.ljust, line, widths)).rstrip() + "\n" for line in lines)


def shown(value: Any) -> str:
    """A value as examples show it."""
    if value is None:
        return "NULL"
    if isinstance(value, bytes):
        return f"({len(value)} bytes)"
    if isinstance(value, float):
        return f"{round(value, 2) + 0.0:.2f}"  # no -0.00
    return str(value)


def agree(old: str, new: str) -> bool:
    """Whether two outputs say the same: decimal numbers nearly, all else exactly."""
    if DECIMAL.split(old) != DECIMAL.split(new):
        return False
    pairs = zip(DECIMAL.findall(old), DECIMAL.findall(new), strict=True)
    return all(abs(float(a) - float(b)) < TOLERANCE for a, b in pairs)
