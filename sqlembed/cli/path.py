"""``sqlembed path``: where the loadable extension is."""

import click

from sqlembed import extension
from sqlembed.cli.failure import Failure


@click.command("path")
def verb() -> None:
    """For `.load` in the sqlite3 shell, and for any host that loads extensions.

    The ending .so may be left out, as SQLite adds it.
    """
    found = extension.path()
    if found is None:
        raise Failure(extension.MISSING)
    click.echo(found)
