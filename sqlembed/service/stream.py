"""Whole frames over a socket, to and fro."""

import os
import select
import socket
from time import perf_counter

from sqlembed.service.frames import HEADER, payload_bytes

SPIN_SECONDS = 60e-6
RECEIVED_BYTES = 64 << 10


class Stream:
    """A connected socket, read frame by frame; for one reading thread."""

    def __init__(self, connection: socket.socket, *, eager: bool = False) -> None:
        """Use *connection*, whose timeouts stay as they are.

        :param eager: whether more is likely to come within microseconds; it has no timeout then
        """
        self.socket = connection
        self._eager = eager
        self._received = b""

    def send(self, data: bytes) -> None:
        """Send a whole frame, or several."""
        self.socket.sendall(data)

    def receive(self) -> tuple[int, bytes]:
        """The next frame: its type and its payload.

        After a timeout what came of a frame is kept, and the next call goes on with it.

        :raises EOFError: the other side closed the connection
        :raises FrameError: what came is no frame
        """
        while len(self._received) < HEADER.size:
            self._received += self._more(RECEIVED_BYTES)
        length, kind = HEADER.unpack_from(self._received)
        end = HEADER.size + payload_bytes(length)
        if len(self._received) < end:
            self._fill(end)
        payload = self._received[HEADER.size : end]
        self._received = self._received[end:]
        return kind, payload

    @property
    def pending(self) -> bool:
        """Whether bytes have come that nobody has read yet."""
        return bool(self._received)

    def _fill(self, end: int) -> None:
        gathered = bytearray(self._received)
        try:
            while len(gathered) < end:
                gathered += self._more(max(RECEIVED_BYTES, min(end - len(gathered), 1 << 20)))
        finally:
            self._received = bytes(gathered)

    def _more(self, size: int) -> bytes:
        data = self._soon(size) if self._eager else self.socket.recv(size)
        if not data:
            raise EOFError
        return data

    def _soon(self, size: int) -> bytes:
        """Look for it a while, since waking a thread that sleeps takes longer; others may run."""
        until = perf_counter() + SPIN_SECONDS
        while perf_counter() < until:
            try:
                return self.socket.recv(size, socket.MSG_DONTWAIT)
            except BlockingIOError:
                os.sched_yield()
        return self.socket.recv(size)


def gone(connection: socket.socket) -> bool:
    """Whether the other side has closed the connection; waits for nothing."""
    readable = select.poll()
    try:
        # Not MSG_DONTWAIT alone: a socket with a timeout waits that long before it tries.
        readable.register(connection, select.POLLIN)
        return bool(readable.poll(0)) and connection.recv(1, socket.MSG_PEEK) == b""
    except (OSError, ValueError):  # ours is closed
        return True
