"""A vector as SQL sees it: a BLOB of little-endian float32, four bytes a dimension."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from sqlembed.errors import VectorError

FLOAT_BYTES = 4


def from_blob(blob: bytes, what: str, dimension: int | None = None) -> npt.NDArray[np.float32]:
    """Read a vector.

    :param what: what the BLOB is, for messages (``knn()'s query``)
    :param dimension: the width it must have; None takes any
    :returns: float32 of shape (dimension,)
    :raises VectorError: not floats, another width, NaN or infinity, or only zeros
    """
    if not blob or len(blob) % FLOAT_BYTES:
        raise VectorError(
            f"{what} is a BLOB of {len(blob)} bytes, and a vector has {FLOAT_BYTES} bytes"
            " a dimension (little-endian float32), as embed() gives it"
        )
    vector = np.frombuffer(blob, dtype="<f4")
    if dimension is not None and len(vector) != dimension:
        raise VectorError(f"{what} has {len(vector)} dimensions, expected {dimension}")
    if not np.isfinite(vector).all():
        raise VectorError(f"{what} holds NaN or infinity; embed() never gives these")
    if not vector.any():
        raise VectorError(f"{what} holds only zeros, which is near to nothing")
    return vector


def to_blob(vector: npt.NDArray[np.float32]) -> bytes:
    """Write a vector."""
    return np.ascontiguousarray(vector, dtype="<f4").tobytes()


def unit(vector: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """*vector*, not zero, at unit length."""
    scaled: npt.NDArray[np.float32] = (vector / np.linalg.norm(vector)).astype(np.float32)
    return scaled


def centroid(blobs: Sequence[bytes]) -> npt.NDArray[np.float32]:
    """The mean of *blobs*, unit vectors of the parts of a text, at unit length."""
    return unit(np.mean([np.frombuffer(blob, dtype="<f4") for blob in blobs], axis=0))
