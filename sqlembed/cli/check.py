"""``sqlembed check``: what is wrong with the indexes of a database, and its repair."""

import json
from collections.abc import Iterator

import apsw
import click

from sqlembed.cli.opening import opened
from sqlembed.cli.progress import rows_bar
from sqlembed.cli.storing import store_waiting
from sqlembed.doors.apsw_door import shared_engine
from sqlembed.doors.plans import run
from sqlembed.errors import SqlembedError
from sqlembed.index import check
from sqlembed.index.catalog import Index
from sqlembed.index.check import Finding

REPAIR = "SELECT sqlembed_repair(?)"
STANDS = "SELECT indexed, chunks, waiting FROM sqlembed_status WHERE name = ?"


@click.command("check")
@click.argument("db")
@click.argument("index", required=False)
@click.option("--repair", is_flag=True, help="Put right what is wrong, and store what waits.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array of what is wrong.")
@click.pass_context
def verb(ctx: click.Context, db: str, index: str | None, repair: bool, as_json: bool) -> None:
    """Without INDEX, every index of the database.

    The exit code is 1 if something is wrong, or still is after the repair. It may be interrupted;
    others can read and write meanwhile.
    """
    with opened(db, write=repair) as connection:
        if repair:
            _repair(connection, index)
        found = list(_findings(connection, index))
        if as_json:
            rows = [dict(zip(check.COLUMNS, each, strict=True)) for each in found]
            click.echo(json.dumps(rows, ensure_ascii=False))
        else:
            _show(connection, db, index, found)
    if found:
        ctx.exit(1)


def _repair(connection: apsw.Connection, name: str | None) -> None:
    failure: SqlembedError | None = None
    try:
        ((done,),) = connection.execute(REPAIR, (name,)).fetchall()
        if done:
            click.echo(f"{done:,} things put right", err=True)
    except SqlembedError as error:  # about one index; the others are repaired
        failure = error
    for each in run(connection, check.chosen(name)):
        if each.state != "live" or not _waits(connection, each):
            continue
        try:
            with rows_bar() as bar:
                rows = store_waiting(connection, each.name, bar)
        except SqlembedError as error:  # the rows wait
            click.echo(f"{each.name}: what waits is not stored: {error}", err=True)
        else:
            click.echo(f"{each.name}: {rows:,} rows stored", err=True)
    if failure is not None:
        raise failure


def _waits(connection: apsw.Connection, index: Index) -> bool:
    rows = connection.execute(STANDS, (index.name,)).fetchall()
    return bool(rows and rows[0][2])


def _findings(connection: apsw.Connection, name: str | None) -> Iterator[Finding]:
    found: list[Finding] = []
    for index in run(connection, check.chosen(name)):
        place: check.Place | None = check.FIRST
        while place is not None:
            # A part in a transaction of its own: where there is no WAL, writers wait for readers.
            connection.execute("BEGIN")
            try:
                now = {each.index_id: each for each in run(connection, check.chosen(None))}
                if index.index_id not in now:  # dropped meanwhile
                    break
                new, place = run(
                    connection, check.part(shared_engine(), now[index.index_id], place)
                )
            finally:
                connection.execute("COMMIT")
            found += new
    if name is None:
        found += run(connection, check.left_over())
    yield from check.merged(found)


def _show(connection: apsw.Connection, db: str, name: str | None, found: list[Finding]) -> None:
    indexes = run(connection, check.chosen(name))
    if not indexes and not found:
        click.echo(f"{db} has no index")
    for index in indexes:
        wrong = [each for each in found if each.name == index.name]
        if wrong:
            click.echo(f"{index.name}:")
            _list(wrong)
        elif index.state == "live":
            ((rows, chunks, waits),) = connection.execute(STANDS, (index.name,)).fetchall()
            more = f", {waits:,} waiting" if waits else ""
            click.echo(f"{index.name}: {rows:,} rows, {chunks:,} chunks{more}: all is well")
        else:
            click.echo(f"{index.name} (not in use yet): all is well")
    others = [each for each in found if each.name is None]
    if others:
        click.echo(f"{db}:")
        _list(others)


def _list(found: list[Finding]) -> None:
    for each in found:
        click.echo(f"  {each.total:,} {each.kind} (such as {each.example!s}): {each.meaning}")
