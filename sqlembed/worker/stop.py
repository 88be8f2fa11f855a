"""A stop that a signal's handler or another thread asks for, and that ends any sleep."""

import select
import socket
from contextlib import suppress


class Stop:
    """Asked for once. A handler may ask while its own thread waits, where an Event could lock."""

    def __init__(self) -> None:
        """Go on."""
        self._asked = False
        self._woken, self._wake = socket.socketpair()
        self._wake.setblocking(False)

    def ask(self) -> None:
        """Have everything end soon."""
        self._asked = True
        with suppress(BlockingIOError):  # so often asked that no more fits
            self._wake.send(b"x")

    def asked(self) -> bool:
        """Whether it is to end."""
        return self._asked

    def wait(self, seconds: float) -> None:
        """Sleep so long, or until it is asked."""
        select.select([self._woken], [], [], max(0.0, seconds))

    def close(self) -> None:
        """Give the sockets back."""
        self._woken.close()
        self._wake.close()
