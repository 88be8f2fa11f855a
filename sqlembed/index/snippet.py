"""A few words of a chunk around those that a query asked for, which are put in brackets."""

import re
from collections.abc import Sequence

WORDS = 16
"""Words of a snippet, about."""
WORD = re.compile(r"\S+")


def snippet(text: str, terms: Sequence[str]) -> str:
    """The part of *text* with most of *terms*, each in brackets; its beginning if it has none."""
    words = list(WORD.finditer(text))
    pattern = _any_of(terms)
    marked = [_mark(word.group(), pattern) for word in words]
    hits = [position for position, (_, hit) in enumerate(marked) if hit]
    first = 0
    if hits and len(words) > WORDS:
        counts = {at: sum(at <= hit < at + WORDS for hit in hits) for at in hits}
        best = max(counts, key=lambda at: (counts[at], -at))
        first = max(0, min(best - WORDS // 4, len(words) - WORDS))
    shown = " ".join(word for word, _ in marked[first : first + WORDS])
    before = "… " if first else ""
    after = " …" if first + WORDS < len(words) else ""
    return f"{before}{shown}{after}"


def _any_of(terms: Sequence[str]) -> re.Pattern[str]:
    longest_first = sorted(terms, key=len, reverse=True)
    choice = "|".join(map(re.escape, longest_first)) or r"(?!)"  # which matches nothing
    return re.compile(rf"(?<!\w)(?:{choice})(?!\w)", re.IGNORECASE)


def _mark(word: str, pattern: re.Pattern[str]) -> tuple[str, bool]:
    """*word* with brackets around a term that it has."""
    if found := pattern.search(word):
        return f"{word[: found.start()]}[{found.group()}]{word[found.end() :]}", True
    return word, False
