"""Print rows: aligned columns on a terminal, lines with tabs elsewhere."""

from collections.abc import Mapping, Sequence

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text


def show(columns: Sequence[str], rows: Sequence[Mapping[str, object]]) -> None:
    """Print *columns* of *rows*, with their names first."""
    console = Console(highlight=False)
    if console.is_terminal:
        console.print(aligned(columns, rows))
        return
    for line in ([*columns], *([cell(row[name]) for name in columns] for row in rows)):
        click.echo("\t".join(line))


def aligned(columns: Sequence[str], rows: Sequence[Mapping[str, object]]) -> Table:
    """The rows in columns; what is too wide is cut to the console's width."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in columns:
        number = all(isinstance(row[name], int | float | None) for row in rows)
        table.add_column(
            name,
            justify="right" if number else "left",
            no_wrap=True,
            overflow="ellipsis",
            min_width=max(len(name), *(len(cell(row[name])) for row in rows)) if number else None,
        )
    for row in rows:
        table.add_row(*(Text(cell(row[name])) for name in columns))
    return table


def cell(value: object) -> str:
    """A value in one line; NULL shows as nothing."""
    if value is None:
        return ""
    return f"{value:.4f}" if isinstance(value, float) else " ".join(str(value).split())
