"""All clients of the service: accepted, kept alive, counted, and ended with it."""

import logging
import os
import selectors
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Event, Lock, Thread
from time import monotonic

from sqlembed.engine.interface import Engine
from sqlembed.errors import SqlembedError
from sqlembed.service import frames
from sqlembed.service.address import peer
from sqlembed.service.conversation import Conversation

TICK_SECONDS = 1.0
"""Between two signs of life to clients that wait, and two looks at what has idled."""
DRAIN_SECONDS = 30.0
"""How long calls that run may go on once the service is asked to end."""
MOST_CLIENTS = 1000

log = logging.getLogger("sqlembed.service")


class Server:
    """Answers every client that connects to a listening socket, each on a thread of its own."""

    def __init__(
        self,
        listener: socket.socket,
        engine: Engine,
        idle: float | None,
        tick: Callable[[], None] = lambda: None,
        ended: Callable[[], None] = lambda: None,
    ) -> None:
        """Serve *engine* on *listener*.

        :param idle: seconds without a call after which it ends; None for never
        :param tick: called each second
        :param ended: called when no more clients are taken
        """
        self._listener = listener
        self._engine = engine
        self._idle = idle
        self._tick = tick
        self._ended = ended
        self._place = _identity(Path(listener.getsockname()))
        self._conversations: dict[Conversation, Thread] = {}
        self._lock = Lock()
        self._ending = Event()
        self._heard_at = monotonic()
        self._woken, self._wake = socket.socketpair()

    def run(self) -> None:
        """Serve until :meth:`stop`, or until nobody has asked for long enough."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._listener, selectors.EVENT_READ)
            selector.register(self._woken, selectors.EVENT_READ)
            due = monotonic() + TICK_SECONDS
            while not self._ending.is_set():
                for key, _ in selector.select(max(0.0, due - monotonic())):
                    if key.fileobj is self._listener:
                        self._accept()
                if monotonic() >= due:
                    due = monotonic() + TICK_SECONDS
                    self._look_around()

    def stop(self) -> None:
        """Have :meth:`run` return soon; from any thread, and from a signal's handler."""
        self._ending.set()
        self._wake.send(b"x")

    def drain(self, patience: float = DRAIN_SECONDS) -> None:
        """Take no more clients, let calls that run finish, then end every connection."""
        self._ending.set()
        self._listener.close()
        self._ended()
        limit = monotonic() + patience
        while self._busy() and monotonic() < limit:
            for each in self._everyone():
                each.show_life()
            Event().wait(TICK_SECONDS / 20)
        with self._lock:
            left = dict(self._conversations)
        for each, thread in left.items():
            each.end()
            thread.join(TICK_SECONDS)
        self._woken.close()
        self._wake.close()

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError as error:  # too many files, or the client gave up
            log.warning("a client could not be accepted: %s", error)
            return
        problem = self._refusal(connection)
        if problem:
            log.warning("a client was refused: %s", problem)
            words = frames.text("ServiceError") + frames.text(problem)
            connection.setblocking(False)
            with suppress(OSError):  # it does not listen
                connection.send(frames.frame(frames.Type.ERROR, words))
            connection.close()
            return
        conversation = Conversation(connection, self._engine, self._ending.is_set)
        thread = Thread(target=self._converse, args=(conversation,), daemon=True)
        with self._lock:
            self._conversations[conversation] = thread
        thread.start()

    def _refusal(self, connection: socket.socket) -> str | None:
        user = peer(connection)
        if user != os.geteuid():
            return f"this service is of user {os.geteuid()}, and the program of user {user}"
        if len(self._conversations) >= MOST_CLIENTS:
            return f"the service is busy: {MOST_CLIENTS} programs are connected; close some"
        return None

    def _converse(self, conversation: Conversation) -> None:
        try:
            conversation.run()
        except Exception:
            log.exception("a conversation failed")
        finally:
            with self._lock:
                self._conversations.pop(conversation)
                self._heard_at = max(self._heard_at, conversation.heard_at)

    def _look_around(self) -> None:
        for each in self._everyone():
            each.show_life()
        try:
            self._tick()
        except SqlembedError as error:
            log.warning("%s", error)
        place = _identity(Path(self._listener.getsockname()))
        if place is None or place != self._place:
            log.info("another took the place of the socket, or removed it")
            self._ending.set()
        elif self._idle is not None and not self._busy():
            heard_at = max([self._heard_at, *(each.heard_at for each in self._everyone())])
            if monotonic() - heard_at > self._idle:
                log.info("nobody asked for %g seconds", self._idle)
                self._ending.set()

    def _everyone(self) -> list[Conversation]:
        with self._lock:
            return list(self._conversations)

    def _busy(self) -> bool:
        return any(each.busy for each in self._everyone())


def _identity(path: Path) -> tuple[int, int] | None:
    """Which file is there; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
