"""``sqlembed verify``: what is proven of a model on this machine, and what is not."""

import json
import sys
from dataclasses import asdict

import click

from sqlembed.cli.tables import show
from sqlembed.engine.verifying import verify
from sqlembed.weights import manifest

COLUMNS = ("what", "verdict", "figure")


@click.command("verify")
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
def verb(name: str, as_json: bool) -> None:
    """Its files are hashed, it is loaded, and each probe of its manifest is computed.

    What no probe can tell is said to be not proven. The exit code is 1 if something is wrong.
    """
    found = manifest.find(manifest.find(name).base)
    rows = [asdict(finding) for finding in verify(found)]
    if as_json:
        click.echo(json.dumps(rows, ensure_ascii=False))
    else:
        show(COLUMNS, rows)
    if any(row["verdict"] == "wrong" for row in rows):
        sys.exit(1)
