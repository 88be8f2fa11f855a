"""BERT by our own arithmetic, ``bert.c``: on CPUs it takes less time and memory than llama.cpp.

It computes what llama.cpp would, from the same GGUF: weights of 16 bits (what is stored in fewer
is widened), sums of 32. The difference to the reference is smaller, as GELU is exact here and
4-bit weights meet floats, not 8-bit activations.
"""

import ctypes
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sqlembed.engine.llama import MOST_TEXTS, Shape, TokenIds
from sqlembed.engine.pooling import Vectors
from sqlembed.errors import ModelError
from sqlembed.weights.gguf_tensors import F32, Contents, Floats, Tensor

LIBRARY = Path(__file__).with_name("libbert.so")
ARCHITECTURE = "bert"

EMBEDDINGS = ("token_embd.weight", "position_embd.weight", "token_types.weight")
NORM = ("token_embd_norm.weight", "token_embd_norm.bias")
MATRICES = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_up", "ffn_down")
NORMS = ("attn_output_norm", "layer_output_norm")
LABELS = "bert.classifier.output_labels"
HEAD = ("cls.weight", "cls.bias", "cls.output.weight", "cls.output.bias")
"""Of a cross-encoder: the pooler, then the classifier."""

_SIZE, _POINTER = ctypes.c_ssize_t, ctypes.c_void_p


class _Layer(ctypes.Structure):
    """``struct layer`` of bert.c."""

    _fields_ = [
        (name, _POINTER)
        for name in (
            "query_key_value", "output", "up", "down",
            "query_key_value_bias", "output_bias", "up_bias", "down_bias",
            "attention_scale", "attention_shift", "scale", "shift",
        )
    ]  # fmt: skip


class _Bert(ctypes.Structure):
    """``struct bert`` of bert.c."""

    _fields_ = [
        *((name, _SIZE) for name in ("layers", "heads", "width", "inner", "half")),
        ("epsilon", ctypes.c_float),
        *((name, _POINTER) for name in ("scale", "shift", "layer")),
    ]


@cache
def library() -> ctypes.CDLL | None:
    """What ``bert.c`` was compiled to; None where it was not, or for another machine."""
    try:
        found = ctypes.CDLL(str(LIBRARY))
    except OSError:
        return None
    found.sqlembed_bert_lanes.restype = ctypes.c_int
    found.sqlembed_bert_room.restype = _SIZE
    found.sqlembed_bert_room.argtypes = [_POINTER, _SIZE, _SIZE, ctypes.c_int]
    found.sqlembed_bert_encode.restype = None
    found.sqlembed_bert_encode.argtypes = [
        _POINTER, ctypes.c_int, _POINTER, _POINTER, _SIZE, _SIZE, _POINTER, ctypes.c_int,
    ]  # fmt: skip
    return found


def lanes() -> int:
    """Floats of a vector of this processor; 0 if our arithmetic cannot be used on it."""
    compiled = library()
    return int(compiled.sqlembed_bert_lanes()) if compiled else 0


def reason_against(contents: Contents, *, rank: bool = False) -> str | None:
    """Why a GGUF cannot be computed by ``bert.c`` on this machine; None if it can.

    :param rank: it is a cross-encoder
    """
    if not library():
        return "it was not compiled"
    if not lanes():
        return "the processor has neither AVX2 nor NEON"
    numbers, tensors = contents.numbers, contents.tensors
    layers = int(numbers.get("bert.block_count", 0))
    heads = int(numbers.get("bert.attention.head_count", 0))
    if not layers or not heads:
        return "it is no BERT"
    if rank and HEAD[2] not in tensors:
        return f"it is a cross-encoder without {HEAD[2]}"
    wanted = {*EMBEDDINGS, *NORM} | {
        f"blk.{layer}.{name}.{part}"
        for layer in range(layers)
        for name in (*MATRICES, *NORMS)
        for part in ("weight", "bias")
    }
    strange = wanted ^ {name for name in tensors if name not in HEAD}
    if strange:
        return f"it differs from BERT in {min(strange)}"
    width, inner = tensors[EMBEDDINGS[0]].shape[-1], tensors["blk.0.ffn_up.weight"].shape[0]
    panel = 2 * lanes()
    if width % heads or width // heads % panel or inner % panel:
        return f"its sizes, {width}/{heads} and {inner}, are no multiples of {panel}"
    return None


def bytes_needed(contents: Contents, tokens: int) -> tuple[int, int]:
    """The memory that a GGUF's weights take, and that a context of so many *tokens* does."""
    tensors = contents.tensors
    weights = sum(tensor.rows.nbytes for name, tensor in tensors.items() if name in EMBEDDINGS)
    for name, tensor in tensors.items():
        if name.startswith("blk."):
            weights += int(np.prod(tensor.shape)) * (4 if tensor.kind == F32 else 2)
    width, inner = tensors[EMBEDDINGS[0]].shape[-1], tensors["blk.0.ffn_up.weight"].shape[0]
    return weights, tokens * (max(3 * width, inner) + 3 * width) * 4


