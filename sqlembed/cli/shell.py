"""``sqlembed shell``: SQL by hand or from a script, on a database with every function."""

import sys

import click

from sqlembed import __version__, settings
from sqlembed.cli.opening import opened
from sqlembed.cli.repl import Repl
from sqlembed.weights import manifest, receipt


@click.command("shell")
@click.argument("db")
@click.argument("sql", nargs=-1)
def verb(db: str, sql: tuple[str, ...]) -> None:
    """DB is made if it is not there.

    SQL given as arguments is run, up to the first error. Where the input is no terminal,
    it is read as SQL to its end. Any error makes the exit code 1.

    Dot-commands are those of the sqlite3 shell: .help lists them.
    """
    with opened(db, write=True, create=True) as connection:
        repl = Repl(connection)
        if sql:
            repl.run(sql)
        else:
            repl.cmdloop(intro=greeting())
        failed = repl.failed
    if failed:
        sys.exit(1)


def greeting() -> str:
    """What a person sees first."""
    model = settings.default_model()
    lines = [f'sqlembed {__version__}, model {model}. Enter ".help" for dot-commands.']
    found = manifest.available().get(model)
    if found is None or not receipt.is_usable(found):
        lines.append(f"{model} is not on this machine; get it with: sqlembed pull {model}")
    return "".join(line + "\n" for line in lines)
