"""From a vector per token to a vector per text, to fewer dimensions, and to unit length."""

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
"""How token vectors become one. A model that pools by ``none`` has none for a text."""

NORM_EPSILON = 1e-5
"""As in PyTorch's ``layer_norm``, which the models' cards call."""


def layer_norm(vectors: Vectors) -> Vectors:
    """Rows with mean 0 and variance 1, without learned weights."""
    centred = vectors - vectors.mean(axis=-1, keepdims=True)
    scaled: Vectors = centred / np.sqrt(vectors.var(axis=-1, keepdims=True) + NORM_EPSILON)
    return scaled


def cut(vectors: Vectors, width: int, *, normed: bool = False) -> Vectors:
    """The first *width* floats of each row, at unit length (https://arxiv.org/abs/2205.13147).

    :param normed: whether a layer norm of the whole row comes first, as the model was trained
    """
    return unit((layer_norm(vectors) if normed else vectors)[..., :width])


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
