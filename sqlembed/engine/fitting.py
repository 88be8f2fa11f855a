"""See that weights are what the manifest says, before anything is computed with them."""

from sqlembed.engine.llama import Weights
from sqlembed.errors import ModelError
from sqlembed.weights.manifest import Manifest


def check(manifest: Manifest, weights: Weights) -> None:
    """Compare architecture, width and positions.

    :raises ModelError: they are of another model
    """
    architecture = weights.metadata("general.architecture")
    if architecture != manifest.architecture:
        raise ModelError(
            f"{manifest.name}: its weights are of architecture {architecture}, its manifest"
            f" says {manifest.architecture}"
        )
    expected = _width(manifest)
    width = weights.labels if manifest.pooling == "rank" else weights.dimension
    if expected is not None and width != expected:
        raise ModelError(
            f"{manifest.name}: its weights give {width} numbers, its manifest says"
            f" {expected}; they are of another model: sqlembed pull {manifest.name}"
        )
    if weights.positions < manifest.context:
        raise ModelError(
            f"{manifest.name}: its weights have {weights.positions} positions,"
            f" its manifest says it reads {manifest.context} tokens"
        )


def _width(manifest: Manifest) -> int | None:
    """What the transformer gives; None where it is its words that are read."""
    if manifest.reading is not None:
        return None
    return manifest.heads[0].inputs if manifest.heads else manifest.dimension
