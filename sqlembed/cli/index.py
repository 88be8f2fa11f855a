"""``sqlembed index``: index a table from the command line, with a progress bar."""

import json
import time

import click

from sqlembed import settings
from sqlembed.cli.opening import opened
from sqlembed.cli.progress import rows_bar
from sqlembed.cli.storing import store_waiting

LOAD = "SELECT sqlembed_load(?)"
INDEX = "SELECT sqlembed_index(?, ?, ?)"


@click.command("index")
@click.argument("db")
@click.argument("table")
@click.argument("expression")
@click.option("--name", help="The index's name; the table's, if not given.")
@click.option("--model", help="The embedder; the default model, if not given.")
@click.option(
    "--mode",
    type=click.Choice(["deferred", "immediate"]),
    default="deferred",
    help="When a changed row's vector is stored: with the next flush, or by the writer at once.",
)
@click.option("--if-not-exists", is_flag=True, help="Leave an index of that name as it is.")
def verb(
    db: str,
    table: str,
    expression: str,
    name: str | None,
    model: str | None,
    mode: str,
    if_not_exists: bool,
) -> None:
    """EXPRESSION is a column of TABLE, or SQL over its columns such as "title || ' ' || body".

    Interrupted with Ctrl-C, it keeps what it stored; `sqlembed flush` goes on from there.
    """
    options = {
        "name": name,
        "model": model,
        "mode": mode,
        "if_not_exists": if_not_exists,
        "backlog": "later",
    }
    given = json.dumps({key: value for key, value in options.items() if value is not None})
    begun = time.monotonic()
    index = name or table
    with opened(db, write=True) as connection, rows_bar() as bar:
        # What cannot be loaded must fail before anything is made.
        connection.execute(LOAD, (model or settings.default_model(),))
        connection.execute(INDEX, (table, expression, given))
        try:
            rows = store_waiting(connection, index, bar)
        except KeyboardInterrupt:
            click.echo(f"stopped; to go on: sqlembed flush {db} {index}", err=True)
            raise
    click.echo(f"{index}: {rows:,} rows in {time.monotonic() - begun:.1f} s")
