"""``sqlembed search``: the rows nearest to a question, reranked if asked."""

import json

import click

from sqlembed.cli.opening import opened, records
from sqlembed.cli.tables import show

NEAREST = "SELECT id, distance, text, start, stop, coverage FROM knn(?, ?, ?)"
RERANKED = """
WITH found AS MATERIALIZED (SELECT * FROM knn(?1, ?2, ?3))
SELECT id, rerank(?2, text) AS score, distance, text, start, stop, coverage
FROM found ORDER BY score DESC LIMIT ?4"""
CANDIDATES = 50
"""Rows that are reranked, or k if that is more."""


@click.command("search")
@click.argument("db")
@click.argument("index")
@click.argument("query")
@click.option("-k", default=10, show_default=True, help="How many rows to show.")
@click.option("--rerank", is_flag=True, help=f"Rerank the {CANDIDATES} nearest.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
def verb(db: str, index: str, query: str, k: int, rerank: bool, as_json: bool) -> None:
    """Writes nothing to the database. A distance is low where a row is near; a score is high.

    Where the output is no terminal: a row a line, its parts separated by tabs.
    """
    with opened(db) as connection:
        if rerank and k > 0:
            found = records(connection, RERANKED, (index, query, max(k, CANDIDATES), k))
        else:
            found = records(connection, NEAREST, (index, query, k))
    if as_json:
        click.echo(json.dumps(found, ensure_ascii=False, default=str))
        return
    measures = ["score", "distance"] if rerank else ["distance"]
    show([*measures, "id", "text"], found)
    coverage = float(str(found[0]["coverage"])) if found else 1.0
    if coverage < 1:
        click.echo(
            f"{coverage:.0%} of the rows were searched; the others wait for:"
            f" sqlembed flush {db} {index}",
            err=True,
        )
