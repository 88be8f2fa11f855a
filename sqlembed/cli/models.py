"""``sqlembed models``: every model known here."""

import json

import click

from sqlembed.cli.opening import opened, records
from sqlembed.cli.tables import show

MODELS = """
SELECT name, kind, dimension, context, iif(installed, 'yes', 'no') AS installed, used_for,
       proof, licence, summary
FROM sqlembed_models ORDER BY name"""
MODELS_FOR_SCRIPTS = "SELECT * FROM sqlembed_models ORDER BY name"


@click.command("models")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
def verb(as_json: bool) -> None:
    """Install one with `sqlembed pull NAME`; SQLEMBED_MODEL names the default."""
    with opened() as connection:
        found = records(connection, MODELS_FOR_SCRIPTS if as_json else MODELS)
    if as_json:
        click.echo(json.dumps(found, ensure_ascii=False))
    else:
        show(list(found[0]), found)
