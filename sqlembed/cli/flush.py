"""``sqlembed flush``: store the vectors of rows that wait, with a progress bar."""

import time

import click

from sqlembed.cli.failure import Failure
from sqlembed.cli.opening import opened
from sqlembed.cli.progress import rows_bar
from sqlembed.cli.storing import fill_next, store_waiting
from sqlembed.errors import InputError, NotFoundError

NAMES = "SELECT name FROM sqlembed_status WHERE ?1 IS NULL OR name = ?1 COLLATE NOCASE"


@click.command("flush")
@click.argument("db")
@click.argument("index", required=False)
def verb(db: str, index: str | None) -> None:
    """Without INDEX, every index of the database. Nothing is lost if it is interrupted."""
    failures: list[InputError] = []
    with opened(db, write=True) as connection:
        names = [str(row[0]) for row in connection.execute(NAMES, (index,))]
        if index is not None and not names:
            raise NotFoundError(f"no index is called {index!r} in {db}; see: sqlembed status {db}")
        for name in names:
            begun = time.monotonic()
            try:
                with rows_bar() as bar:
                    rows = store_waiting(connection, name, bar)
                    rows += fill_next(connection, name, bar)
            except InputError as error:  # about rows of this index; the others can be stored
                failures.append(error)
                continue
            click.echo(f"{name}: {rows:,} rows in {time.monotonic() - begun:.1f} s")
    if not names:
        click.echo(f"{db} has no index")
    if failures:
        raise Failure("\n".join(map(str, failures)))
