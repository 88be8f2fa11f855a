"""``sqlembed reindex``: another model for an index that is searched meanwhile, with a bar."""

import time

import click

from sqlembed.cli.opening import opened
from sqlembed.cli.progress import rows_bar
from sqlembed.cli.storing import fill_next
from sqlembed.errors import InputError

BEGIN = """SELECT sqlembed_reindex(?, ?, '{"backlog": "later"}')"""
COMPLETE = "SELECT sqlembed_reindex(?, ?)"
LOAD = "SELECT sqlembed_load(?)"
MODEL = "SELECT model FROM sqlembed_status WHERE name = ? COLLATE NOCASE"


@click.command("reindex")
@click.argument("db")
@click.argument("index")
@click.argument("model", required=False)
def verb(db: str, index: str, model: str | None) -> None:
    """Without MODEL it is made anew with the model that it has, as that is installed now.

    Searches go on with the old vectors until all new ones are there. Interrupted with Ctrl-C, it
    keeps what it stored, and the same call goes on.
    """
    begun = time.monotonic()
    with opened(db, write=True) as connection, rows_bar() as bar:
        for (own,) in connection.execute(MODEL, (index,)).fetchall():
            # What cannot be loaded must fail before anything is made.
            connection.execute(LOAD, (model or own,))
        connection.execute(BEGIN, (index, model))
        try:
            try:
                rows = fill_next(connection, index, bar)
            except InputError:  # of rows that fail; so many perhaps that it cannot take its place
                connection.execute(COMPLETE, (index, model)).fetchall()
                raise
            connection.execute(COMPLETE, (index, model)).fetchall()
        except KeyboardInterrupt:
            given = f" {model}" if model else ""
            click.echo(f"stopped; to go on: sqlembed reindex {db} {index}{given}", err=True)
            raise
    click.echo(f"{index}: {rows:,} rows in {time.monotonic() - begun:.1f} s")
