"""Pooling, unit length, and vectors that mean nothing."""

import numpy as np
import pytest

from sqlembed.engine.pooling import POOLINGS, unit
from sqlembed.errors import VectorError

TOKENS = np.array([[1, 2], [3, 4], [5, 9]], dtype=np.float32)


@pytest.mark.parametrize(
    ("pooling", "expected"), [("mean", [3, 5]), ("cls", [1, 2]), ("last", [5, 9])]
)
def test_pooling(pooling: str, expected: list[float]) -> None:
    assert POOLINGS[pooling](TOKENS).tolist() == expected  # type: ignore[index]


def test_unit_length() -> None:
    assert np.allclose(np.linalg.norm(unit(TOKENS), axis=1), 1)


@pytest.mark.parametrize("bad", [0.0, np.nan, np.inf])
def test_what_has_no_direction_is_refused(bad: float) -> None:
    with pytest.raises(VectorError, match="zeros, NaN or infinity"):
        unit(np.array([[1, 2], [bad, bad]], dtype=np.float32))
