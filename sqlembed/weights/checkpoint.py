"""A trained BERT as its reference has it: shape, tensors, tokenizer, pooling. Readers make one."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import gguf
import numpy as np
import numpy.typing as npt

from sqlembed.errors import ModelError

Floats = npt.NDArray[np.float32]
Pooling = Literal["mean", "cls", "rank"]

BLOCK = 32
"""Weights in a block of GGML's 8-bit and 4-bit formats."""
Q4_BYTES = 18
"""Bytes of a Q4_0 block: a float16 scale, then 32 nibbles; weight = (nibble - 8) * scale."""

WORDS = "embeddings.word_embeddings.weight"
POSITIONS = "embeddings.position_embeddings.weight"
SEGMENTS = "embeddings.token_type_embeddings.weight"

LAYER_LINEARS = (
    "attention.self.query",
    "attention.self.key",
    "attention.self.value",
    "attention.output.dense",
    "intermediate.dense",
    "output.dense",
)
LAYER_NORMS = ("attention.output.LayerNorm", "output.LayerNorm")


@dataclass(frozen=True)
class Architecture:
    """A BERT's shape, as the reference's config.json has it."""

    layers: int
    heads: int
    width: int
    """Floats a token's vector."""
    inner: int
    """Floats between the two halves of a feed-forward layer."""
    vocabulary: int
    """Rows of the word embeddings; a tokenizer may know fewer."""
    positions: int
    """The most tokens a text may have."""
    segments: int
    """Rows of the token type embeddings."""
    epsilon: float
    """Of the layer norms."""


@dataclass(frozen=True)
class Q4Blocks:
    """A matrix kept in GGML's Q4_0, so that no rounding is done twice."""

    data: npt.NDArray[np.uint8]
    """Shape (rows, columns / 32 * 18)."""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns, in weights."""
        rows, width = self.data.shape
        return rows, width // Q4_BYTES * BLOCK

    def floats(self) -> Floats:
        """The weights that the blocks stand for, of shape (rows, columns)."""
        return gguf.quants.dequantize(self.data, gguf.GGMLQuantizationType.Q4_0)


Tensor = Floats | Q4Blocks


@dataclass(frozen=True)
class Checkpoint:
    """What the converter needs to know of a trained model."""

    architecture: Architecture
    tensors: Mapping[str, Tensor]
    """By Hugging Face's names for BertModel (no ``bert.`` in front); linear weights
    are (out, in)."""
    tokenizer: str
    """The text of its tokenizer.json."""
    pooling: Pooling
    """How token vectors become one; ``rank`` for a cross-encoder."""
    labels: tuple[str, ...] = ()
    """A cross-encoder's outputs, in order."""

    def floats(self, name: str) -> Floats:
        """The tensor called *name*, as float32."""
        tensor = self.tensors[name]
        return tensor.floats() if isinstance(tensor, Q4Blocks) else tensor


def shapes(architecture: Architecture, labels: int = 0) -> dict[str, tuple[int, ...]]:
    """The tensors that a BERT of this shape must have.

    :param labels: outputs of its classifier; 0 for an embedder, which has none
    :returns: each tensor's shape by name, in the order of the graph
    """
    a = architecture
    linear = dict.fromkeys(LAYER_LINEARS, (a.width, a.width))
    linear |= {"intermediate.dense": (a.inner, a.width), "output.dense": (a.width, a.inner)}
    wanted: dict[str, tuple[int, ...]] = {
        WORDS: (a.vocabulary, a.width),
        POSITIONS: (a.positions, a.width),
        SEGMENTS: (a.segments, a.width),
    }
    wanted |= {f"embeddings.LayerNorm.{part}": (a.width,) for part in ("weight", "bias")}
    for layer in range(a.layers):
        for name, shape in linear.items():
            wanted[f"encoder.layer.{layer}.{name}.weight"] = shape
            wanted[f"encoder.layer.{layer}.{name}.bias"] = shape[:1]
        for name in LAYER_NORMS:
            wanted[f"encoder.layer.{layer}.{name}.weight"] = (a.width,)
            wanted[f"encoder.layer.{layer}.{name}.bias"] = (a.width,)
    if labels:
        wanted |= {"pooler.dense.weight": (a.width, a.width), "pooler.dense.bias": (a.width,)}
        wanted |= {"classifier.weight": (labels, a.width), "classifier.bias": (labels,)}
    return wanted


def checked(checkpoint: Checkpoint, origin: str) -> Checkpoint:
    """*checkpoint*, if it is whole.

    :param origin: the file it came from, for messages
    :raises ModelError: a tensor is missing, of another shape, or not finite
    """
    for name, shape in shapes(checkpoint.architecture, len(checkpoint.labels)).items():
        tensor = checkpoint.tensors.get(name)
        if tensor is None:
            raise ModelError(f"{origin}: the tensor {name} is missing; the file is not whole")
        if tensor.shape != shape:
            raise ModelError(
                f"{origin}: the tensor {name} has shape {tensor.shape}, expected {shape}"
            )
        if not isinstance(tensor, Q4Blocks) and not np.isfinite(tensor).all():
            raise ModelError(f"{origin}: the tensor {name} holds NaN or infinity")
    return checkpoint
