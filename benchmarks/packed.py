"""The best loop over llama.cpp that we know, by hand: what sqlembed is measured against.

Texts sorted by length and packed into batches, flash attention, mean pooling inside
llama.cpp. Shares no code with sqlembed's engine.
"""

import ctypes
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import llama_cpp
import numpy as np
import numpy.typing as npt

MOST_TEXTS = 128
LONGEST = 256
"""Tokens of a text; the benchmarks' texts have fewer."""


@llama_cpp.llama_log_callback  # type: ignore[untyped-decorator]
def _silent(level: int, message: bytes, data: ctypes.c_void_p) -> None:
    """llama.cpp tells much on stderr."""


llama_cpp.llama_log_set(_silent, ctypes.c_void_p(0))


class Loop:
    """Contexts over one model, each with its threads."""

    def __init__(
        self, path: Path, contexts: int, threads: int, tokens: int = 256, texts: int = MOST_TEXTS
    ) -> None:
        """Make *contexts* of *threads* threads, which take batches of *tokens* and *texts*."""
        parameters = llama_cpp.llama_model_default_params()
        self._model = llama_cpp.llama_model_load_from_file(str(path).encode(), parameters)
        self._vocabulary = llama_cpp.llama_model_get_vocab(self._model)
        self._width = llama_cpp.llama_model_n_embd(self._model)
        self._tokens, self._texts = tokens, texts
        self._room = max(tokens, LONGEST)
        self._free: SimpleQueue[tuple[Any, Any]] = SimpleQueue()
        self._pool = ThreadPoolExecutor(contexts)
        for _ in range(contexts):
            self._free.put((self._context(threads), llama_cpp.llama_batch_init(self._room, 0, 1)))

    def embed(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Unit vectors of *texts*, of shape (n, dimension)."""
        ids = [self._tokenize(text) for text in texts]
        vectors = np.empty((len(texts), self._width), dtype=np.float32)

        def compute(batch: list[int]) -> None:
            slot = self._free.get()
            self._encode(*slot, [ids[position] for position in batch])
            for sequence, position in enumerate(batch):
                row = llama_cpp.llama_get_embeddings_seq(slot[0], sequence)
                vectors[position] = np.ctypeslib.as_array(row, (self._width,))
            self._free.put(slot)

        list(self._pool.map(compute, self._batches([len(each) for each in ids])))
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors

    def _context(self, threads: int) -> Any:
        parameters = llama_cpp.llama_context_default_params()
        parameters.n_ctx = parameters.n_batch = parameters.n_ubatch = self._room
        parameters.n_seq_max = MOST_TEXTS
        parameters.n_threads = parameters.n_threads_batch = threads
        parameters.embeddings = True
        parameters.pooling_type = llama_cpp.LLAMA_POOLING_TYPE_MEAN
        parameters.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_ENABLED
        parameters.kv_unified = True
        return llama_cpp.llama_init_from_model(self._model, parameters)

    def _tokenize(self, text: str) -> list[int]:
        data = text.encode()
        ids = (ctypes.c_int32 * (len(data) + 8))()
        count = llama_cpp.llama_tokenize(
            self._vocabulary, data, len(data), ids, len(ids), True, False
        )
        return ids[:count]

    def _batches(self, lengths: list[int]) -> list[list[int]]:
        batches: list[list[int]] = []
        room = 0
        for position in sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True):
            if not batches or room < lengths[position] or len(batches[-1]) == self._texts:
                batches.append([])
                room = self._tokens
            batches[-1].append(position)
            room -= lengths[position]
        return batches

    def _encode(self, context: Any, batch: Any, texts: list[list[int]]) -> None:
        at = 0
        for sequence, ids in enumerate(texts):
            for position, token in enumerate(ids):
                batch.token[at] = token
                batch.pos[at] = position
                batch.n_seq_id[at] = 1
                batch.seq_id[at][0] = sequence
                batch.logits[at] = 1
                at += 1
        batch.n_tokens = at
        if llama_cpp.llama_encode(context, batch) != 0:
            raise RuntimeError(f"llama.cpp failed on a batch of {at} tokens")
