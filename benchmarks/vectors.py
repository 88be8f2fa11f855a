"""Vectors to search: real ones of SMS, and larger sets made out of them.

A larger set is crowded as real ones are: a made vector is a real one (four of five), or
a mixture of two, moved by noise to a cosine of about 0.9 of where it was.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sqlembed.engine.local import LocalEngine

Vectors = npt.NDArray[np.float32]

NOISE = 0.48
"""The length of the noise added to a unit vector: 1 / sqrt(1 + 0.48 ** 2) is 0.9."""
MIXED = 0.2
"""The share of mixtures."""
SEED = 1


class Truth(NamedTuple):
    """The exact answers to queries."""

    distances: npt.NDArray[np.float32]
    """Of shape (queries, rows): cosine distances."""
    k: int

    def recall(self, query: int, ids: list[int]) -> float:
        """The share of *ids* (from 1) that belong to the k nearest; of equals any will do."""
        row = self.distances[query]
        k = min(self.k, int(np.isfinite(row).sum()))
        farthest = np.partition(row, k - 1)[k - 1]
        return float(np.sum(row[np.array(ids) - 1] <= farthest + 1e-6)) / k

    def among(self, ids: list[int]) -> "Truth":
        """The exact answers among the rows of these *ids*."""
        distances = np.full_like(self.distances, np.inf)
        chosen = np.array(ids) - 1
        distances[:, chosen] = self.distances[:, chosen]
        return Truth(distances, self.k)


def embedded(engine: LocalEngine, texts: Sequence[str]) -> Vectors:
    """The default model's vectors of *texts*, of unit length."""
    return np.array([np.frombuffer(row, "<f4") for row in engine.embed(texts, None, "document")])


def enlarged(real: Vectors, rows: int) -> Vectors:
    """*rows* unit vectors: the *real* ones, then made ones."""
    if rows <= len(real):
        return real[:rows]
    random = np.random.default_rng(SEED)
    missing = rows - len(real)
    made = real[random.integers(len(real), size=missing)]
    mixed = random.random(missing) < MIXED
    share = random.random((missing, 1), dtype=np.float32)
    others = real[random.integers(len(real), size=missing)]
    made[mixed] = (share * made + (1 - share) * others)[mixed]
    made /= np.linalg.norm(made, axis=1, keepdims=True)
    noise = random.standard_normal(made.shape, dtype=np.float32)
    made += NOISE * noise / np.linalg.norm(noise, axis=1, keepdims=True)
    made /= np.linalg.norm(made, axis=1, keepdims=True)
    found: Vectors = np.concatenate([real, made])
    return found


def truth(vectors: Vectors, queries: Vectors, k: int) -> Truth:
    """The distance of every vector to every query."""
    return Truth(1 - queries @ vectors.T, k)
