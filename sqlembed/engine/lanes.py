"""Share the machine between a query that somebody waits for and a backlog that nobody does."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Condition
from typing import Generic, TypeVar

Slot = TypeVar("Slot")


class Lanes(Generic[Slot]):
    """Lend slots, one each to a backlog's workers, or all at once to a single urgent batch.

    Urgent requests go first: while one waits, no backlog batch starts, so it waits
    for at most the batches that already run.
    """

    def __init__(self, slots: list[Slot]) -> None:
        self._free = list(slots)
        self._total = len(slots)
        self._urgent = 0
        self._changed = Condition()

    @contextmanager
    def one(self) -> Iterator[Slot]:
        """Borrow one slot, after every urgent request that waits."""
        with self._changed:
            self._changed.wait_for(lambda: self._free and not self._urgent)
            slot = self._free.pop()
        try:
            yield slot
        finally:
            with self._changed:
                self._free.append(slot)
                self._changed.notify_all()

    @contextmanager
    def all(self) -> Iterator[list[Slot]]:
        """Borrow every slot, as soon as those at work are back."""
        with self._changed:
            self._urgent += 1
            try:
                self._changed.wait_for(lambda: len(self._free) == self._total)
                slots, self._free = self._free, []
            finally:  # Ctrl-C while it waits must not hold the backlog for ever
                self._urgent -= 1
                self._changed.notify_all()
        try:
            yield slots
        finally:
            with self._changed:
                self._free = slots
                self._changed.notify_all()
