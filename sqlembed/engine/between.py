"""The layers of a model of two stages that llama.cpp has not: after each, and between both."""

import math
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from sqlembed.engine.pooling import Vectors, unit
from sqlembed.errors import ModelError, ModelFileError
from sqlembed.weights import beside
from sqlembed.weights.manifest import Manifest
from sqlembed.weights.two_stage import LAYERS, MLPS, SOFT

_erf = np.vectorize(math.erf, otypes=[np.float32])


class Between:
    """What stands beside the two GGUFs, in float32."""

    def __init__(self, manifest: Manifest, gguf: Path) -> None:
        """Read what belongs to *gguf*, the second stage.

        :raises ModelError: the first stage or these layers are missing, or of another width
        :raises ModelFileError: the file of layers is damaged
        """
        path, width = beside.path(gguf, beside.STAGES), manifest.dimension
        missing = [
            each for kind in (beside.FIRST, beside.STAGES)
            if not (each := beside.path(gguf, kind)).is_file()
        ]  # fmt: skip
        if missing:
            raise ModelError(
                f"{manifest.name} has two stages, and {missing[0]} is missing; get it anew with:"
                f" sqlembed pull {manifest.name}"
            )
        try:
            self._layers = load_file(path)
        except (SafetensorError, OSError) as error:
            raise ModelFileError(f"{path} is damaged ({error}); get the model anew") from error
        wanted = {
            f"{name}.{part}": (width, width) if part.endswith("weight") else (width,)
            for name in MLPS
            for part in LAYERS
        }
        wanted[SOFT] = (len(self._layers.get(SOFT, ())), width)
        for name, shape in wanted.items():
            found = self._layers.get(name)
            if found is None or found.shape != shape:
                came = "missing" if found is None else f"of shape {found.shape}"
                raise ModelError(f"{path}: {name} is {came}, expected {shape}")
        self.soft: Vectors = self._layers[SOFT]
        """What stands between a sample and a text, of shape (rows, dimension)."""

    def of_first(self, pooled: Vectors) -> Vectors:
        """The vectors of a sample, from the means of its texts' tokens."""
        inner = self._linear(pooled, "first.0")
        return self._linear(inner * (1 + _erf(inner / math.sqrt(2))) / 2, "first.2")

    def output(self, pooled: Vectors) -> Vectors:
        """The unit vectors of texts, from the means of their tokens.

        :param pooled: of shape (n, dimension)
        """
        return unit(self._linear(np.maximum(self._linear(pooled, "output.0"), 0), "output.2"))

    def _linear(self, rows: Vectors, name: str) -> Vectors:
        made: Vectors = rows @ self._layers[f"{name}.weight"].T + self._layers[f"{name}.bias"]
        return made.astype(np.float32, copy=False)
