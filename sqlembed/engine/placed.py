"""A text as rows of floats, each at a place, for models that read more than tokens."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sqlembed.engine.pooling import Vectors

Positions = npt.NDArray[np.int32]


class Placed(NamedTuple):
    """A text as rows, with places."""

    rows: Vectors
    """What the first norm gets: sums of embeddings, of shape (n, dimension)."""
    positions: Positions
    """By which each is turned; none less than the one before."""

    def __len__(self) -> int:
        """Rows: what it counts in a batch."""
        return len(self.positions)
