"""Room in which ``bert.c`` computes one batch at a time."""

import ctypes
from collections.abc import Sequence, Sized

import numpy as np
import numpy.typing as npt

from sqlembed.engine.bert import Bert, library
from sqlembed.engine.llama import MOST_TEXTS, TokenIds
from sqlembed.engine.placed import Placed
from sqlembed.engine.pooling import Vectors
from sqlembed.errors import ModelError


class BertContext:
    """Room to compute one batch at a time; not for two threads at once.

    It has the methods of :class:`sqlembed.engine.llama.Context`.
    """

    def __init__(self, bert: Bert, most_tokens: int, *, rank: bool = False) -> None:
        """Compute batches of *most_tokens* tokens.

        :param rank: give the classifier's labels per text in place of vectors per token
        """
        self._bert = bert
        self._most_tokens = most_tokens
        self._rank = rank
        self._threads = 1
        self._room = np.empty(0, np.float32)

    def use_threads(self, count: int) -> None:
        """Compute the next batches with *count* threads."""
        self._threads = count

    def encode(self, texts: Sequence[TokenIds]) -> list[Vectors]:
        """Compute one batch.

        :param texts: token ids of each text, together within the room made
        :returns: for each text float32 of shape (its tokens, dimension), or with
            *rank* of shape (1, labels)
        :raises ModelError: an id is out of range, or the batch is too large
        """
        ids = np.concatenate(texts) if texts else np.zeros(0, np.int32)
        starts = self._starts(texts)
        bert = self._bert
        if int(ids.min()) < 0 or int(ids.max()) >= len(bert.words.rows):
            raise ModelError(f"a token id is outside the vocabulary of {len(bert.words.rows)}")
        rows = np.ascontiguousarray(bert.words.some(ids))
        places = np.arange(len(ids), dtype=np.int32) - np.repeat(starts[:-1], np.diff(starts))
        rows += bert.type if bert.positions is None else bert.positions[places]
        self._compute(rows, places, starts)
        if self._rank:
            return [row[np.newaxis] for row in self._labels(rows[starts[:-1]])]
        return np.split(rows, starts[1:-1])

    def compute(self, texts: Sequence[Placed]) -> list[Vectors]:
        """Compute one batch of texts whose rows, and their places, are given.

        :returns: for each float32 of shape (its rows, dimension)
        :raises ModelError: the batch is too large
        """
        starts = self._starts(texts)
        rows = np.concatenate([text.rows for text in texts], dtype=np.float32)
        places = np.concatenate([text.positions for text in texts], dtype=np.int32)
        if int(places.min()) < 0 or int(places.max()) >= self._bert.places:
            raise ModelError(f"a row stands at none of {self._bert.places} places")
        if rows.shape != (len(places), self._bert.width):
            raise ModelError(f"rows of shape {rows.shape} stand at {len(places)} places")
        self._compute(rows, places, starts)
        return np.split(rows, starts[1:-1])

    def _starts(self, texts: Sequence[Sized]) -> npt.NDArray[np.int32]:
        """Where each text begins, and where the last one ends."""
        lengths = np.array([len(text) for text in texts], np.int32)
        total, longest = int(lengths.sum()), int(lengths.max(initial=0))
        if (
            not len(lengths)
            or not lengths.min()
            or total > self._most_tokens
            or len(texts) > MOST_TEXTS
            or longest > self._bert.places
        ):
            raise ModelError(
                f"a batch of {len(texts)} texts and {total} tokens, at most {longest} in a text,"
                f" does not fit a context of {MOST_TEXTS} texts and {self._most_tokens} tokens"
            )
        starts = np.zeros(len(texts) + 1, np.int32)
        np.cumsum(lengths, out=starts[1:])
        return starts

    def _compute(
        self, rows: Vectors, places: npt.NDArray[np.int32], starts: npt.NDArray[np.int32]
    ) -> None:
        compiled, own = library(), ctypes.byref(self._bert.c)
        assert compiled is not None
        longest = int(np.diff(starts).max())
        needed = compiled.sqlembed_bert_room(own, len(rows), longest, self._threads)
        if needed > len(self._room):
            self._room = np.empty(needed, np.float32)
        compiled.sqlembed_bert_encode(
            own, self._bert.lanes, rows.ctypes.data, places.ctypes.data, starts.ctypes.data,
            len(starts) - 1, longest, self._room.ctypes.data, self._threads,
        )  # fmt: skip

    def _labels(self, first: Vectors) -> Vectors:
        pooler, pooler_bias, output, output_bias = self._bert.head
        assert output is not None
        if pooler is not None:
            first = np.tanh(first @ pooler.T + (0 if pooler_bias is None else pooler_bias))
        logits: Vectors = first @ output.T + (0 if output_bias is None else output_bias)
        return logits.astype(np.float32, copy=False)

    def close(self) -> None:
        """Give the memory back."""
        self._room = np.empty(0, np.float32)
