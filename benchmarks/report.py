"""What a benchmark reports: lines in tables, printed, kept as JSON, and written as Markdown."""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median

from rich import box
from rich.console import Console
from rich.table import Table as Grid

WIDE = 130
"""Columns where there is no terminal to ask."""
console = Console(highlight=False, width=None if sys.stdout.isatty() else WIDE)


@dataclass(frozen=True)
class Line:
    """One side of a comparison."""

    what: str
    value: float
    """The median over the rounds."""
    low: float
    high: float
    ratio: float | None = None
    """The median of the rounds' ratios; the table says of what to what."""
    goal: str = ""
    """What the ratio or the value is to reach."""
    detail: str = ""

    @classmethod
    def of(
        cls,
        what: str,
        values: Sequence[float],
        ratio: float | None = None,
        goal: str = "",
        detail: str = "",
    ) -> "Line":
        """The line of a side that was measured several times."""
        return cls(what, median(values), min(values), max(values), ratio, goal, detail)


@dataclass(frozen=True)
class Table:
    """Sides that were measured in turn, in one process or in several."""

    title: str
    unit: str
    ratio: str
    """What the ratios divide."""
    lines: list[Line]
    notes: list[str] = field(default_factory=list)


def main(measure: Callable[[bool], list[Table]]) -> None:
    """Run one benchmark as a program: ``--quick`` for a smoke run, ``--json FILE`` to keep it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="few rows, two rounds")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    arguments = parser.parse_args()
    tables = measure(arguments.quick)
    for table in tables:
        show(table)
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(table) for table in tables]))


def load(path: Path) -> list[Table]:
    """The tables that a benchmark kept."""
    return [from_json(each) for each in json.loads(path.read_text())]


def from_json(kept: dict[str, object]) -> Table:
    """A table out of its JSON."""
    lines: list[dict[str, object]] = kept["lines"]  # type: ignore[assignment]
    return Table(**{**kept, "lines": [Line(**line) for line in lines]})  # type: ignore[arg-type]


def tell(what: str) -> None:
    """Say what is being done."""
    console.print(f"[dim]{what}[/dim]", soft_wrap=True)


def show(table: Table) -> None:
    """Print *table*."""
    grid = Grid(box=box.SIMPLE_HEAD, title=table.title, title_justify="left", title_style="bold")
    for name in ("", table.unit, "rounds", table.ratio, "goal", ""):
        grid.add_column(name, justify="right" if name in (table.unit, table.ratio) else "left")
    for line in table.lines:
        spread = f"{number(line.low)} to {number(line.high)}"
        grid.add_row(line.what, number(line.value), spread, times(line), line.goal, line.detail)
    console.print(grid)
    for note in table.notes:
        tell(note)


def markdown(runs: Sequence[Table]) -> str:
    """One table out of several runs of it, their figures side by side."""
    newest = runs[-1]
    rows = [
        f"| {newest.title} | {newest.unit} | {newest.ratio} | goal | |",
        "|---|---|---|---|---|",
    ]
    for line in newest.lines:
        found = [each for run in runs for each in run.lines if each.what == line.what]
        values = " / ".join(number(each.value) for each in found)
        ratios = " / ".join(times(each) for each in found if each.ratio is not None)
        detail = " / ".join(dict.fromkeys(each.detail for each in found))
        rows.append(f"| {line.what} | {values} | {ratios} | {line.goal} | {detail} |")
    return "\n".join(rows + [f"\n{note}" for note in newest.notes])


def number(value: float) -> str:
    """*value* in three digits, as people write it."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def times(line: Line) -> str:
    """The ratio of *line*."""
    return "" if line.ratio is None else number(line.ratio)
