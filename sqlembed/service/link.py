"""The asking side's connection to the service: made when first used, kept, and made anew.

The loadable extension does the same in C (``sqlembed/extension/link.c`` and ``start.c``).
"""

import os
import socket
import subprocess
import sys
import weakref
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from time import sleep
from typing import TypeVar

from sqlembed import __version__, errors, settings
from sqlembed.errors import ServiceError
from sqlembed.functions.listing import digest
from sqlembed.service import frames
from sqlembed.service.address import check_path, peer
from sqlembed.service.frames import PROTOCOL, FrameError, Reader, Type
from sqlembed.service.stream import Stream, gone

Result = TypeVar("Result")

SLICE_SECONDS = 0.05
"""Between two looks for an interrupt while waiting."""
START_SECONDS = 30
START_COMMAND = (sys.executable, "-m", "sqlembed", "serve")
MOST_STARTS = 2
MOST_TRIES = 3


class EndedError(ServiceError):
    """The connection ended before an answer came; another may do better."""


class Link:
    """One database connection's link to the service; for one thread at a time."""

    def __init__(self, check_interrupt: Callable[[], None] = lambda: None) -> None:
        """Connect to nothing yet; *check_interrupt* raises if the host wants to wait no more."""
        self._check_interrupt = check_interrupt
        self._stream: Stream | None = None
        self._end: Callable[[], None] | None = None
        """Ends the connection: now, or by itself when nobody has this link any more."""
        self._process = 0
        self._patience = 0
        self._works = False
        """Whether the service has said that it works on the last request."""
        self.depth = 0
        """Plans whose statements are running now."""
        self.epoch = 0
        """Counts connections: neither a call nor an aggregate may span two."""
        self.down_until = 0.0
        """Until when what can be left off is not asked for, by time.monotonic()."""

    def ask(self, request: bytes, epoch: int | None = None) -> tuple[int, Reader]:
        """Send a request, and take the first frame of the answer.

        :param epoch: the only connection that knows what the request is about, if it is only one
        :raises ServiceError: the service cannot be had, or does not answer
        """
        tries, lost = 0, False
        while True:
            self.ready()
            if epoch is not None and epoch != self.epoch:
                raise ServiceError(
                    "sqlembed's service was started anew while an aggregate gathered values; run"
                    " the statement again"
                )
            tries += 1
            again = tries < MOST_TRIES and not self.depth and epoch is None
            try:
                self.send(request)  # where it ends meanwhile, it has not had the request
                # A service that was told to end may not have read it. It is sent twice at most:
                # it may be what kills every service that reads it.
                again, lost, self._works = again and not lost, True, False
                return self.receive()
            except EndedError:
                if not again or self._works:
                    raise

    def ready(self, *, start: bool = True) -> None:
        """Be connected; with *start* to a service that is started if there is none.

        :raises ServiceError: that cannot be
        """
        if self._stream is not None and self._process != os.getpid():
            self.close()  # the parent's, after a fork
        if self.depth:  # inside a statement of a plan, whose conversation is on this connection
            self._connected()
        elif self._stream is not None and (self._stream.pending or gone(self._stream.socket)):
            self.close()
        for starts in count():
            if self._stream is not None:
                return
            try:
                self._connect()
                self._greet()
            except (EndedError, FileNotFoundError, ConnectionRefusedError) as error:
                self.close()
                if not start or starts == MOST_STARTS:
                    raise ServiceError(
                        f"no sqlembed service answers at {settings.socket_path()}; its log may say"
                        f" why: {settings.log_path()}"
                    ) from error
                self._start()

    def send(self, data: bytes) -> None:
        """Send whole frames."""
        stream = self._connected()
        left = memoryview(data)
        while left:
            left = left[self._waiting(stream.socket.send, left) :]

    def receive(self) -> tuple[int, Reader]:
        """The next frame that is not just a sign of life."""
        stream = self._connected()
        while True:
            kind, payload = self._waiting(stream.receive)
            if kind != Type.WORKING:
                return kind, Reader(payload)
            self._works = True

    def close(self) -> None:
        """End the connection; the next call makes another."""
        if self._end is not None:
            self._end()
        self._stream = None

    def _connected(self) -> Stream:
        if self._stream is None:
            raise ServiceError("sqlembed's service ended; the next call starts it anew")
        return self._stream

    def _connect(self) -> None:
        path = settings.socket_path()
        check_path(path)
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._stream, self._process = Stream(connection), os.getpid()
        self._end = weakref.finalize(self, _end, connection, self._process)
        self._patience = settings.timeout()
        self.epoch += 1
        connection.settimeout(SLICE_SECONDS)
        try:
            self._reach(connection, str(path))
        except (FileNotFoundError, ConnectionRefusedError):
            raise
        except OSError as error:
            self.close()
            raise ServiceError(
                f"cannot connect to sqlembed's service at {path}: {error}"
            ) from error
        except BaseException:
            self.close()
            raise
        user = peer(connection)
        if user != os.geteuid():
            self.close()
            raise ServiceError(
                f"the service at {path} is run by user {user}, and this is user {os.geteuid()};"
                " set SQLEMBED_SOCKET to a path of your own"
            )

    def _reach(self, connection: socket.socket, path: str) -> None:
        for _ in range(int(self._patience / SLICE_SECONDS)):
            try:
                return connection.connect(path)
            except BlockingIOError:  # no more can wait there; this one has not waited either
                self._check_interrupt()
                sleep(SLICE_SECONDS)
        raise ServiceError(f"sqlembed's service at {path} takes no connection; is it stopped?")

    def _start(self) -> None:
        """Have the command start a service, and wait for its end."""
        started = subprocess.Popen(
            START_COMMAND,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        with started:
            try:
                words = self._said(started).decode("utf-8", "replace").strip()
            except BaseException:
                started.kill()  # what it has put in the background goes on
                raise
        if started.returncode:
            raise ServiceError(f"sqlembed's service cannot be started: {words}")

    def _said(self, started: "subprocess.Popen[bytes]") -> bytes:
        """What the command says until it ends."""
        for _ in range(int(START_SECONDS / SLICE_SECONDS)):
            try:
                return started.communicate(timeout=SLICE_SECONDS)[1]
            except subprocess.TimeoutExpired:
                self._check_interrupt()
        raise ServiceError(f"sqlembed's service has not started within {START_SECONDS} seconds")

    def _greet(self) -> None:
        wanted = [(name, os.environ.get(name, "")) for name in settings.SHARED]
        pairs = b"".join(frames.text(name) + frames.text(value) for name, value in wanted)
        head = frames.u16(PROTOCOL) + frames.text(__version__) + frames.text(digest())
        self.send(frames.frame(Type.HELLO, head, frames.u16(len(wanted)), pairs))
        kind, reader = self.receive()
        if kind == Type.WELCOME:
            return
        self.close()
        if kind == Type.ERROR:
            raise told(reader.text(), reader.text())
        raise ServiceError("what answers at sqlembed's socket is not its service")

    def _waiting(self, work: Callable[..., Result], *arguments: object) -> Result:
        """*work*, tried slice by slice until the service has given no sign of life for too long."""
        try:
            for _ in range(int(self._patience / SLICE_SECONDS)):
                try:
                    return work(*arguments)
                except TimeoutError:
                    self._check_interrupt()
            raise ServiceError(
                f"sqlembed's service has not stirred for {self._patience} seconds"
                " (SQLEMBED_TIMEOUT); is it stopped? To end it: sqlembed serve --stop"
            )
        except (OSError, EOFError) as error:
            self.close()
            raise EndedError(
                "sqlembed's service ended while it was asked; the next call starts it anew, and its"
                f" log says why: {settings.log_path()}"
            ) from error
        except FrameError as error:
            self.close()
            raise ServiceError(f"sqlembed's service sent what is no frame: {error}") from error
        except BaseException:
            self.close()  # what comes yet would be taken for the next call's answer
            raise


def _end(connection: socket.socket, process: int) -> None:
    if process == os.getpid():
        with suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)  # a fork may hold it too
    connection.close()


def told(kind: str, words: str) -> Exception:
    """The error of an ERROR frame, of the class that it has in the service."""
    return error(words) if (error := getattr(errors, kind, None)) else ServiceError(words)
