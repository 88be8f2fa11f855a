"""How many tokens a batch should have: llama.cpp's packed loop alone, a context a core."""

from collections.abc import Callable
from functools import partial

import report
import texts
from packed import Loop
from report import Line, Table
from rounds import in_turn, ratio, seconds

from sqlembed import settings

SIZES = (64, 128, 256, 512)
REFERENCE = 256
"""What sqlembed's engine packs (``sqlembed/engine/pack.py``)."""


def measure(quick: bool) -> list[Table]:
    """Rows a second by tokens a batch."""
    rows, rounds = (96, 2) if quick else (1024, 5)
    gguf, chosen = texts.model(), texts.messages()[:rows]
    loops = {size: Loop(gguf, settings.threads(), 1, size) for size in SIZES}

    def rate(loop: Loop) -> float:
        return rows / seconds(partial(loop.embed, chosen))

    sides: dict[str, Callable[[], float]] = {
        f"{size} tokens": partial(rate, loop) for size, loop in loops.items()
    }
    measured = in_turn(sides, rounds)
    reference = measured[f"{REFERENCE} tokens"]
    lines = [Line.of(name, values, ratio(values, reference)) for name, values in measured.items()]
    note = f"{rows:,} SMS; a text longer than a batch gets one of its own."
    return [Table("Tokens a batch", "rows/s", f"times {REFERENCE} tokens", lines, [note])]


if __name__ == "__main__":
    report.main(measure)
