"""A way to run the command in this process, with fake models."""

from pathlib import Path

import apsw
import pytest
from click.testing import CliRunner, Result

from sqlembed.cli import main

BODIES = ("dinner at eight", "win a prize now", "see you at dinner", "late again")


class Run:
    """Run ``sqlembed`` in this process."""

    def __call__(self, *arguments: str, input: str | None = None) -> Result:
        """What a call gives; standard input as *input*."""
        return CliRunner().invoke(main, list(arguments), input=input)

    def failure(self, *arguments: str) -> str:
        """The one line on stderr of a call that fails."""
        result = self(*arguments)
        assert result.exit_code == 1
        assert result.stdout == ""
        assert result.stderr.count("\n") == 1
        assert result.stderr.startswith("sqlembed: ")
        return result.stderr.removeprefix("sqlembed: ").rstrip()


@pytest.fixture
def run(fake_data: Path) -> Run:
    """The command, with fake models."""
    return Run()


@pytest.fixture
def app(tmp_path: Path) -> str:
    """A database of four messages, made without sqlembed."""
    path = str(tmp_path / "app.db")
    db = apsw.Connection(path)
    db.execute("CREATE TABLE sms(id INTEGER PRIMARY KEY, body TEXT)")
    db.executemany("INSERT INTO sms(body) VALUES (?)", [(body,) for body in BODIES])
    db.close()
    return path


@pytest.fixture
def indexed(run: Run, app: str) -> str:
    """That database, indexed by the command."""
    assert run("index", app, "sms", "body").exit_code == 0
    return app
