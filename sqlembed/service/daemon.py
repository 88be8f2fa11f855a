"""One service a user: a lock, a socket, a log, and a process in the background."""

import fcntl
import logging
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import NoReturn

from sqlembed import __version__, settings
from sqlembed.errors import ServiceError
from sqlembed.service.address import prepare
from sqlembed.service.server import Server

START_SECONDS = 20.0
"""How long a start waits for a service that is starting or ending just now."""
STOP_SECONDS = 60.0
PAUSE_SECONDS = 0.05
WAITING_CLIENTS = 128
LOG_BYTES = 1 << 20
LOG_FILES = 3
SWITCH_SECONDS = 0.0005
"""How long one Python thread may hold up the others: packing must not delay a cached answer."""
READY, ANOTHER = "ready", "another serves"
"""What a service in the background tells of its start; all else is an error."""

log = logging.getLogger("sqlembed.service")

Serve = Callable[[socket.socket], Server]
"""Make the server; called once the socket listens."""


class Place:
    """The socket's path, held by a lock while a service serves there."""

    def __init__(self, path: Path) -> None:
        """Hold nothing yet."""
        self.path = path
        self._lock: int | None = None
        self._socket: tuple[int, int] | None = None

    def take(self) -> socket.socket | None:
        """Become the service here: a listening socket, or None if another one answers.

        :raises ServiceError: neither within ``START_SECONDS``, or the path cannot be used
        """
        prepare(self.path)
        limit = time.monotonic() + START_SECONDS
        while not self._locked():
            if answers(self.path):
                return None
            if time.monotonic() > limit:
                raise ServiceError(
                    f"another service holds {self.path}, and does not answer; end it:"
                    f" sqlembed serve --stop, or kill {self.holder() or 'it'}"
                )
            time.sleep(PAUSE_SECONDS)
        return self._listen()

    def leave(self) -> None:
        """Give the place free; whoever comes next starts a service of its own."""
        if self._lock is not None:
            with suppress(FileNotFoundError):
                if _identity(self.path) == self._socket:  # else another has taken the place
                    self.path.unlink()
            os.close(self._lock)
            self._lock = None

    def holder(self) -> int | None:
        """The process that holds the place, as the lock's file says."""
        with suppress(OSError, ValueError):
            return int(self._lock_path.read_text())
        return None

    def held(self) -> bool:
        """Whether a service holds the place."""
        try:
            file = os.open(self._lock_path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(file)
        return False

    @property
    def _lock_path(self) -> Path:
        return self.path.with_name(self.path.name + ".lock")

    def _locked(self) -> bool:
        file = os.open(self._lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Somebody may have removed the file, and another may hold a new one.
            there = self._lock_path.stat()
            if (there.st_dev, there.st_ino) != _identity(file):
                raise BlockingIOError
        except (BlockingIOError, FileNotFoundError):
            os.close(file)
            return False
        os.ftruncate(file, 0)
        os.write(file, str(os.getpid()).encode())
        self._lock = file
        return True

    def _listen(self) -> socket.socket:
        self.path.unlink(missing_ok=True)  # of a service that was killed: we hold the lock
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        before = os.umask(0o177)
        try:
            listener.bind(str(self.path))
        except OSError as error:
            raise ServiceError(f"sqlembed's socket cannot be at {self.path}: {error}") from error
        finally:
            os.umask(before)
        self._socket = _identity(self.path)
        listener.listen(WAITING_CLIENTS)
        return listener


def answers(path: Path) -> bool:
    """Whether a service takes connections at *path*."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        return probe.connect_ex(str(path)) == 0


def serve(place: Place, start: Serve, *, foreground: bool) -> bool:
    """Serve at *place* until the service ends; False if another one serves there already.

    In the background the caller's process returns as soon as the service answers.
    """
    if foreground:
        _log_to(logging.StreamHandler())
        return _serve(place, start, lambda _: None)
    heard, told = os.pipe()
    if os.fork():
        os.close(told)
        return _outcome(heard)
    os.close(heard)
    _become_daemon(place, start, told)


def stop(place: Place) -> bool:
    """End the service at *place* and wait for it; False if there is none.

    :raises ServiceError: it does not end
    """
    if not place.held():
        return False
    holder = place.holder()
    if holder is None:
        raise ServiceError(f"{place.path}.lock does not say which process serves")
    os.kill(holder, signal.SIGTERM)
    os.kill(holder, signal.SIGCONT)  # it may be stopped
    limit = time.monotonic() + STOP_SECONDS
    while place.held() and place.holder() == holder:
        if time.monotonic() > limit:
            raise ServiceError(
                f"the service, process {holder}, does not end; force it: kill -9 {holder}"
            )
        time.sleep(PAUSE_SECONDS)
    return True


def _serve(place: Place, start: Serve, tell: Callable[[str], None]) -> bool:
    listener = place.take()
    if listener is None:
        tell(ANOTHER)
        return False
    sys.setswitchinterval(SWITCH_SECONDS)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    try:
        server = start(listener)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: server.stop())
        log.info("sqlembed %s serves at %s, process %d", __version__, place.path, os.getpid())
        tell(READY)
        server.run()
    finally:
        place.leave()
    server.drain()
    log.info("ended")
    return True


def _become_daemon(place: Place, start: Serve, told: int) -> NoReturn:
    """Go on in the background, and tell the parent how that went."""
    code = 1
    try:
        os.setsid()
        path = settings.log_path()
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _log_to(RotatingFileHandler(path, maxBytes=LOG_BYTES, backupCount=LOG_FILES))
        _leave_files(path)

        def tell(words: str) -> None:
            with suppress(BrokenPipeError):  # who asked for it does not wait any more
                os.write(told, words.encode())
            os.close(told)

        _serve(place, start, tell)
        code = 0
    except BaseException as error:
        log.exception("the service failed")
        with suppress(OSError):
            os.write(told, f"{error}".encode())
    finally:
        logging.shutdown()
        # Not sys.exit: what the parent registered at exit is the parent's.
        os._exit(code)


def _leave_files(log_file: Path) -> None:
    """Standard output and error go to the log, as what a crash prints does; nothing is read."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    errors = os.open(log_file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    sys.stdout.flush()
    sys.stderr.flush()
    for here, there in ((nothing, 0), (errors, 1), (errors, 2)):
        os.dup2(here, there)


def _outcome(heard: int) -> bool:
    """What the child in the background says of its start."""
    with os.fdopen(heard, "rb") as pipe:
        words = pipe.read().decode("utf-8", "replace")
    if words not in (READY, ANOTHER):
        raise ServiceError(words or f"the service did not start; {settings.log_path()} says why")
    return words == READY


def _log_to(handler: logging.Handler) -> None:
    handler.setFormatter(logging.Formatter("%(asctime)s %(process)d %(levelname)s %(message)s"))
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False


def _identity(file: int | Path) -> tuple[int, int]:
    found = os.stat(file)
    return found.st_dev, found.st_ino
