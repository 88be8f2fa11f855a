"""Print rows: aligned columns on a terminal, lines with tabs elsewhere."""

import shutil
import sys
from collections.abc import Mapping, Sequence

import click
from rich.cells import cell_len, set_cell_size
from rich.text import Text

GAP = "  "
NARROWEST = 16
"""Columns of the terminal that the last column gets, however wide the others are."""


def show(columns: Sequence[str], rows: Sequence[Mapping[str, object]]) -> None:
    """Print *columns* of *rows*, with their names first."""
    if sys.stdout.isatty():
        lines = aligned(columns, rows, shutil.get_terminal_size().columns)
    else:
        lines = ["\t".join(columns)]
        lines += ["\t".join(cell(row[name]) for name in columns) for row in rows]
    for line in lines:
        click.echo(line)


def aligned(columns: Sequence[str], rows: Sequence[Mapping[str, object]], width: int) -> list[str]:
    """Lines of *width* at most, numbers to the right; the last column is cut to fit."""
    lines = [[*columns], *([cell(row[name]) for name in columns] for row in rows)]
    numeric = [all(isinstance(row[name], int | float) for row in rows) for name in columns]
    wide = [max(cell_len(line[at]) for line in lines) for at in range(len(columns))]
    room = width - sum(wide[:-1]) - len(GAP) * (len(columns) - 1)
    wide[-1] = min(wide[-1], max(room, NARROWEST))
    return [GAP.join(map(_fitted, line, wide, numeric)).rstrip() for line in lines]


def cell(value: object) -> str:
    """A value in one line; NULL shows as nothing."""
    if value is None:
        return ""
    return f"{value:.4f}" if isinstance(value, float) else " ".join(str(value).split())


def _fitted(text: str, width: int, number: bool) -> str:
    if cell_len(text) > width:
        cut = Text(text)
        cut.truncate(width, overflow="ellipsis")
        return cut.plain
    return " " * (width - cell_len(text)) + text if number else set_cell_size(text, width)
