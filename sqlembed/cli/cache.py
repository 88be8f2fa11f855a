"""``sqlembed cache``: what the cache remembers."""

import json

import click

from sqlembed.cli.failure import Failure
from sqlembed.cli.opening import opened, records
from sqlembed.cli.tables import show
from sqlembed.doors.apsw_door import shared_engine

HOLDINGS = "SELECT model, kind, entries, bytes FROM sqlembed_cache WHERE entries > 0"
CLEAR = "SELECT sqlembed_cache_clear(?)"
EVERYTHING = ""


@click.command("cache")
@click.option(
    "--clear",
    metavar="[MODEL]",
    is_flag=False,
    flag_value=EVERYTHING,
    help="Forget what MODEL made, or everything.",
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
def verb(clear: str | None, as_json: bool) -> None:
    """SQLEMBED_CACHE moves its file, SQLEMBED_CACHE_BYTES bounds it.

    Whatever is forgotten is computed anew when it is needed; indexes keep their vectors.
    """
    with opened() as connection:
        cleared = 0
        if clear is not None:
            cleared = int(str(connection.execute(CLEAR, (clear or None,)).fetchall()[0][0]))
        found = records(connection, HOLDINGS)
        cache = shared_engine().cache
        facts = {"path": cache.path, "most_bytes": cache.most_bytes, "holdings": found}
    if cache.problem:
        raise Failure(f"the cache cannot be used: {cache.problem}")
    if as_json:
        click.echo(json.dumps(facts | ({} if clear is None else {"cleared": cleared})))
        return
    if clear is not None:
        click.echo(f"{cleared:,} entries forgotten")
    elif found:
        show(list(found[0]), found)
    click.echo(f"{cache.path}, at most {cache.most_bytes / 1e6:,.0f} MB")
