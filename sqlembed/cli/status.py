"""``sqlembed status``: the indexes of a database."""

import json

import click

from sqlembed.cli.opening import opened, records
from sqlembed.cli.tables import show

STATUS = "SELECT * FROM sqlembed_status"
COLUMNS = (
    "name",
    "source",
    "expression",
    "model",
    "mode",
    "indexed",
    "chunks",
    "waiting",
    "failed",
    "bytes",
)


@click.command("status")
@click.argument("db")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
def verb(db: str, as_json: bool) -> None:
    """Rows that wait are found by searches all the same; a flush makes that faster."""
    with opened(db) as connection:
        found = records(connection, STATUS)
    if as_json:
        click.echo(json.dumps(found, ensure_ascii=False))
        return
    if not found:
        click.echo(f"{db} has no index; make one: sqlembed index {db} TABLE COLUMN")
        return
    show(COLUMNS, found)
    for row in found:
        if row["problem"] is not None:
            click.echo(row["problem"], err=True)
        if row["reindexing"] is not None:
            click.echo(f"{row['name']!s} is made anew: {row['reindexing']!s}", err=True)
        if row["failed"]:
            name, failed = str(row["name"]), str(row["failed"])
            click.echo(
                f"{name}: {failed} rows failed, one of them: {row['last_error']!s};"
                f" to have them tried at once: SELECT sqlembed_retry('{name}')",
                err=True,
            )
