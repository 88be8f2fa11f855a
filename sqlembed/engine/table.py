"""A table of static vectors in a file: rows of tokens, summed; and vectors for words it has not."""

from collections.abc import Sequence
from hashlib import shake_256
from itertools import chain
from pathlib import Path

import gguf
import numpy as np

from sqlembed.engine.pooling import Vector, Vectors
from sqlembed.errors import ModelError, ModelFileError
from sqlembed.weights.manifest import STATIC, Manifest
from sqlembed.weights.static_table import PLACES, ROWS, UNKNOWN, WEIGHTS

ARCHITECTURE_KEY = "general.architecture"


class Table:
    """Vectors of tokens, mapped into memory."""

    def __init__(self, manifest: Manifest, path: Path) -> None:
        """Map the GGUF at *path*, which the converter wrote.

        :raises ModelError: it is not the table of *manifest*
        :raises ModelFileError: it is damaged
        """
        try:
            reader = gguf.GGUFReader(path)
        except (ValueError, IndexError, KeyError) as error:
            raise ModelFileError(f"{path} is truncated or damaged ({error})") from error
        fields = {key: field.contents() for key, field in reader.fields.items()}
        tensors = {tensor.name: tensor for tensor in reader.tensors}
        architecture = fields.get(ARCHITECTURE_KEY)
        if architecture != STATIC or ROWS not in tensors:
            raise ModelError(
                f"{manifest.name}: its weights are of architecture {architecture}, its manifest"
                f" says {STATIC}"
            )
        self.definition = str(fields[gguf.Keys.Tokenizer.HF_JSON])
        """The text of its tokenizer.json."""
        self._unknown = fields.get(UNKNOWN)
        self._data, self._type = tensors[ROWS].data, tensors[ROWS].tensor_type
        self._weights = tensors[WEIGHTS].data if WEIGHTS in tensors else None
        self._places = tensors[PLACES].data if PLACES in tensors else None
        width = int(tensors[ROWS].shape[0])
        if width != manifest.dimension:
            raise ModelError(
                f"{manifest.name}: its weights give {width} numbers, its manifest says"
                f" {manifest.dimension}; they are of another model: sqlembed pull {manifest.name}"
            )
        self._width = width

    def sums(self, texts: Sequence[Sequence[int]]) -> Vectors:
        """For each text the sum of its known tokens' rows, each by its weight.

        :param texts: token ids
        :returns: of shape (n, dimension); zeros for a text of which no token is known
        """
        lengths = np.fromiter(map(len, texts), dtype=np.int64, count=len(texts))
        ids = np.fromiter(chain.from_iterable(texts), dtype=np.int64, count=int(lengths.sum()))
        if self._unknown is not None:
            known = ids != self._unknown
            lengths = np.bincount(
                np.repeat(np.arange(len(texts)), lengths)[known], minlength=len(texts)
            )
            ids = ids[known]
        sums = np.zeros((len(texts), self._width), dtype=np.float32)
        filled = lengths > 0
        if len(ids):
            starts = (np.cumsum(lengths) - lengths)[filled]
            sums[filled] = np.add.reduceat(self._rows(ids), starts, axis=0)
        return sums

    def _rows(self, ids: np.ndarray[tuple[int], np.dtype[np.int64]]) -> Vectors:
        places = ids if self._places is None else self._places[ids]
        rows: Vectors = gguf.quants.dequantize(self._data[places], self._type)
        return rows if self._weights is None else rows * self._weights[ids][:, None]


def hashed(word: str, dimension: int) -> Vector:
    """A unit vector made of the hash of *word*: the same for ever, and near to no other's."""
    digest = shake_256(word.encode("utf-8", "surrogatepass")).digest(2 * dimension)
    numbers = np.frombuffer(digest, dtype="<i2").astype(np.float32) + 0.5
    found: Vector = numbers / np.linalg.norm(numbers)
    return found
