"""The in-process layer in front of the cache: one dictionary look-up a text."""

from sqlembed import settings

ENTRY_OVERHEAD = 200
"""Bytes that a dictionary entry, its string and its bytes object cost besides their content."""


class Front:
    """Remember values by text, within a bound in bytes, forgetting the least recently used.

    Two generations take the place of a linked list: a hit costs one look-up and
    writes nothing; when the young generation holds half of the bound, it becomes
    the old one, and what nobody asked for since is dropped.
    """

    def __init__(self, most_bytes: int = settings.FRONT_BYTES) -> None:
        self._young: dict[str, bytes] = {}
        self._old: dict[str, bytes] = {}
        self._young_bytes = 0
        self._generation_bytes = most_bytes // 2
        self.hits = 0

    def get(self, text: str) -> bytes | None:
        """The value remembered for *text*, or None."""
        value = self._young.get(text)
        if value is None:
            value = self._old.get(text)
            if value is None:
                return None
            self.put(text, value)
        self.hits += 1
        return value

    def put(self, text: str, value: bytes) -> None:
        """Remember *value* for *text*."""
        self._young[text] = value
        self._young_bytes += len(text) + len(value) + ENTRY_OVERHEAD
        if self._young_bytes > self._generation_bytes:
            self._old, self._young, self._young_bytes = self._young, {}, 0

    def clear(self) -> None:
        """Forget everything."""
        self._young, self._old, self._young_bytes = {}, {}, 0
