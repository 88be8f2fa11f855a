"""``sqlembed work``: store what waits in many databases, in the background."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import click

from sqlembed import settings
from sqlembed.cli.progress import Bars
from sqlembed.cli.when import when_option
from sqlembed.cli.working import open_as_usual, service_process
from sqlembed.doors import apsw_door
from sqlembed.engine import clients
from sqlembed.worker.conditions import WAITING, condition
from sqlembed.worker.loop import Worker
from sqlembed.worker.report import At, Report
from sqlembed.worker.stop import Stop

HARDER_SECONDS = 1.5
"""How long the batch that runs may take after a signal; what takes longer is interrupted."""
SIGNALS = signal.SIGINT, signal.SIGTERM


@click.command("work")
@click.argument("databases", metavar="DB...", nargs=-1, required=True)
@when_option
@click.option("--once", is_flag=True, help="End when nothing is left to be done now.")
@click.pass_context
def verb(ctx: click.Context, databases: tuple[str, ...], when: str, once: bool) -> None:
    """One process for any number of databases. The service computes if one runs.

    It takes a page of each index in turn, and looks for new rows every two seconds or more often.
    Several may work on one database: they share what waits. What cannot be done (a file that is
    missing or locked, a model that is not installed) is said once and tried again; all
    else goes on meanwhile.

    --when charging: a machine without a battery counts as charging, and so does one that cannot
    tell. --when idle: other programs have used less than a fifth of the cores for ten
    seconds, until they use more than two fifths; where the system does not tell, it counts as
    idle. Memory is not looked at. Both are checked between two pages.

    SIGINT (Ctrl-C) and SIGTERM end it with the batch that runs, mostly within two seconds, with
    exit code 0, and what it was working on is free for others; a second signal ends it at once.
    With --once the exit code is 1 if anything failed, or could not be done.
    """
    stop = Stop()
    ctx.call_on_close(stop.close)
    terminal = sys.stdout.isatty() and sys.stderr.isatty()
    chosen = condition(when, service_process)
    with Bars() as bars, _signals(stop):
        report = BarReport(bars, when) if terminal else LineReport(when)
        clients.gone.set(stop.asked)  # the batch that runs is the last
        worker = Worker(databases, open_as_usual, stop, report, chosen)
        try:
            well = worker.run(once=once, rest=_forget_models)
        except KeyboardInterrupt:  # what was interrupted has given back what it had
            well = True
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            _end_engine()
    if once and not well and not stop.asked():
        ctx.exit(1)


class LineReport(Report):
    """Lines: what was done on stdout, what is wrong on stderr."""

    def __init__(self, when: str) -> None:
        """Tell of rows that wait for *when*."""
        super().__init__(click.echo, _warn, WAITING.get(when, ""))


class BarReport(LineReport):
    """The same with a bar for each index where more waits than a page."""

    def __init__(self, bars: Bars, when: str) -> None:
        """Draw with *bars*."""
        super().__init__(when)
        self._bars = bars
        self._done: dict[At, int] = {}

    def advanced(self, at: At, rows: int, seconds: float, waiting: int) -> None:
        """Move its bar."""
        super().advanced(at, rows, seconds, waiting)
        done = self._done[at] = self._done.get(at, 0) + rows
        if waiting:
            self._bars.update(str(at), done, done + waiting)

    def drained(self, at: At) -> None:
        """Take its bar away."""
        self._bars.remove(str(at))
        self._done.pop(at, None)
        super().drained(at)


def _warn(words: str) -> None:
    click.echo(f"sqlembed: {' '.join(words.split())}", err=True)


@contextmanager
def _signals(stop: Stop) -> Iterator[None]:
    """Have the first signal ask for a stop, and see to it; the second ends the process."""

    def asked(number: int, _: FrameType | None) -> None:
        if stop.asked():
            os._exit(128 + number)
        stop.ask()
        signal.setitimer(signal.ITIMER_REAL, HARDER_SECONDS)

    def harder(*_: object) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, asked) for number in SIGNALS}
    before[signal.SIGALRM] = signal.signal(signal.SIGALRM, harder)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _forget_models() -> None:
    """Unload what this process has not used for long."""
    engine = apsw_door.made_engine()
    if engine is not None:
        engine.expire(settings.keep_alive())


def _end_engine() -> None:
    engine = apsw_door.made_engine()
    if engine is not None:
        engine.close()
