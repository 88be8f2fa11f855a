"""``sqlembed probe``: take the probes of a model on a server."""

import click

from sqlembed.engine.probing import taken
from sqlembed.weights import manifest


@click.command("probe")
@click.argument("name")
def verb(name: str) -> None:
    """A change of the server's model is noticed by them, so nothing is used without.

    Append what this prints to the manifest, with `>> NAME.toml` in a shell. The server is asked
    for a few short texts, and for two that are as long as the model reads.
    """
    click.echo(taken(manifest.find(name)), nl=False)
