"""llama.cpp through its low-level API: the one file that imports ``llama_cpp``.

Weights and contexts here know token ids and arrays, nothing of prompts or SQL.
"""

import ctypes
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import llama_cpp
import numpy as np
import numpy.typing as npt

from sqlembed.engine.pooling import Vectors
from sqlembed.errors import ModelError, ModelFileError

TokenIds = npt.NDArray[np.int32]

MOST_TEXTS = 128
"""Texts in one batch; llama.cpp takes at most 256 sequences a context."""

WARNING_LEVEL = 3
"""``GGML_LOG_LEVEL_WARN`` of ggml.h, which the binding does not export."""
LAST_WORDS = 5
_said: list[str] = []


@llama_cpp.llama_log_callback  # type: ignore[untyped-decorator]
def _listen(level: int, message: bytes, _data: ctypes.c_void_p) -> None:
    if level >= WARNING_LEVEL:
        _said.append(message.decode("utf-8", "replace").strip())
        del _said[:-LAST_WORDS]


llama_cpp.llama_log_set(_listen, ctypes.c_void_p(0))
llama_cpp.llama_backend_init()


_loaded = False
_forked = False


def _after_fork() -> None:
    global _forked
    _forked = _loaded


os.register_at_fork(after_in_child=_after_fork)


def refuse_after_fork() -> None:
    """Refuse to compute where it would wait for ever.

    :raises ModelError: a model had been loaded before this process was forked, and
        the threads of OpenMP, which no fork carries over, stayed in the parent
    """
    if _forked:
        raise ModelError(
            "this process was forked from one that had loaded a model, and the threads that compute"
            " stayed there; fork before the first embed(), or start processes by spawn"
        )


def kernels() -> str:
    """What llama.cpp was built to use here, as it says itself (``AVX2 = 1 | ...``)."""
    return str(llama_cpp.llama_print_system_info().decode())


def on_gpu() -> bool:
    """Whether llama.cpp was built to compute on something faster than the processor."""
    return bool(llama_cpp.llama_supports_gpu_offload())


class Shape(NamedTuple):
    """The sizes of a model."""

    dimension: int
    labels: int
    """Outputs of a cross-encoder's head."""
    positions: int
    """Tokens that it can read at most."""


class Weights:
    """A GGUF file in memory, shared by its contexts."""

    def __init__(self, path: Path, shape: Shape | None = None) -> None:
        """Map *path*; the caller has checked that it is the file it should be.

        :param shape: given where somebody else computes: then only the vocabulary is read
        :raises ModelFileError: llama.cpp cannot read it
        """
        global _loaded
        refuse_after_fork()
        _loaded = True
        _said.clear()
        parameters = llama_cpp.llama_model_default_params()
        parameters.vocab_only = shape is not None
        self._model = llama_cpp.llama_model_load_from_file(str(path).encode(), parameters)
        if not self._model:
            raise ModelFileError(
                f"llama.cpp cannot load {path}: {' / '.join(_said) or 'no reason'}"
            )
        self.dimension, self.labels, self.positions = shape or Shape(
            llama_cpp.llama_model_n_embd(self._model),
            llama_cpp.llama_model_n_cls_out(self._model),
            llama_cpp.llama_model_n_ctx_train(self._model),
        )
        self._vocabulary = llama_cpp.llama_model_get_vocab(self._model)
        self.tokens: int = llama_cpp.llama_vocab_n_tokens(self._vocabulary)

    def metadata(self, key: str) -> str | None:
        """The value of a metadata key, as text; None where the file has no such key."""
        size = llama_cpp.llama_model_meta_val_str(self._model, key.encode(), None, 0)
        if size < 0:
            return None
        buffer = ctypes.create_string_buffer(size + 1)
        llama_cpp.llama_model_meta_val_str(self._model, key.encode(), buffer, size + 1)
        return buffer.value.decode("utf-8", "replace")

    def token(self, text: str) -> int | None:
        """The id of the one token that *text* is, special ones included; None if it is none."""
        ids = self.tokenize(text, bare=True)
        return int(ids[0]) if len(ids) == 1 else None

    def tokenize(self, text: str, *, bare: bool = False) -> TokenIds:
        """llama.cpp's own tokens of *text*, with the start and end tokens it adds.

        :param bare: without these, and special tokens that *text* spells are read as such
        """
        data = text.encode("utf-8", "replace")
        room = len(data) + 8
        ids = np.empty(room, dtype=np.int32)
        pointer = ids.ctypes.data_as(ctypes.POINTER(ctypes.c_int32))
        count = llama_cpp.llama_tokenize(
            self._vocabulary, data, len(data), pointer, room, not bare, bare
        )
        if count < 0:
            raise ModelError(f"llama.cpp cannot tokenize a text of {len(data)} bytes")
        return ids[:count]

    def close(self) -> None:
        """Give the memory back; no context of these weights may be used afterwards."""
        llama_cpp.llama_model_free(self._model)


