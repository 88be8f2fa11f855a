"""From a vector per token to a vector per text, and to unit length."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from sqlembed.errors import VectorError
from sqlembed.weights.manifest import Pooling

Vector = npt.NDArray[np.float32]
"""float32 of shape (dimension,)."""
Vectors = npt.NDArray[np.float32]
"""float32 of shape (n, dimension), one row a text or token."""


def mean(tokens: Vectors) -> Vector:
    """The mean over all tokens, start and end tokens included."""
    pooled: Vector = tokens.mean(axis=0)
    return pooled


def first(tokens: Vectors) -> Vector:
    """The start token's vector (CLS pooling)."""
    pooled: Vector = tokens[0]
    return pooled


def last(tokens: Vectors) -> Vector:
    """The end token's vector."""
    pooled: Vector = tokens[-1]
    return pooled


POOLINGS: dict[Pooling, Callable[[Vectors], Vector]] = {"mean": mean, "cls": first, "last": last}


def unit(vectors: Vectors) -> Vectors:
    """Rows scaled to unit length.

    :raises VectorError: a row holds NaN or infinity, or only zeros
    """
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    if not (np.isfinite(lengths).all() and (lengths > 0).all()):
        raise VectorError(
            "the model gave a vector of zeros, NaN or infinity; its weights are damaged"
            " or do not fit this machine: run `sqlembed doctor`"
        )
    scaled: Vectors = (vectors / lengths).astype(np.float32, copy=False)
    return scaled
