"""A progress bar on stderr, for work that takes longer than a second, where that is a terminal."""

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.text import Text

PATIENCE = 1.0
"""Seconds of work before the bar appears."""


class RateColumn(ProgressColumn):
    """Rows a second."""

    def render(self, task: Task) -> Text:
        """The rate, once there is one."""
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.0f} rows/s")


class Bar:
    """What is being done, how far it is, how fast, and the time left."""

    def __init__(self, *columns: ProgressColumn, console: Console | None = None) -> None:
        """Show *columns* after the bar; nothing is drawn yet."""
        chosen = console or Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            *columns,
            TimeRemainingColumn(compact=True),
            console=chosen,
            transient=True,
            disable=not chosen.is_terminal,
        )
        self._begun = time.monotonic()
        self._drawn = False
        self._stage: str | None = None
        self._task = self._progress.add_task("")

    def update(self, stage: str, done: int, total: int) -> None:
        """Say how far it is; a *total* of 1 means that nobody knows."""
        measured = total if total > 1 else None
        if stage != self._stage:
            self._stage = stage
            self._progress.reset(self._task, total=measured, description=stage)
        self._progress.update(self._task, completed=done, total=measured)
        if not self._drawn and time.monotonic() - self._begun > PATIENCE:
            self._progress.start()
            self._drawn = True

    def __enter__(self) -> Self:
        """Begin to count the time."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Take the bar away."""
        self._progress.stop()


def rows_bar() -> Bar:
    """A bar that counts rows."""
    return Bar(MofNCompleteColumn(), RateColumn())


def bytes_bar() -> Bar:
    """A bar that counts bytes."""
    return Bar(DownloadColumn(), TransferSpeedColumn())
