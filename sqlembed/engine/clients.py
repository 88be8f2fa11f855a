"""Who asks: whether whoever waits for a request's answer is still there.

A service thread sets ``gone`` for its client; in a process of one's own nobody does.
"""

from collections.abc import Callable
from contextvars import ContextVar


def never() -> bool:
    """Nobody who waits has gone away."""
    return False


gone: ContextVar[Callable[[], bool]] = ContextVar("gone", default=never)
"""Asked from the threads that compute, before a text is: it has to be quick, and not to block.
The caller's value counts, taken when a request is handed in."""
