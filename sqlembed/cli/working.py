"""What ``sqlembed work`` and ``sqlembed serve`` share: how a worker opens a database."""

from collections.abc import Iterable, Sequence
from functools import partial
from logging import Logger
from threading import Thread

import apsw

from sqlembed import settings
from sqlembed.doors.apsw_door import connect
from sqlembed.engine import clients
from sqlembed.engine.interface import Engine
from sqlembed.errors import ServiceError
from sqlembed.service.daemon import Place
from sqlembed.service.link import Link
from sqlembed.worker.conditions import WAITING, condition
from sqlembed.worker.database import Opened
from sqlembed.worker.loop import Worker
from sqlembed.worker.report import Report
from sqlembed.worker.stop import Stop

END_SECONDS = 5.0
"""Less than a client of the service waits for a sign of life."""


def open_with(path: str, engine: Engine | str) -> Opened:
    """Open the database at *path* for a worker, which makes no file."""
    connection = connect(path, flags=apsw.SQLITE_OPEN_READWRITE, engine=engine)
    return Opened(connection, forwarded=engine == "service")


def open_as_usual(path: str) -> Opened:
    """The same with SQLEMBED_ENGINE, else the service if one runs, else this process."""
    engine = settings.engine(default="auto")
    return open_with(path, _who_runs() if engine == "auto" else engine)


class Background(Thread):
    """A worker beside a service, which computes with the service's engine."""

    def __init__(self, paths: Sequence[str], when: str, engine: Engine, log: Logger) -> None:
        """Work on *paths* from :meth:`start` to :meth:`end`."""
        super().__init__(name="sqlembed worker", daemon=True)
        self._stop_asked = Stop()
        self._log = log
        report = Report(log.info, log.warning, WAITING.get(when, ""))
        self._worker = Worker(
            paths, partial(open_with, engine=engine), self._stop_asked, report, condition(when)
        )

    def run(self) -> None:
        """Work; what is wrong with a database stands in the log."""
        clients.gone.set(self._stop_asked.asked)  # the batch that runs is the last
        try:
            self._worker.run()
        except Exception:
            self._log.exception("the worker failed")

    def end(self) -> None:
        """Stop, and wait until what was leased is given back, if that does not take too long."""
        self._stop_asked.ask()
        self.join(END_SECONDS)


def service_process() -> Iterable[int]:
    """The process of the service, if one runs."""
    place = Place(settings.socket_path())
    holder = place.holder() if place.held() else None
    return () if holder is None else (holder,)


def _who_runs() -> str:
    link = Link()
    try:
        link.ready(start=False)
    except ServiceError:
        return "local"
    link.close()
    return "service"
