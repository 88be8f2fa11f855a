"""What stands in the way of a database or an index: said once in words, and tried again later."""

from random import uniform
from time import monotonic

FIRST_SECONDS, LONGEST_SECONDS = 1.0, 60.0
"""Before the next try: twice as long each time."""
BUSY_FIRST, BUSY_LONGEST = 0.02, 1.0
"""The same, where another program has locked the database."""
PATIENCE_SECONDS = 10.0
"""How long a lock is waited for without a word."""
JITTER = 0.75, 1.25
"""Two who wait shall not meet again and again."""


class Trouble:
    """None at first."""

    def __init__(self) -> None:
        """See none."""
        self.words: str | None = None
        self.until = 0.0
        """When it is tried again, by time.monotonic()."""
        self.busy = False
        """Whether a lock is waited for."""
        self._tries = 0
        self._since = 0.0

    def waits(self) -> bool:
        """Whether it is too early to try again."""
        return monotonic() < self.until

    def met(self, words: str) -> bool:
        """Try again later; whether these *words* are new."""
        if self.busy:
            self.over()
        self._delay(FIRST_SECONDS, LONGEST_SECONDS)
        new, self.words = words != self.words, words
        return new

    def met_lock(self, words: str) -> bool:
        """Try again soon; whether it is time to say *words*."""
        if not self.busy:
            self.over()
            self.busy, self._since = True, monotonic()
        self._delay(BUSY_FIRST, BUSY_LONGEST)
        if self.words is not None or monotonic() - self._since < PATIENCE_SECONDS:
            return False
        self.words = words
        return True

    def over(self) -> bool:
        """Forget it; whether it had been said."""
        said = self.words is not None
        self.words, self.busy, self._tries, self.until = None, False, 0, 0.0
        return said

    def _delay(self, first: float, longest: float) -> None:
        delay = min(longest, first * 2 ** min(self._tries, 16))
        self._tries += 1
        self.until = monotonic() + delay * uniform(*JITTER)