class Bert:
    """A BERT's weights as ``bert.c`` wants them, shared by its contexts."""

    def __init__(self, contents: Contents, width: int | None = None) -> None:
        """Read the matrices of *contents*; ``reason_against`` found nothing.

        :param width: floats of a vector, where it is not to be the widest that there is
        """
        numbers, tensors = contents.numbers, contents.tensors
        self._kept: list[npt.NDArray[Any]] = []
        self.words, positions, types = (tensors[name] for name in EMBEDDINGS)
        self.positions = positions.floats() + types.some(slice(0, 1))
        """Of each position, with the segment that every token is in."""
        self.width: int = self.words.shape[-1]
        self.shape = Shape(
            self.width, int(numbers.get(LABELS, 1)), int(numbers["bert.context_length"])
        )
        self.head = [tensors[name].floats() if name in tensors else None for name in HEAD]
        count = int(numbers["bert.block_count"])
        half = tensors["blk.0.ffn_up.weight"].kind != F32
        self.lanes = width or lanes()
        self._pack = _packing(2 * self.lanes, half)
        self._layers = (_Layer * count)()
        for number, layer in enumerate(self._layers):
            self._read(layer, _of_layer(tensors, number))
        scale, shift = (self._keep(tensors[name].floats()) for name in NORM)
        self.c = _Bert(
            count,
            int(numbers["bert.attention.head_count"]),
            self.width,
            tensors["blk.0.ffn_up.weight"].shape[0],
            half,
            float(numbers["bert.attention.layer_norm_epsilon"]),
            scale,
            shift,
            ctypes.addressof(self._layers),
        )

    def _read(self, layer: _Layer, tensor: Callable[[str], Floats]) -> None:
        def joined(part: str, *names: str) -> Floats:
            return np.concatenate([tensor(f"{name}.{part}") for name in names])

        linears = {
            "query_key_value": ("attn_q", "attn_k", "attn_v"),
            "output": ("attn_output",),
            "up": ("ffn_up",),
            "down": ("ffn_down",),
        }
        for field, names in linears.items():
            setattr(layer, field, self._keep(self._pack(joined("weight", *names))))
            setattr(layer, f"{field}_bias", self._keep(joined("bias", *names)))
        for prefix, name in zip(("attention_", ""), NORMS, strict=True):
            setattr(layer, f"{prefix}scale", self._keep(tensor(f"{name}.weight")))
            setattr(layer, f"{prefix}shift", self._keep(tensor(f"{name}.bias")))

    def _keep(self, array: npt.NDArray[Any]) -> int:
        whole = np.ascontiguousarray(array)
        self._kept.append(whole)
        return whole.ctypes.data


def _of_layer(tensors: Mapping[str, Tensor], number: int) -> Callable[[str], Floats]:
    return lambda name: tensors[f"blk.{number}.{name}"].floats()


def _packing(panel: int, half: bool) -> Callable[[Floats], npt.NDArray[Any]]:
    """How matrices are laid out: in panels of so many outputs, for each input in turn."""
    kind = np.float16 if half else np.float32

    def pack(matrix: Floats) -> npt.NDArray[Any]:
        outputs, inputs = matrix.shape
        panels = matrix.reshape(outputs // panel, panel, inputs).transpose(0, 2, 1)
        return np.ascontiguousarray(panels, dtype=kind)

    return pack


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
        lengths = np.array([len(text) for text in texts], np.int32)
        total = int(lengths.sum())
        bert, longest = self._bert, int(lengths.max(initial=0))
        if (
            not len(lengths)
            or not lengths.min()
            or total > self._most_tokens
            or len(texts) > MOST_TEXTS
            or longest > len(bert.positions)
        ):
            raise ModelError(
                f"a batch of {len(texts)} texts and {total} tokens, at most {longest} in a text,"
                f" does not fit a context of {MOST_TEXTS} texts and {self._most_tokens} tokens"
            )
        ids = np.concatenate(texts)
        if int(ids.min()) < 0 or int(ids.max()) >= len(bert.words.rows):
            raise ModelError(f"a token id is outside the vocabulary of {len(bert.words.rows)}")
        starts = np.zeros(len(texts) + 1, np.int32)
        np.cumsum(lengths, out=starts[1:])
        rows = np.ascontiguousarray(bert.words.some(ids))
        rows += bert.positions[np.arange(total) - np.repeat(starts[:-1], lengths)]
        self._compute(rows, starts, longest)
        if self._rank:
            return [row[np.newaxis] for row in self._labels(rows[starts[:-1]])]
        return np.split(rows, starts[1:-1])

    def _compute(self, rows: Vectors, starts: npt.NDArray[np.int32], longest: int) -> None:
        compiled, own = library(), ctypes.byref(self._bert.c)
        assert compiled is not None
        needed = compiled.sqlembed_bert_room(own, len(rows), longest, self._threads)
        if needed > len(self._room):
            self._room = np.empty(needed, np.float32)
        compiled.sqlembed_bert_encode(
            own, self._bert.lanes, rows.ctypes.data, starts.ctypes.data, len(starts) - 1, longest,
            self._room.ctypes.data, self._threads,
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