class Context:
    """Room to compute one batch at a time; not for two threads at once."""

    def __init__(
        self,
        weights: Weights,
        most_tokens: int,
        *,
        causal: bool = False,
        rank: bool = False,
        words: Sequence[int] = (),
    ) -> None:
        """Make room for batches of *most_tokens* tokens.

        :param causal: whether a token sees only those before it
        :param rank: give the classifier's labels per text in place of vectors per token
        :param words: give the logits of these tokens, after a text's last one, likewise
        :raises ModelError: llama.cpp refuses, most often for want of memory
        """
        pooling = llama_cpp.LLAMA_POOLING_TYPE_RANK if rank else llama_cpp.LLAMA_POOLING_TYPE_NONE
        parameters = llama_cpp.llama_context_default_params()
        parameters.n_ctx = parameters.n_batch = parameters.n_ubatch = most_tokens
        parameters.n_seq_max = MOST_TEXTS
        parameters.n_threads = parameters.n_threads_batch = 1
        parameters.embeddings = not words
        if words:
            parameters.n_outputs_max = MOST_TEXTS
        parameters.pooling_type = pooling
        parameters.attention_type = (
            llama_cpp.LLAMA_ATTENTION_TYPE_CAUSAL
            if causal
            else llama_cpp.LLAMA_ATTENTION_TYPE_NON_CAUSAL
        )
        # Without it attention is computed over the whole batch and then masked:
        # packing costs more than it saves.
        parameters.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_ENABLED
        parameters.kv_unified = True
        if most_tokens < 2 * MOST_TEXTS:  # llama.cpp asserts room for every text's outputs
            raise ModelError(f"a context needs room for {2 * MOST_TEXTS} tokens, not {most_tokens}")
        _said.clear()
        self._context = llama_cpp.llama_init_from_model(weights._model, parameters)
        if not self._context:
            raise ModelError(
                f"llama.cpp cannot make room for {most_tokens} tokens: {' / '.join(_said)}"
            )
        self._weights = weights
        self._rank = rank
        self._words = list(words)
        self._most_tokens = most_tokens
        # Decoders keep keys and values there. Their graph reads it also where nothing came before,
        # and crashes in `llama_encode`, which has none; encoders have no other.
        self._memory = llama_cpp.llama_get_memory(self._context)
        if causal and not self._memory:
            self.close()
            raise ModelError(
                "llama.cpp computes this architecture with bidirectional attention only, and its"
                " manifest says causal"
            )
        self._allocate(most_tokens)

    def _allocate(self, room: int) -> None:
        self._ids = np.zeros(room, dtype=np.int32)
        self._positions = np.zeros(room, dtype=np.int32)
        self._texts = np.zeros(room, dtype=np.int32)
        ones = np.ones(room, dtype=np.int32)
        wanted = np.ones(room, dtype=np.int8)
        addresses = self._texts.ctypes.data + np.arange(room, dtype=np.uintp) * 4
        self._wanted = wanted
        self._kept = (ones, addresses)  # llama.cpp reads them through the batch
        batch = llama_cpp.llama_batch()
        batch.token = pointer(self._ids, ctypes.c_int32)
        batch.pos = pointer(self._positions, ctypes.c_int32)
        batch.n_seq_id = pointer(ones, ctypes.c_int32)
        batch.seq_id = pointer(addresses, ctypes.POINTER(ctypes.c_int32))
        batch.logits = pointer(wanted, ctypes.c_int8)
        self._batch = batch

    def use_threads(self, count: int) -> None:
        """Compute the next batches with *count* threads."""
        llama_cpp.llama_set_n_threads(self._context, count, count)

    def encode(self, texts: Sequence[TokenIds]) -> list[Vectors]:
        """Compute one batch.

        :param texts: token ids of each text, together within the room made
        :returns: for each text float32 of shape (its tokens, dimension), or with
            *rank* of shape (1, labels), or with *words* of shape (1, words)
        :raises ModelError: an id is out of range, the batch is too large, or it fails
        """
        lengths = [len(text) for text in texts]
        total = sum(lengths)
        # llama.cpp asserts these, and a failed assertion would kill the host.
        if not texts or min(lengths) == 0 or total > self._most_tokens or len(texts) > MOST_TEXTS:
            raise ModelError(
                f"a batch of {len(texts)} texts and {total} tokens does not fit a context"
                f" of {MOST_TEXTS} texts and {self._most_tokens} tokens"
            )
        ids = np.concatenate(texts)
        if int(ids.min()) < 0 or int(ids.max()) >= self._weights.tokens:
            raise ModelError(f"a token id is outside the vocabulary of {self._weights.tokens}")
        self._ids[:total] = ids
        self._positions[:total] = np.concatenate([np.arange(n, dtype=np.int32) for n in lengths])
        self._texts[:total] = np.repeat(np.arange(len(texts), dtype=np.int32), lengths)
        self._batch.n_tokens = total
        ends = np.cumsum(lengths)
        if self._words:
            self._wanted[:total] = 0
            self._wanted[ends - 1] = 1
        status = self._compute()
        if status != 0:
            raise ModelError(f"llama.cpp failed on a batch of {total} tokens: status {status}")
        if self._words:
            return [self._logits(int(end) - 1) for end in ends]
        return self._ranks(len(texts)) if self._rank else self._rows(lengths, total)

    def _compute(self) -> int:
        if not self._memory:
            return int(llama_cpp.llama_encode(self._context, self._batch))
        # What the last batch left is of other texts with the same numbers.
        llama_cpp.llama_memory_clear(self._memory, False)
        return int(llama_cpp.llama_decode(self._context, self._batch))

    def _logits(self, position: int) -> Vectors:
        address = llama_cpp.llama_get_logits_ith(self._context, position)
        logits = np.ctypeslib.as_array(address, (self._weights.tokens,))
        return logits[self._words].reshape(1, -1)

    def _rows(self, lengths: list[int], total: int) -> list[Vectors]:
        address = llama_cpp.llama_get_embeddings(self._context)
        rows = np.ctypeslib.as_array(address, (total, self._weights.dimension)).copy()
        return np.split(rows, np.cumsum(lengths)[:-1])

    def _ranks(self, count: int) -> list[Vectors]:
        labels = self._weights.labels
        return [
            np.ctypeslib.as_array(
                llama_cpp.llama_get_embeddings_seq(self._context, text), (1, labels)
            ).copy()
            for text in range(count)
        ]

    def close(self) -> None:
        """Give the memory back."""
        llama_cpp.llama_free(self._context)


def pointer(array: npt.NDArray[Any], kind: Any) -> Any:
    """The address of an array's first element, as ctypes has it."""
    return ctypes.cast(array.ctypes.data, ctypes.POINTER(kind))
