"""A go-between of clients and a service that cuts a connection after so many bytes."""

import selectors
import socket
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import Self


class Proxy:
    """Passes everything on, until *answers* bytes came from the service, or *requests* to it."""

    def __init__(self, path: Path, service: Path) -> None:
        """Listen at *path*, for the service at *service*."""
        self._service = str(service)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(64)
        self.answers: int | None = None
        self.requests: int | None = None
        self.once = False
        """Whether only the next connection is cut."""
        self.passed = [0, 0]
        """How many bytes the last connection has passed to the service, and to the client."""

    def __enter__(self) -> Self:
        """Go between."""
        Thread(target=self._run, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        """Take no more connections."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def cut(
        self, answers: int | None = None, requests: int | None = None, *, once: bool = False
    ) -> None:
        """Cut connections from now on; those that are open stay as they are."""
        self.answers, self.requests, self.once = answers, requests, once

    def _run(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                service = socket.socket(socket.AF_UNIX)
                service.connect(self._service)
                limits = self.requests, self.answers
                if self.once:
                    self.requests = self.answers = None
                self.passed = passed = [0, 0]
                Thread(target=between, args=(client, service, limits, passed), daemon=True).start()


def between(
    client: socket.socket,
    service: socket.socket,
    limits: tuple[int | None, int | None],
    passed: list[int],
) -> None:
    """Pass bytes to and fro until one side ends or a limit is reached; then close both."""
    ends = {client: (service, 0), service: (client, 1)}
    with client, service, selectors.DefaultSelector() as ready, suppress(OSError):
        for end in ends:
            ready.register(end, selectors.EVENT_READ)
        while all(
            limit is None or limit > so_far for limit, so_far in zip(limits, passed, strict=True)
        ):
            for key, _ in ready.select():
                source: socket.socket = key.fileobj  # type: ignore[assignment]
                target, way = ends[source]
                limit = limits[way]
                part = source.recv(1 << 16 if limit is None else limit - passed[way])
                if not part:
                    return
                passed[way] += len(part)
                target.sendall(part)
