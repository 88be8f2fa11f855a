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
    TaskID,
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
        self._progress = _progress(console, *columns)
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


class Bars:
    """A bar for each of several backlogs, which come and go."""

    def __init__(self, console: Console | None = None) -> None:
        """Draw nothing yet."""
        self._progress = _progress(console, MofNCompleteColumn(), RateColumn())
        self._tasks: dict[str, TaskID] = {}

    def update(self, what: str, done: int, total: int) -> None:
        """Say how far *what* is; its bar is drawn from now on."""
        if what not in self._tasks:
            self._tasks[what] = self._progress.add_task(what, total=total)
            self._progress.start()
        self._progress.update(self._tasks[what], completed=done, total=total)

    def remove(self, what: str) -> None:
        """Take the bar of *what* away."""
        task = self._tasks.pop(what, None)
        if task is not None:
            self._progress.remove_task(task)
            if not self._tasks:
                self._progress.stop()

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(self, *_: object) -> None:
        """Take all bars away."""
        self._progress.stop()


def _progress(console: Console | None, *columns: ProgressColumn) -> Progress:
    chosen = console or Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        *columns,
        TimeRemainingColumn(compact=True),
        console=chosen,
        transient=True,
        disable=not chosen.is_terminal,
    )


def rows_bar() -> Bar:
    """A bar that counts rows."""
    return Bar(MofNCompleteColumn(), RateColumn())


def bytes_bar() -> Bar:
    """A bar that counts bytes."""
    return Bar(DownloadColumn(), TransferSpeedColumn())
