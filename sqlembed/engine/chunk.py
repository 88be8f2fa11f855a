"""Cut a text that is longer than the model reads into chunks that fit, at natural boundaries."""

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass

Count = Callable[[Sequence[str]], list[int]]
"""Tokens of each text, everything included that the model adds."""

WORD = re.compile(r"\S+\s*|\s+")
SENTENCE_END = re.compile("[.!?\u2026\u3002\uff01\uff1f]['\"\u201d\u2019)\\]]*\\s+$")
"""A full stop, ellipsis or mark (wide ones too), closing quotes or brackets, white space."""
PARAGRAPH_END = re.compile(r"\n\s*\n\s*$|\n\s*\n$")
JOINERS = "\u200d\ufe0e\ufe0f"
"""Zero-width joiner and variation selectors: they belong to the character before."""
LONGEST_CLUSTER = 32
"""Characters that are kept together at most; real text has far fewer."""


@dataclass(frozen=True)
class Chunk:
    """A part of a text: ``text == whole[start:stop]``, in characters."""

    text: str
    start: int
    stop: int


def chunk(text: str, most_tokens: int, count: Count) -> list[Chunk]:
    """Cut *text* into consecutive chunks of at most *most_tokens* tokens each.

    A text that fits is one chunk. Otherwise each chunk takes as many words as fit,
    then ends at the last paragraph, else sentence, in its second half, if there is one.

    :returns: at least one chunk; together they are the whole text
    """
    if count([text])[0] <= most_tokens:
        return [Chunk(text, 0, len(text))]
    words = [part for word in WORD.findall(text) for part in _fitting(word, most_tokens, count)]
    added = count([""])[0]
    costs = [max(1, tokens - added) for tokens in count(words)]
    chunks: list[Chunk] = []
    position = 0
    while position < len(words):
        stop = _reach(costs, position, most_tokens - added)
        if stop < len(words):
            stop = _natural(words, position, stop)
        start = chunks[-1].stop if chunks else 0
        part = "".join(words[position:stop])
        while count([part])[0] > most_tokens and stop > position + 1:
            stop -= 1
            part = "".join(words[position:stop])
        chunks.append(Chunk(part, start, start + len(part)))
        position = stop
    return chunks


def _fitting(word: str, most_tokens: int, count: Count) -> list[str]:
    """*word* itself, or pieces of it that fit."""
    if len(word) <= most_tokens // 8 or count([word])[0] <= most_tokens:
        return [word]
    middle = len(word) // 2
    longest = min(len(word) - 1, middle + LONGEST_CLUSTER)
    whole = next((n for n in range(middle, longest) if not _continues(word[n])), middle)
    if whole in (0, len(word)):
        return [word]
    return [
        *_fitting(word[:whole], most_tokens, count),
        *_fitting(word[whole:], most_tokens, count),
    ]


def _continues(character: str) -> bool:
    return character in JOINERS or unicodedata.combining(character) > 0


def _reach(costs: list[int], start: int, most: int) -> int:
    """The end of the longest run of words from *start* that fits; at least one word."""
    spent = 0
    for position in range(start, len(costs)):
        spent += costs[position]
        if spent > most:
            return max(position, start + 1)
    return len(costs)


def _natural(words: list[str], start: int, stop: int) -> int:
    """The last paragraph's or sentence's end in the second half of the run, else *stop*."""
    for boundary in (PARAGRAPH_END, SENTENCE_END):
        for position in range(stop, start + (stop - start) // 2, -1):
            if boundary.search(words[position - 1]):
                return position
    return stop
