"""examples/migrations: an application's migrations that make an index, run by the tools themselves."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hosts.machine import ROOT, Machine

pytestmark = pytest.mark.model

EXAMPLES = ROOT / "examples" / "migrations"
FILES = sorted((EXAMPLES / "sql").iterdir())
PYTHON = str(ROOT / ".venv-hosts" / "bin" / "python")
"""Debian's, with Alembic and Django."""
WRITE = "INSERT INTO message(body) VALUES ('Dinner at 8?'), ('The train is late');"
FIND = "SELECT text, coverage FROM knn('message', 'evening meal', 1);"
FOUND = "Dinner at 8?|1.0"
STATE = "SELECT indexed, waiting, coalesce(problem, 'none') FROM sqlembed_status;"
FLUSH = "SELECT sqlembed_flush();"
TRIGGERS = "SELECT count(*) FROM sqlite_schema WHERE tbl_name = 'message' AND type = 'trigger';"
COLUMN = "SELECT \"notnull\" FROM pragma_table_info('message') WHERE name = 'body';"


def go_through(machine: Machine, up: Callable[[int], None], down: Callable[[int], None]) -> None:
    """The three migrations, of which the last comes back, and then the others."""
    up(1)
    assert machine.shell(TRIGGERS + WRITE, load=False) == ["0"]
    up(2)
    # No model has run for it: the rows wait, and are found.
    assert machine.shell(STATE + FIND + FLUSH, load=True) == ["0|2|none", FOUND, "2"]
    up(3)
    assert machine.shell(TRIGGERS + COLUMN + WRITE, load=False) == ["4", "1"]
    assert machine.shell(STATE + FLUSH + STATE, load=True) == ["0|4|none", "4", "4|0|none"]
    down(2)
    assert machine.shell(FIND + FLUSH, load=True)[0] == FOUND
    down(1)
    assert machine.shell(TRIGGERS + "SELECT count(*) FROM message;", load=False) == ["0", "4"]
    down(0)
    gone = "SELECT name FROM sqlite_schema WHERE name LIKE '%message%'"
    assert machine.shell(gone, load=False) == []


def test_the_sqlite3_shell_runs_dbmates_files(machine: Machine) -> None:
    machine.need("sqlite3")
    some = machine.directory / "migrations"
    some.mkdir()
    migrate = ("sh", str(EXAMPLES / "migrate.sh"), "app.db", str(some))

    def up(number: int) -> None:
        shutil.copy(FILES[number - 1], some)
        assert machine.lines(*migrate) == [f"up {FILES[number - 1].name}"]
        assert machine.lines(*migrate) == []

    def down(number: int) -> None:
        assert machine.lines(*migrate, "down") == [f"down {FILES[number].name}"]

    go_through(machine, up, down)
    assert machine.shell("SELECT * FROM schema_migrations", load=False) == []


def test_a_file_that_fails_leaves_nothing(machine: Machine) -> None:
    some = machine.directory / "migrations"
    shutil.copytree(EXAMPLES / "sql", some)
    with (some / FILES[2].name).open("r+") as file:
        text = file.read().replace("-- migrate:down", "SELECT nonsense;\n-- migrate:down")
        file.seek(0)
        file.write(text)
    migrate = ("sh", str(EXAMPLES / "migrate.sh"), "app.db", str(some))
    first, second, *told = failed(machine, *migrate)
    assert (first, second) == (f"up {FILES[0].name}", f"up {FILES[1].name}")
    assert "no such column: nonsense" in told[0]
    applied = "SELECT count(*) FROM schema_migrations;"
    assert machine.shell(applied + TRIGGERS + COLUMN + WRITE, load=False) == ["2", "4", "0"]
    assert machine.shell(FIND, load=True) == [FOUND]


def test_alembic(machine: Machine) -> None:
    go_through(machine, *alembic(machine, EXAMPLES / "alembic"))


@pytest.fixture
def revisions(machine: Machine) -> Path:
    """A copy of the example, to be changed."""
    return Path(shutil.copytree(EXAMPLES / "alembic", machine.directory / "alembic"))


def test_an_alembic_migration_that_fails_leaves_nothing(machine: Machine, revisions: Path) -> None:
    up, _ = alembic(machine, revisions)
    up(2)
    machine.shell(WRITE, load=False)
    last = revisions / "versions" / "rebuild_message.py"
    text = last.read_text()
    at = text.index("\n\ndef downgrade")
    last.write_text(f'{text[:at]}    op.execute("SELECT nonsense"){text[at:]}')
    assert "no such column: nonsense" in "".join(
        failed(machine, *command(revisions), "upgrade", "3")
    )
    applied = "SELECT version_num FROM alembic_version;"
    assert machine.shell(applied + TRIGGERS + COLUMN, load=False) == ["2", "4", "0"]
    assert machine.shell(FIND, load=True) == [FOUND]


def test_a_batch_migration_that_keeps_the_index_ends_it_in_words(
    machine: Machine, revisions: Path
) -> None:
    up, _ = alembic(machine, revisions)
    up(2)
    machine.shell(WRITE, load=False)
    last = revisions / "versions" / "rebuild_message.py"
    lines = last.read_text().splitlines(keepends=True)
    last.write_text("".join(line for line in lines if "sqlembed_" not in line))
    up(3)
    assert machine.shell(TRIGGERS + COLUMN, load=False) == ["0", "1"]
    (state,) = machine.shell(STATE, load=True)
    assert state.startswith("0|2|index message no longer watches table message: the table was")
    load = f".load {machine.extension}"
    told = "".join(failed(machine, "sqlite3", "-cmd", load, "app.db", FIND))
    assert "no longer watches table message" in told and "sqlembed_reindex('message')" in told
    again = "SELECT sqlembed_reindex('message');"
    assert machine.shell(again + FIND, load=True) == ["2", FOUND]


def test_django(machine: Machine) -> None:
    machine.need("sqlite3", "django-admin")
    machine.environment |= {"DATABASE": "app.db", "PYTHONDONTWRITEBYTECODE": "1"}
    names = ("zero", "create_message", "index_message", "rebuild_message")
    manage = (PYTHON, str(EXAMPLES / "django_site" / "manage.py"))

    def go(number: int) -> None:
        machine.run(*manage, "migrate", "chat", names[number])

    go_through(machine, go, go)
    assert machine.run(*manage, "makemigrations", "--check") == "No changes detected\n"


def alembic(machine: Machine, directory: Path) -> tuple[Callable[[int], None], ...]:
    """How Alembic goes up and down to a revision of *directory*."""
    machine.need("sqlite3", "alembic")
    machine.environment["PYTHONDONTWRITEBYTECODE"] = "1"

    def up(number: int) -> None:
        machine.run(*command(directory), "upgrade", str(number))

    def down(number: int) -> None:
        machine.run(*command(directory), "downgrade", str(number or "base"))

    return up, down


def command(directory: Path) -> tuple[str, ...]:
    """Alembic with the environment in *directory*."""
    return ("alembic", "-c", str(directory / "alembic.ini"), "-x", "database=app.db")


def failed(machine: Machine, *arguments: str) -> list[str]:
    """What a command prints that must fail."""
    return machine.lines("sh", "-c", '! "$@" 2>&1', "sh", *arguments)
