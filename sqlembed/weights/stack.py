"""What stands after a model's transformer, as its manifest has it: dense heads and widths."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

from sqlembed.errors import ModelError

Activation = Literal["identity", "tanh"]
ACTIVATIONS: tuple[Activation, ...] = ("identity", "tanh")
RENAMED = {"in": "inputs", "out": "outputs"}
"""Keys that Python has other uses for, and ours."""


@dataclass(frozen=True)
class Dense:
    """A linear layer after pooling, as sentence-transformers keeps it in a directory of its own."""

    path: str
    """Its safetensors file in the original repository."""
    inputs: int
    """Floats that come in; ``in`` in a manifest."""
    outputs: int
    """Floats that go out; ``out`` in a manifest."""
    activation: Activation = "identity"
    bias: bool = False
    tensor: str = "linear"
    """What its weight and its bias are called there, before ``.weight`` and ``.bias``."""
    width: int | None = None
    """The one width that this head is for, where each has its own; None if it is for all."""

    @property
    def name(self) -> str:
        """By which it is known among a model's heads."""
        return f"{self.path}:{self.tensor}"

    def __post_init__(self) -> None:
        """Refuse what cannot be.

        :raises ModelError: a key has an impossible value
        """
        if self.activation not in ACTIVATIONS:
            raise ModelError(
                f"[[dense]] activation is {' or '.join(ACTIVATIONS)}; got {self.activation!r}"
            )
        if not (_whole(self.inputs) and _whole(self.outputs)):
            raise ModelError(
                f"[[dense]] in and out are numbers from 1; got {self.inputs!r} and {self.outputs!r}"
            )
        if self.width not in (None, self.outputs):
            raise ModelError(
                f"[[dense]] width is what its head gives, {self.outputs}; got {self.width!r}"
            )


def dense(entry: dict[str, Any]) -> Dense:
    """Read an entry of ``[[dense]]``."""
    return Dense(**{RENAMED.get(key, key): value for key, value in entry.items()})


def check_heads(heads: Sequence[Dense], dimension: int) -> None:
    """See that *heads* take what the one before gives, and that the last gives *dimension*.

    :raises ModelError: they do not fit
    """
    for before, after in pairwise(heads):
        if before.outputs != after.inputs:
            raise ModelError(
                f"[[dense]] {after.path} takes {after.inputs} floats, and {before.path} before it"
                f" gives {before.outputs}"
            )
    if heads and heads[-1].outputs != dimension:
        raise ModelError(
            f"[[dense]] {heads[-1].path} gives {heads[-1].outputs} floats; dimension is {dimension}"
        )


def check_widths(widths: Sequence[int], dimension: int) -> None:
    """See that *widths* can be cut from vectors of *dimension*.

    :raises ModelError: one cannot
    """
    for width in widths:
        if not _whole(width) or width > dimension:
            raise ModelError(
                f"dimensions are widths from 1 to dimension, {dimension}; got {width!r}"
            )


def check_range(tokens: Sequence[int]) -> None:
    """See that *tokens* are a least and a most length of texts.

    :raises ModelError: they are not
    """
    if len(tokens) != 2 or not all(isinstance(each, int) for each in tokens):
        raise ModelError(f"tokens are two whole numbers, such as [0, 256]; got {list(tokens)}")
    if not 0 <= tokens[0] < tokens[1]:
        raise ModelError(f"tokens are the least and the most of a text; got {list(tokens)}")


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1
