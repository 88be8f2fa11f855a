"""Dense heads: linear layers between pooling and unit length, in float32.

llama.cpp computes them itself where the GGUF has them inside, which the converter can do for
EmbeddingGemma only. All others are in a file beside the GGUF.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from sqlembed.engine.pooling import Vectors
from sqlembed.errors import ModelError, ModelFileError
from sqlembed.weights import beside
from sqlembed.weights.manifest import Manifest
from sqlembed.weights.stack import Dense


class Heads:
    """The dense layers of one model, for each of its widths."""

    def __init__(self, manifest: Manifest, gguf: Path) -> None:
        """Find the heads of *manifest*, beside its *gguf* or inside it.

        :raises ModelError: they are nowhere, in both places, or not those of the manifest
        :raises ModelFileError: their file is damaged
        """
        self._manifest = manifest
        path = beside.path(gguf, beside.HEADS)
        inside = beside.heads_inside(gguf)
        found = path.is_file()
        if found and inside:
            raise ModelError(
                f"{manifest.name}: its GGUF has {', '.join(inside)}, which llama.cpp applies, and"
                f" {path} would be applied as well; remove one of them"
            )
        if inside:
            _check_inside(manifest, inside)
        elif manifest.dense and not found:
            raise ModelError(
                f"{manifest.name} has {len(manifest.dense)} dense layers after pooling, and neither"
                f" {path} nor its GGUF has them; without them its vectors would look right and be"
                f" wrong. Get it anew with them: sqlembed pull {manifest.name}"
            )
        self._layers = _read(path, manifest.dense) if manifest.dense and not inside else {}

    def apply(self, pooled: Vectors, width: int | None = None) -> Vectors:
        """What the heads make of pooled vectors.

        :param pooled: of shape (..., in)
        :param width: the dimension wanted, where each has a head; None for the manifest's
        :returns: of shape (..., out); *pooled* itself where there are no heads
        """
        manifest = self._manifest if width is None else self._manifest.at(width)
        for head in manifest.heads:
            if (layer := self._layers.get(head.name)) is not None:
                weight, bias = layer
                pooled = (pooled.astype(np.float32) @ weight.T + bias).astype(np.float32)
                pooled = np.tanh(pooled) if head.activation == "tanh" else pooled
        return pooled


def _check_inside(manifest: Manifest, inside: Sequence[str]) -> None:
    plain = all(
        head.activation == "identity" and not head.bias and head.width is None
        for head in manifest.dense
    )
    if len(inside) != len(manifest.dense) or not plain:
        raise ModelError(
            f"{manifest.name}: llama.cpp would apply {', '.join(inside)} of its GGUF, and its"
            f" manifest has {len(manifest.dense)} dense layers; they are not the same"
        )


def _read(path: Path, wanted: Sequence[Dense]) -> dict[str, tuple[Vectors, Vectors | float]]:
    try:
        stored = load_file(path)
    except (SafetensorError, OSError) as error:
        raise ModelFileError(f"{path} is damaged ({error}); get the model anew") from error
    layers: dict[str, tuple[Vectors, Vectors | float]] = {}
    for head in wanted:
        weight = stored.get(f"{head.name}.weight")
        bias = stored.get(f"{head.name}.bias") if head.bias else np.zeros(head.outputs, np.float32)
        shape = (head.outputs, head.inputs)
        if weight is None or bias is None or weight.shape != shape or bias.shape != shape[:1]:
            came = "missing" if weight is None or bias is None else f"of shape {weight.shape}"
            raise ModelError(
                f"{path}: the dense layer {head.name} is {came}, expected {shape}"
                f"{' with a bias' if head.bias else ''}"
            )
        layers[head.name] = (weight, bias)
    return layers
