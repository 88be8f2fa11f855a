"""Draws what nearest.py measured, in the peers' environment: ``plots.py POINTS.json DIRECTORY``.

Imports nothing of sqlembed: that is not installed there.
"""

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.ticker import FuncFormatter, NullFormatter, NullLocator

OURS = "knn()"
WHOLE = 0.0004
"""Where a recall of 1 is drawn, by what it misses."""
MARKERS = "osD^vP<>X*"
COLOURS = plt.get_cmap("tab10").colors


def main(points_file: str, directory: str) -> None:
    """Draw latency.png and recall.png."""
    points: list[dict[str, Any]] = json.loads(Path(points_file).read_text())
    plt.rcParams.update({"font.size": 10, "axes.spines.top": False, "axes.spines.right": False})
    draw(points, "ms", "milliseconds a query, median", Path(directory) / "latency.png")
    draw(points, "missed", "recall", Path(directory) / "recall.png")


def draw(points: list[dict[str, Any]], value: str, label: str, file: Path) -> None:
    """One row of axes for each k, one column for each set of vectors."""
    ks, sets = ordered(p["k"] for p in points), ordered(p["set"] for p in points)
    sides = ordered(p["side"] for p in points)
    figure, every = plt.subplots(
        len(ks), len(sets), figsize=(10, 4 * len(ks)), sharey="row", squeeze=False
    )
    for row, k in zip(every, ks, strict=True):
        for axes, which in zip(row, sets, strict=True):
            for number, side in enumerate(sides):
                chosen = [p for p in points if (p["k"], p["set"], p["side"]) == (k, which, side)]
                axes.plot(
                    [p["rows"] for p in chosen],
                    [max(p[value], WHOLE) for p in chosen],
                    label=side,
                    color="black" if side == OURS else COLOURS[number % len(COLOURS)],
                    marker=MARKERS[number % len(MARKERS)],
                    markersize=6,
                    linewidth=3 if side == OURS else 1.3,
                    zorder=3 if side == OURS else 2,
                    alpha=0.9,
                )
            axes.set(xscale="log", yscale="log", title=f"{which}, k = {k}", xlabel="rows")
            rows = ordered(sorted(p["rows"] for p in points if p["set"] == which))
            axes.set_xticks(rows, [f"{n:,}" for n in rows], rotation=20)
            axes.xaxis.set_minor_locator(NullLocator())
            axes.margins(x=0.12)
            axes.grid(axis="y", which="major", alpha=0.3)
            if value == "missed":  # so that the last per cents can be told apart
                axes.set_yticks([0.3, 0.1, 0.03, 0.01, 0.003, 0.001, WHOLE])
                axes.yaxis.set_major_formatter(FuncFormatter(recall_of))
            else:
                axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
            axes.yaxis.set_minor_formatter(NullFormatter())
        row[0].set_ylabel(label)
        if value == "missed":
            row[0].invert_yaxis()
    handles, labels = every[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    figure.tight_layout()
    figure.savefig(file, dpi=110, bbox_inches="tight", metadata={"Software": None})
    plt.close(figure)


def recall_of(missed: float, _: int) -> str:
    """A recall by what it misses."""
    return "1" if missed <= WHOLE else f"{1 - missed:g}"


def ordered(values: Iterable[Any]) -> list[Any]:
    """Each once."""
    return list(dict.fromkeys(values))


if __name__ == "__main__":
    main(*sys.argv[1:])
