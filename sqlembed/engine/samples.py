"""What models of two stages have made of samples, by the names of the models that read them."""

import numpy as np

from sqlembed.engine.pooling import Vectors
from sqlembed.errors import SpaceError
from sqlembed.vectors import FLOAT_BYTES
from sqlembed.weights import corpus
from sqlembed.weights.manifest import Manifest

MOST = 64
"""That are known at once, of a megabyte and a half each: an index gives its own again."""


class Samples:
    """Those known in this process; safe from any thread, as a dictionary is."""

    def __init__(self) -> None:
        """Start with none."""
        self._known: dict[str, Vectors] = {}

    def get(self, name: str) -> Vectors | None:
        """That of ``NAME@DIGEST``."""
        return self._known.get(name)

    def add(self, manifest: Manifest, made: Vectors) -> str:
        """Know what the model of *manifest* has made of a sample; its name after that."""
        name = manifest.after(corpus.digest(made.astype("<f4").tobytes())).name
        self._remember(name, made)
        return name

    def learn(self, manifest: Manifest, made: bytes) -> None:
        """Know what the model of *manifest*, which is ``NAME@DIGEST``, once made of its sample.

        :param made: little-endian float32, a row after another
        :raises SpaceError: it is of another sample, or damaged
        """
        rows = manifest.corpus.sample if manifest.corpus else 0
        if (
            len(made) != rows * manifest.dimension * FLOAT_BYTES
            or corpus.digest(made) != manifest.sampled
        ):
            raise SpaceError(
                f"what is kept of the sample of {manifest.name} is damaged, or another's: make the"
                f" index anew with the model {manifest.base}"
            )
        floats = np.frombuffer(made, "<f4").astype(np.float32)
        self._remember(manifest.name, floats.reshape(rows, -1))

    def _remember(self, name: str, made: Vectors) -> None:
        if len(self._known) >= MOST:
            self._known.pop(next(iter(self._known)), None)
        self._known[name] = made
