"""The in-process layer in front of the cache: one dictionary look-up a text."""

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from sqlembed import settings

Value = TypeVar("Value")

ENTRY_OVERHEAD = 200
"""Bytes that a dictionary entry, its string and its bytes object cost besides their content."""


class Front(Generic[Value]):
    """Remember values by text, within a bound in bytes, forgetting the least recently used.

    Two generations take the place of a linked list: a hit costs one look-up and
    writes nothing; when the young generation holds half of the bound, it becomes
    the old one, and what nobody asked for since is dropped.
    """

    def __init__(
        self, most_bytes: int = settings.FRONT_BYTES, size: Callable[[Any], int] = len
    ) -> None:
        """Hold at most *most_bytes*, where *size* tells the bytes of a value."""
        self._young: dict[str, Value] = {}
        self._old: dict[str, Value] = {}
        self._size = size
        self._young_bytes = 0
        self._generation_bytes = most_bytes // 2
        self.hits = 0

    def get(self, text: str) -> Value | None:
        """The value remembered for *text*, or None."""
        value = self._young.get(text)
        if value is None:
            value = self._old.get(text)
            if value is None:
                return None
            self.put(text, value)
        self.hits += 1
        return value

    def put(self, text: str, value: Value) -> None:
        """Remember *value* for *text*."""
        self._young[text] = value
        self._young_bytes += len(text) + self._size(value) + ENTRY_OVERHEAD
        if self._young_bytes > self._generation_bytes:
            self._old, self._young, self._young_bytes = self._young, {}, 0

    def clear(self) -> None:
        """Forget everything."""
        self._young, self._old, self._young_bytes = {}, {}, 0
