"""A few words of a chunk around those that a query asked for, which are put in brackets."""

import re
from collections.abc import Iterable

WORDS = 16
"""Words of a snippet, about."""
WORD = re.compile(r"\S+")
SPACE = re.compile(r"\s+")


def snippet(text: str, marks: Iterable[tuple[int, int]]) -> str:
    """The part of *text* with most of *marks*, each in brackets; its beginning if there are none.

    :param marks: spans, in characters, in their order
    """
    marks = _apart(marks)
    words = [match.span() for match in WORD.finditer(text)]
    hits = [n for n, (start, stop) in enumerate(words) if _meets(start, stop, marks)]
    first = 0
    if hits and len(words) > WORDS:
        counts = {at: sum(at <= hit < at + WORDS for hit in hits) for at in hits}
        best = max(counts, key=lambda at: (counts[at], -at))
        first = max(0, min(best - WORDS // 4, len(words) - WORDS))
    shown = words[first : first + WORDS]
    if not shown:
        return ""
    before = "… " if first else ""
    after = " …" if first + WORDS < len(words) else ""
    return f"{before}{_marked(text, shown[0][0], shown[-1][1], marks)}{after}"


def _apart(marks: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """*marks*, those that overlap as one."""
    found: list[tuple[int, int]] = []
    for start, stop in marks:
        if found and start < found[-1][1]:
            found[-1] = (found[-1][0], max(stop, found[-1][1]))
        else:
            found.append((start, stop))
    return found


def _meets(start: int, stop: int, marks: Iterable[tuple[int, int]]) -> bool:
    return any(begun < stop and start < ended for begun, ended in marks)


def _marked(text: str, start: int, stop: int, marks: Iterable[tuple[int, int]]) -> str:
    """The text from *start* to *stop*, with brackets, and one space for any white space."""
    shown, at = "", start
    for begun, ended in marks:
        begun, ended = max(begun, start), min(ended, stop)
        if begun < ended:
            shown += f"{text[at:begun]}[{text[begun:ended]}]"
            at = ended
    return SPACE.sub(" ", shown + text[at:stop])
