"""llama.cpp on rows of floats in place of tokens, each at any position: for encoders.

Its graph of a BERT adds the embedding of the first token type to every row, norms them, and
turns queries and keys by their positions.
"""

import ctypes
from collections.abc import Sequence

import llama_cpp
import numpy as np

from sqlembed.engine.llama import Context, Weights, pointer
from sqlembed.engine.placed import Placed, Positions
from sqlembed.engine.pooling import Vector, Vectors
from sqlembed.errors import ModelError

MOST_TOGETHER = 8
"""Texts of a batch. For so many a context is asked whether what fills gaps stays hidden."""


class RowsContext(Context):
    """Room to compute one batch of placed texts at a time; not for two threads at once.

    llama.cpp refuses a text whose positions have gaps (0, then 512: "positions are not
    continuous"). It looks for gaps in all that belongs to a text, and hides from each row what
    belongs to another text first. So gaps are filled with rows that belong to a text of their own
    first, and to those with gaps besides. Which is first it does not promise: it keeps a row's
    texts in a set without order. So that is tried once, when the context is made.
    """

    def __init__(self, weights: Weights, most_rows: int, added: Vector) -> None:
        """Make room for batches of *most_rows* rows, those that fill gaps included.

        :param added: what llama.cpp adds to each row, of shape (dimension,)
        :raises ModelError: llama.cpp refuses, or shows texts what only fills gaps
        """
        super().__init__(weights, most_rows)
        self._added = added
        self._width = weights.dimension
        self._last = True
        if not self._hides():
            self._last = False
            if not self._hides():
                self.close()
                raise ModelError(
                    "this build of llama.cpp does not keep a batch's texts apart where positions"
                    " have gaps; use another build, or a model without [corpus]"
                )

    def compute(self, texts: Sequence[Placed]) -> list[Vectors]:
        """Compute one batch.

        :param texts: of rows that fit the room together, with what fills gaps
        :returns: for each text float32 of shape (its rows, dimension)
        :raises ModelError: the batch is too large, or it fails
        """
        return self._encode(texts, np.zeros(self._width, np.float32))

    def _encode(self, texts: Sequence[Placed], filling: Vector) -> list[Vectors]:
        own = sum(len(text) for text in texts)
        gaps = _gaps([text.positions for text in texts if len(text)])
        if not texts or min(map(len, texts)) == 0 or own + len(gaps) > self._most_tokens:
            raise ModelError(
                f"a batch of {len(texts)} texts, {own} rows and {len(gaps)} between them does not"
                f" fit a context of {self._most_tokens}"
            )
        if len(texts) > MOST_TOGETHER:
            raise ModelError(f"{len(texts)} texts; at most {MOST_TOGETHER} are computed at once")
        rows = np.concatenate(
            [*(text.rows for text in texts), np.tile(filling, (len(gaps), 1))]
        ).astype(np.float32)
        positions = np.concatenate([*(text.positions for text in texts), [*gaps]])
        lengths = [len(text) for text in texts]
        belongs = [[text] for text, length in enumerate(lengths) for _ in range(length)]
        belongs += [self._of_gap(those, len(texts)) for those in gaps.values()]
        # Positions of a text must not fall from row to row.
        order = np.argsort(positions, kind="stable")
        status = self._run(rows[order] - self._added, positions[order], [belongs[i] for i in order])
        if status != 0:
            raise ModelError(f"llama.cpp failed on a batch of {len(rows)} rows: status {status}")
        found = np.empty_like(rows)
        found[order] = self._rows([len(rows)], len(rows))[0]
        return np.split(found[:own], np.cumsum(lengths)[:-1])

    def _of_gap(self, texts: list[int], filler: int) -> list[int]:
        return [*texts, filler] if self._last else [filler, *texts]

    def _run(self, rows: Vectors, positions: Positions, belongs: list[list[int]]) -> int:
        rows = np.ascontiguousarray(rows)
        places = np.ascontiguousarray(positions, np.int32)
        counts = np.array([len(texts) for texts in belongs], np.int32)
        listed = np.concatenate(belongs).astype(np.int32)
        begins = np.cumsum(counts) - counts
        addresses = (listed.ctypes.data + 4 * begins).astype(np.uintp)
        batch = llama_cpp.llama_batch()
        batch.n_tokens = len(rows)
        batch.embd = pointer(rows, ctypes.c_float)
        batch.pos = pointer(places, ctypes.c_int32)
        batch.n_seq_id = pointer(counts, ctypes.c_int32)
        batch.seq_id = pointer(addresses, ctypes.POINTER(ctypes.c_int32))
        batch.logits = pointer(self._wanted, ctypes.c_int8)
        return int(llama_cpp.llama_encode(self._context, batch))

    def _hides(self) -> bool:
        """Whether texts are the same whatever fills their gaps."""
        drawn = np.random.default_rng(1).normal(size=(3, self._width)).astype(np.float32)
        text = Placed(drawn[:2], np.array([0, 2], np.int32))
        for count in range(1, MOST_TOGETHER + 1):
            plain, other = (self._encode([text] * count, filling) for filling in drawn[1:])
            if not np.array_equal(plain, other):
                return False
        return True


def _gaps(positions: Sequence[Positions]) -> dict[int, list[int]]:
    """The positions that texts lack between their first and their last, each with these texts."""
    found: dict[int, list[int]] = {}
    for text, places in enumerate(positions):
        whole = range(int(places[0]), int(places[-1]))
        for position in sorted({*whole} - {*places.tolist()}):
            found.setdefault(position, []).append(text)
    return found
