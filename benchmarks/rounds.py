"""Measure sides in turn, so that a machine that drifts drifts for all of them."""

import time
from collections.abc import Callable, Mapping, Sequence
from statistics import median

from report import tell

Measured = dict[str, list[float]]


def in_turn(sides: Mapping[str, Callable[[], float]], rounds: int) -> Measured:
    """Call every side once a round, forwards and backwards by turns.

    :returns: for each side what its calls returned, a value a round
    """
    measured: Measured = {name: [] for name in sides}
    for round_ in range(rounds):
        for name in list(sides)[:: -1 if round_ % 2 else 1]:
            value = sides[name]()
            measured[name].append(value)
            tell(f"round {round_ + 1} of {rounds}: {name}: {value:,.4g}")
    return measured


def ratio(above: Sequence[float], below: Sequence[float]) -> float:
    """The median of the rounds' ratios."""
    return median(a / b for a, b in zip(above, below, strict=True))


def seconds(work: Callable[[], object]) -> float:
    """How long *work* takes."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun
