"""Files that stand beside a model's GGUF: dense heads, its tokenizer, the stage before it."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, deserialize
from safetensors.numpy import save_file

from sqlembed.errors import ModelError, ModelFileError
from sqlembed.weights import gguf_header
from sqlembed.weights.manifest import Manifest

Floats = npt.NDArray[np.float32]

HEADS = "heads.safetensors"
"""The dense layers after pooling, as float32, each by its path in the original repository."""
TOKENIZER = "tokenizer.json"
"""The reference's own tokenizer, where the GGUF does not carry it."""
FIRST = "first.gguf"
"""The stage that reads a sample's texts, of a model of two."""
STAGES = "stages.safetensors"
"""What stands between its stages, and after the second, as float32."""
KINDS = (HEADS, TOKENIZER, FIRST, STAGES)
INSIDE = ("dense_2.weight", "dense_3.weight")
"""The tensors of a GGUF that llama.cpp applies after pooling by itself, in order."""
NUMPY_TYPES = {"F32": "<f4", "F16": "<f2", "F64": "<f8"}
"""Of safetensors' names."""


def path(gguf: Path, kind: str) -> Path:
    """Where the file of that *kind* stands, or would stand, for the model of *gguf*."""
    return gguf.with_name(f"{gguf.stem}.{kind}")


def heads_inside(gguf: Path) -> list[str]:
    """The tensors of *gguf* that are dense layers after pooling."""
    names = gguf_header.tensors(gguf)
    return [name for name in INSIDE if name in names]


def wanted(manifest: Manifest) -> list[str]:
    """The files of the original repository that may have to stand beside the GGUF."""
    return [TOKENIZER, *(head.path for head in manifest.dense)]


def gather(manifest: Manifest, source: Path, gguf: Path, *, tokenizer: bool = True) -> None:
    """Make the files that stand beside *gguf* from those of the directory *source*.

    Heads are made where the GGUF has none inside and any of their files is there: whether a model
    has what it needs is for whoever loads it to see.

    :param source: with ``tokenizer.json`` and the files that the manifest's heads name
    :param tokenizer: whether to take that one; our converter puts it into the GGUF
    :raises ModelError: a head's file is missing, or holds something else
    :raises ModelFileError: a file is damaged
    """
    if tokenizer and (source / TOKENIZER).is_file():
        path(gguf, TOKENIZER).write_bytes((source / TOKENIZER).read_bytes())
    found = any((source / head.path).is_file() for head in manifest.dense)
    if not found or heads_inside(gguf):
        return
    layers: dict[str, Floats] = {}
    for head in manifest.dense:
        tensors = _floats(source / head.path)
        parts = [part for part in ("weight", "bias") if f"{head.tensor}.{part}" in tensors]
        if parts != ["weight", "bias"][: 1 + head.bias]:
            raise ModelError(
                f"{source / head.path} has {' and '.join(parts) or 'nothing'} of {head.tensor}; a"
                f" dense layer {'with' if head.bias else 'without'} bias was expected"
            )
        layers |= {f"{head.name}.{part}": tensors[f"{head.tensor}.{part}"] for part in parts}
    save_file(layers, path(gguf, HEADS))


def adopt(origin: Path, made: Path) -> None:
    """Copy what our converter left beside the GGUF *origin* to the side of *made*."""
    for kind in (FIRST, STAGES):
        if path(origin, kind).is_file():
            shutil.copyfile(path(origin, kind), path(made, kind))


def install(made: Path, target: Path) -> None:
    """Move what stands beside the GGUF *made* to *target*'s side; what stood there goes."""
    for kind in KINDS:
        path(target, kind).unlink(missing_ok=True)
        if path(made, kind).is_file():
            path(made, kind).replace(path(target, kind))


def _floats(file: Path) -> dict[str, Floats]:
    try:
        stored = deserialize(file.read_bytes())  # type: ignore[no-untyped-call]
    except FileNotFoundError as error:
        raise ModelError(f"{file} is missing, and the model's dense layers need it") from error
    except SafetensorError as error:
        raise ModelFileError(f"{file} is truncated or not safetensors ({error})") from error
    return {name: _float32(file, entry).reshape(entry["shape"]) for name, entry in stored}


def _float32(file: Path, entry: Mapping[str, Any]) -> Floats:
    if entry["dtype"] == "BF16":  # the upper half of a float32, which numpy has no type for
        halves = np.frombuffer(entry["data"], "<u2").astype(np.uint32)
        return (halves << 16).view(np.float32)
    if entry["dtype"] not in NUMPY_TYPES:
        raise ModelError(f"{file} is of {entry['dtype']}; floats were expected")
    return np.frombuffer(entry["data"], NUMPY_TYPES[entry["dtype"]]).astype(np.float32)
