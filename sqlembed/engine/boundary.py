"""Where a text may be cut: after its words, better after sentences, best before Markdown headings.

A rank says how good a place is. Nothing here knows tokens.
"""

import re
import unicodedata
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

INSIDE, WORD, LINE, SENTENCE, PARAGRAPH, FENCE = range(6)
"""Ranks of a place, from inside a word to the edge of a fenced code block."""
HEADING = 12
"""The rank of a place before a heading, less its level (1 to 6)."""

WIDE_STOP = "\u3002\uff01\uff1f\uff61"
"""End a sentence in scripts that put no space after it."""
CLOSING = "'\"\u201d\u2019\u00bb)\\]\u300d\u300f\uff09"
UNIT = re.compile(rf"[^\s{WIDE_STOP}]*+[{WIDE_STOP}]+[{CLOSING}]*\s*|[^\s{WIDE_STOP}]++\s*|\s+")
"""A word, or a sentence of a script without spaces, with the white space after it."""
SENTENCE_END = re.compile(
    rf"[.!?\u2026\u061f\u06d4\u0964\u0965][{CLOSING}]*\s+$|[{WIDE_STOP}][{CLOSING}]*\s*$"
)
"""A full stop, ellipsis, mark or danda, closing quotes or brackets, white space."""
STRUCTURE = re.compile(
    r"^ {0,3}(?:(?P<fence>`{3,}+(?=[^`\n]*+$)|~{3,}+)[^\n]*+"
    r"|(?P<level>\#{1,6}+)(?![^\s])[^\n]*+)"
    r"|(?:\A|(?<=\n\n)|(?<=\n\r\n))(?=[ \t]*\S)[^\n]++\n {0,3}(?P<under>={3,}+|-{3,}+)[ \t\r]*$",
    re.MULTILINE,
)
"""The first line of a fenced code block, or a heading: with hashes, or underlined."""
CLOSING_FENCE = re.compile(r"^ {0,3}(`{3,}+|~{3,}+)[ \t\r]*$", re.MULTILINE)
REST_OF_LINE = re.compile(r"\s*\n|")
"""White space as far as a line begins again."""
EXTENDING = "\u200c\u200d\uff9e\uff9f"
"""Joiners and voicing marks, which belong to the character before though they are no marks."""
LONGEST_CLUSTER = 32
"""Code points that are one grapheme at most. Real ones have fewer; a longer one may be cut."""

PART = 256
"""Characters that graphemes are looked for in at once."""


class Unit(NamedTuple):
    """What is not cut: ``whole[start:stop]``, and the rank of a cut after it."""

    start: int
    stop: int
    rank: int


class Block(NamedTuple):
    """A fenced code block, or what stands between two, or between headings."""

    start: int
    stop: int
    rank: int
    """Of a cut after it."""
    fenced: bool = False
    title: bool = False
    """Whether it is a heading, which stays with what follows."""


def blocks(text: str) -> list[Block]:
    """*text* in blocks, without a gap."""
    found: list[Block] = []  # fences and headings, with the rank of a cut before each
    position = 0
    while match := STRUCTURE.search(text, position):
        fence, hashes, under = match["fence"], match["level"], match["under"]
        stop = _fence_end(text, match.end(), fence) if fence else match.end()
        after = REST_OF_LINE.match(text, stop)
        position = after.end() if after else stop
        level = len(hashes) if hashes else 1 if under and under[0] == "=" else 2
        rank = FENCE if fence else HEADING - level
        found.append(Block(match.start(), position, rank, fenced=bool(fence), title=not fence))
    return list(_without_gaps(found, len(text)))


def _without_gaps(found: list[Block], length: int) -> Iterator[Block]:
    edge = 0
    for block, following in pairwise([*found, Block(length, length, PARAGRAPH)]):
        if block.start > edge:
            yield Block(edge, block.start, block.rank)
        edge = block.stop
        after = following.rank if following.start == edge else FENCE
        yield block._replace(rank=LINE if block.title else after)
    if edge < length:
        yield Block(edge, length, PARAGRAPH)


def _fence_end(text: str, position: int, opening: str) -> int:
    """The end of the line that closes a fenced code block; without one, the text's end."""
    for match in CLOSING_FENCE.finditer(text, position):
        if match[1][0] == opening[0] and len(match[1]) >= len(opening):
            return match.end()
    return len(text)


def units(text: str, block: Block) -> list[Unit]:
    """The words of *block*, with the rank of a cut after each."""
    stops = [match.end() for match in UNIT.finditer(text, block.start, block.stop)]
    stops = [stop for stop in stops[:-1] if not _extends(text[stop])] + stops[-1:]
    found: list[Unit] = []
    start = block.start
    for stop in stops:
        rank = block.rank if stop == block.stop else _rank(text, start, stop, block)
        found.append(Unit(start, stop, rank))
        start = stop
    return found


def _rank(text: str, start: int, stop: int, block: Block) -> int:
    if block.title:
        return WORD
    unit = text[start:stop]
    lines = unit.count("\n", len(unit.rstrip()))
    if lines > 1:
        return PARAGRAPH
    if SENTENCE_END.search(unit) and not text[stop].islower():  # "e.g. this" goes on
        return SENTENCE
    return LINE if lines else WORD


def _extends(character: str) -> bool:
    """Whether *character*, first after white space, is one grapheme with it."""
    if character.isascii() or (character.isalnum() and character not in EXTENDING):
        return False
    return character in EXTENDING or unicodedata.category(character)[0] == "M"


def graphemes(text: str) -> list[int]:
    """Where each of *text*'s graphemes ends, one after another."""
    if text.isascii() and "\r" not in text:
        return list(range(1, len(text) + 1))
    import regex  # takes 60 ms, and few texts have a word that must be cut

    stops: list[int] = []
    position = 0
    # Part by part: in a run of flags regex counts from the run's beginning for each of them.
    while position < len(text):
        part = text[position : position + PART]
        found = [match.end() for match in regex.finditer(r"\X", part)]
        if len(found) > 1 and position + PART < len(text):
            found.pop()  # it may go on in the next part
        start = 0
        for stop in found:
            stops += range(position + start + LONGEST_CLUSTER, position + stop, LONGEST_CLUSTER)
            stops.append(position + stop)
            start = stop
        position += start
    return stops
