"""``sqlembed search``: the rows that answer a question best, and why each is there."""

import json
from collections.abc import Mapping

import click

from sqlembed.cli.opening import opened, records
from sqlembed.cli.tables import show

SEARCH = "SELECT * FROM search(?, ?, ?, ?)"
EXPLAIN = "SELECT * FROM search_explain(?, ?, ?, ?)"
NEAREST = "SELECT * FROM knn(?, ?, ?)"


@click.command("search")
@click.argument("db")
@click.argument("index")
@click.argument("query")
@click.option("-k", default=10, show_default=True, help="How many rows to show.")
@click.option(
    "--rerank", type=int, metavar="N", help="Rerank the N best; 0 for none.  [default: 20]"
)
@click.option("--vectors", is_flag=True, help="Go by meaning alone, and show distances.")
@click.option("--explain", is_flag=True, help="Say how it was searched, and why each row is there.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array with all that is known.")
def verb(
    db: str,
    index: str,
    query: str,
    k: int,
    rerank: int | None,
    vectors: bool,
    explain: bool,
    as_json: bool,
) -> None:
    """By what QUERY means and by its words, best first. Writes nothing to the database.

    A score is high where a row is good, a distance low where it is near. Why says at which place
    the row is by its meaning, and by its words.

    Where the output is no terminal: a row a line, its parts separated by tabs.
    """
    if vectors and (explain or rerank is not None):
        raise click.UsageError("--vectors goes without --rerank and --explain")
    with opened(db) as connection:
        if vectors:
            found = records(connection, NEAREST, (index, query, k))
        else:
            options = None if rerank is None else json.dumps({"rerank": rerank})
            sql = EXPLAIN if explain else SEARCH
            found = records(connection, sql, (index, query, k, options))
    if as_json:
        click.echo(json.dumps(found, ensure_ascii=False, default=str))
    elif explain:
        show(["step", "milliseconds", "detail"], found)
    elif vectors:
        show(["distance", "id", "text"], found)
    else:
        show(["score", "why", "id", "snippet"], [row | {"why": _why(row)} for row in found])
    coverage = float(str(found[0].get("coverage", 1.0))) if found else 1.0
    if coverage < 1 and not as_json:
        click.echo(
            f"{coverage:.0%} of the rows were searched; the others wait for:"
            f" sqlembed flush {db} {index}",
            err=True,
        )


def _why(row: Mapping[str, object]) -> str:
    places = (("meaning", row["vector_rank"]), ("words", row["word_rank"]))
    return ", ".join(f"{leg} {place}" for leg, place in places if place is not None)
