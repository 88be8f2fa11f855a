"""BERT and nomic-bert by our own arithmetic, ``bert.c``: on CPUs faster than llama.cpp.

It computes what llama.cpp would, from the same GGUF: weights of 16 bits (what is stored in fewer
is widened), sums of 32. The difference to the reference is smaller, as GELU is exact here and
4-bit weights meet floats, not 8-bit activations.
"""

import ctypes
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from sqlembed.engine.llama import Shape
from sqlembed.engine.pooling import Vector, Vectors
from sqlembed.weights.gguf_tensors import F32, Contents, Floats, Tensor

LIBRARY = Path(__file__).with_name("libbert.so")


class Kind(NamedTuple):
    """How the tensors of an architecture are called."""

    query_key_value: tuple[str, ...]
    """Matrices, joined in this order; likewise the others."""
    up: tuple[str, ...]
    positions: str | None
    """The embeddings of positions; where there are none, queries and keys are turned."""
    biased: bool
    """Whether matrices have biases."""

    @property
    def matrices(self) -> tuple[str, ...]:
        """Those of a layer."""
        return (*self.query_key_value, "attn_output", *self.up, "ffn_down")


KINDS = {
    "bert": Kind(("attn_q", "attn_k", "attn_v"), ("ffn_up",), "position_embd.weight", True),
    "nomic-bert": Kind(("attn_qkv",), ("ffn_up", "ffn_gate"), None, False),
}
"""By architecture."""
WORDS, TYPES = "token_embd.weight", "token_types.weight"
NORM = ("token_embd_norm.weight", "token_embd_norm.bias")
NORMS = ("attn_output_norm", "layer_output_norm")
LABELS = "bert.classifier.output_labels"
NUMBERS = ("attention.head_count", "attention.layer_norm_epsilon", "context_length")
"""Keys ``ARCHITECTURE.*`` that are needed."""
TURNS = ("freq_base", "dimension_count")
"""Of the keys ``ARCHITECTURE.rope.*`` those whose meaning is known here."""
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
        *((name, _SIZE) for name in ("layers", "heads", "width", "inner", "half", "gated")),
        ("epsilon", ctypes.c_float),
        *((name, _POINTER) for name in ("scale", "shift", "layer", "turns")),
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
        _POINTER, ctypes.c_int, _POINTER, _POINTER, _POINTER, _SIZE, _SIZE, _POINTER, ctypes.c_int,
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
    architecture = architecture_of(contents)
    if architecture is None:
        return "it is no BERT"
    kind = KINDS[architecture]
    heads = int(numbers.get(f"{architecture}.attention.head_count", 0))
    if rank and HEAD[2] not in tensors:
        return f"it is a cross-encoder without {HEAD[2]}"
    parts = ("weight", "bias") if kind.biased else ("weight",)
    in_layer = {f"{name}.{part}" for name in kind.matrices for part in parts}
    in_layer |= {f"{name}.{part}" for name in NORMS for part in ("weight", "bias")}
    layers = range(int(numbers[f"{architecture}.block_count"]))
    wanted = {WORDS, TYPES, *NORM} | ({kind.positions} if kind.positions else set())
    wanted |= {f"blk.{layer}.{name}" for layer in layers for name in in_layer}
    strange = wanted ^ {name for name in tensors if name not in HEAD}
    if strange:
        return f"it differs from BERT in {min(strange)}"
    turned = f"{architecture}.rope."
    unknown = [k for k in numbers if k.startswith(turned) and k.removeprefix(turned) not in TURNS]
    if unknown:
        return f"it says {unknown[0]}"
    needed = [f"{architecture}.{key}" for key in NUMBERS]
    missing = [key for key in needed if key not in numbers]
    if kind.positions is None and f"{turned}freq_base" not in numbers:
        missing.append(f"{turned}freq_base")
    if missing:
        return f"it does not say {missing[0]}"
    width, inner = tensors[WORDS].shape[-1], tensors["blk.0.ffn_up.weight"].shape[0]
    for name, shape in _shapes(kind, len(layers), width, inner).items():
        if tensors[name].shape != shape:
            return f"{name} is of shape {tensors[name].shape}, and not {shape}"
    panel = 2 * lanes()
    if not heads or width % heads or width // heads % panel or inner % panel:
        return f"its sizes, {width}/{heads} and {inner}, are no multiples of {panel}"
    if numbers.get(f"{turned}dimension_count", width // heads) != width // heads:
        return "it turns parts of its heads only"
    return None


def _shapes(kind: Kind, layers: int, width: int, inner: int) -> dict[str, tuple[int, ...]]:
    """Those of all that C reads, which trusts them."""
    square, up, down = (width, width), (inner, width), (width, inner)
    matrices = {
        **dict.fromkeys(("attn_q", "attn_k", "attn_v", "attn_output"), square),
        "attn_qkv": (3 * width, width),
        **dict.fromkeys(("ffn_up", "ffn_gate"), up),
        "ffn_down": down,
    }
    found: dict[str, tuple[int, ...]] = dict.fromkeys(NORM, (width,))
    for layer in range(layers):
        for name in kind.matrices:
            found[f"blk.{layer}.{name}.weight"] = matrices[name]
            if kind.biased:
                found[f"blk.{layer}.{name}.bias"] = matrices[name][:1]
        for name in NORMS:
            found |= {f"blk.{layer}.{name}.{part}": (width,) for part in ("weight", "bias")}
    return found


def architecture_of(contents: Contents) -> str | None:
    """The architecture of a GGUF, if it is one of ``KINDS``."""
    for name in KINDS:
        if contents.numbers.get(f"{name}.block_count"):
            return name
    return None


def bytes_needed(contents: Contents, tokens: int) -> tuple[int, int]:
    """The memory that a GGUF's weights take, and that a context of so many *tokens* does."""
    tensors, kind = contents.tensors, KINDS[architecture_of(contents) or "bert"]
    weights = 0
    for name, tensor in tensors.items():
        if name.startswith("blk."):
            weights += int(np.prod(tensor.shape)) * (4 if tensor.kind == F32 else 2)
        elif name in (WORDS, TYPES, kind.positions):
            weights += tensor.rows.nbytes
    width = tensors[WORDS].shape[-1]
    inner = sum(tensors[f"blk.0.{name}.weight"].shape[0] for name in kind.up)
    return weights, tokens * (max(3 * width, inner) + 3 * width) * 4


class Bert:
    """A BERT's weights as ``bert.c`` wants them, shared by its contexts."""

    def __init__(self, contents: Contents, width: int | None = None) -> None:
        """Read the matrices of *contents*; ``reason_against`` found nothing.

        :param width: floats of a vector, where it is not to be the widest that there is
        """
        numbers, tensors = contents.numbers, contents.tensors
        architecture = architecture_of(contents)
        assert architecture is not None
        self._kind = KINDS[architecture]
        self._kept: list[npt.NDArray[Any]] = []
        self.words = tensors[WORDS]
        self.width: int = self.words.shape[-1]
        heads = int(numbers[f"{architecture}.attention.head_count"])
        self.places = int(numbers[f"{architecture}.context_length"])
        self.type: Vector = tensors[TYPES].some(slice(0, 1))[0]
        """The embedding of the segment that every token is in."""
        self.positions: Vectors | None = None
        """Of each position, with that segment's."""
        turns = None
        if self._kind.positions is not None:
            self.positions = tensors[self._kind.positions].floats() + self.type
        else:
            base = float(numbers[f"{architecture}.rope.freq_base"])
            turns = self._keep(_turns(self.places, self.width // heads, base))
        self.shape = Shape(self.width, int(numbers.get(LABELS, 1)), self.places)
        self.head = [tensors[name].floats() if name in tensors else None for name in HEAD]
        count = int(numbers[f"{architecture}.block_count"])
        half = tensors["blk.0.ffn_up.weight"].kind != F32
        self.lanes = width or lanes()
        self._pack = _packing(2 * self.lanes, half)
        self._layers = (_Layer * count)()
        for number, layer in enumerate(self._layers):
            self._read(layer, _of_layer(tensors, number))
        scale, shift = (self._keep(tensors[name].floats()) for name in NORM)
        self.c = _Bert(
            count,
            heads,
            self.width,
            tensors["blk.0.ffn_up.weight"].shape[0],
            half,
            len(self._kind.up) > 1,
            float(numbers[f"{architecture}.attention.layer_norm_epsilon"]),
            scale,
            shift,
            ctypes.addressof(self._layers),
            turns,
        )

    def _read(self, layer: _Layer, tensor: Callable[[str], Floats]) -> None:
        linears = {
            "query_key_value": self._kind.query_key_value,
            "output": ("attn_output",),
            "up": self._kind.up,
            "down": ("ffn_down",),
        }
        for field, names in linears.items():
            matrix = np.concatenate([tensor(f"{name}.weight") for name in names])
            bias = np.zeros(len(matrix), np.float32)
            if self._kind.biased:
                bias = np.concatenate([tensor(f"{name}.bias") for name in names])
            setattr(layer, field, self._keep(self._pack(matrix)))
            setattr(layer, f"{field}_bias", self._keep(bias))
        for prefix, name in zip(("attention_", ""), NORMS, strict=True):
            setattr(layer, f"{prefix}scale", self._keep(tensor(f"{name}.weight")))
            setattr(layer, f"{prefix}shift", self._keep(tensor(f"{name}.bias")))

    def _keep(self, array: npt.NDArray[Any]) -> int:
        whole = np.ascontiguousarray(array)
        self._kept.append(whole)
        return whole.ctypes.data


def _of_layer(tensors: Mapping[str, Tensor], number: int) -> Callable[[str], Floats]:
    return lambda name: tensors[f"blk.{number}.{name}"].floats()


def _turns(places: int, size: int, base: float) -> Floats:
    """For each place the cosines and sines by which the pairs of a head's floats are turned.

    Of shape (places, size). RoFormer: https://arxiv.org/abs/2104.09864, section 3.4.2.
    """
    by = base ** (-np.arange(0, size, 2) / size)
    angles = np.arange(places)[:, None] * by
    return np.concatenate([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def _packing(panel: int, half: bool) -> Callable[[Floats], npt.NDArray[Any]]:
    """How matrices are laid out: in panels of so many outputs, for each input in turn."""
    kind = np.float16 if half else np.float32

    def pack(matrix: Floats) -> npt.NDArray[Any]:
        outputs, inputs = matrix.shape
        panels = matrix.reshape(outputs // panel, panel, inputs).transpose(0, 2, 1)
        return np.ascontiguousarray(panels, dtype=kind)

    return pack
