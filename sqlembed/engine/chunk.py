"""Cut a text that is longer than the model reads into chunks that fit, at natural boundaries.

A chunk is filled with units (``boundary.py``) as far as they fit, and ends at the best boundary
in its later part, which is mostly where it would end had it begun elsewhere. So after an edit the
cuts soon are where they were, and the chunks behind it are the same texts, whose vectors are in
the cache: in Newton's Opticks an edit changed two chunks in the mean. To choose between equal
boundaries by a checksum of what is around them, as content-defined chunking does, was no better.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from sqlembed.engine.boundary import (
    FENCE,
    INSIDE,
    SENTENCE,
    WORD,
    Unit,
    blocks,
    graphemes,
    units,
)
from sqlembed.errors import OptionError

Count = Callable[[Sequence[str]], list[int]]
"""Tokens of each text, everything included that the model adds."""

LEAST_TOKENS = 8
"""The least that a chunk must have room for, beside what the model adds."""
DEFAULT_OVERLAP = 0.1
"""Of the size: one or two sentences, for a ninth more to compute and to store."""
CHARACTERS = 32
"""To a token, at most, before a text or word is cut without being counted: real ones have 2 to 6.
To WordPiece a word of more than 100 letters is one unknown token, a megabyte of them too."""
PIECE = 16
"""Graphemes of a word too long for a chunk that are kept together."""
SURELY = 0.8
"""Of a chunk: a word that takes less by itself fits in any place."""


@dataclass(frozen=True)
class Chunk:
    """A part of a text: ``text == whole[start:stop]``, in characters."""

    text: str
    start: int
    stop: int
    tokens: int
    """As the model counts them, what it adds included."""


@dataclass(frozen=True)
class Chunking:
    """How a text is cut; what is None is the default."""

    tokens: int | None = None
    """The most of a chunk, what the model adds included; the model's context, if not given."""
    overlap: int | None = None
    """The most that is repeated from the chunk before; a tenth of *tokens*, if not given."""

    def resolved(self, model: str, context: int, count: Count) -> tuple[int, int]:
        """The size and the overlap for a model that reads *context* tokens.

        :raises OptionError: they are not possible
        """
        tokens = context
        if self.tokens is not None:
            tokens, least = self.tokens, count([""])[0] + LEAST_TOKENS
            if not least <= tokens <= context:
                raise OptionError(
                    f"option tokens is a whole number from {least} to {context}, which {model}"
                    f" reads; got {tokens}"
                )
        overlap = int(tokens * DEFAULT_OVERLAP) if self.overlap is None else self.overlap
        if not 0 <= overlap < tokens / 2:
            raise OptionError(
                f"option overlap is a whole number from 0 to less than half of the {tokens} tokens"
                f" of a chunk; got {overlap}"
            )
        return tokens, overlap


AS_USUAL = Chunking()
WITHOUT_OVERLAP = Chunking(overlap=0)
"""Where every token is to be read once, as in ranking."""


def chunk(texts: Sequence[str], size: int, count: Count, overlap: int = 0) -> list[list[Chunk]]:
    """Cut each text into chunks of at most *size* tokens; what fits is one chunk.

    :param overlap: the most tokens of a chunk that repeat the end of the one before
    :returns: at least one chunk of each text; together they are the whole text
    """
    short = [text for text in dict.fromkeys(texts) if len(text) <= size * CHARACTERS]
    tokens = dict(zip(short, count(short) if short else [], strict=True))
    return [
        [Chunk(text, 0, len(text), tokens[text])]
        if tokens.get(text, size + 1) <= size
        else list(_Cutter(text, size, count, overlap).chunks())
        for text in texts
    ]


class _Cutter:
    """One text, in units, while it is cut. A position is a number of units."""

    def __init__(self, text: str, most_tokens: int, count: Count, overlap: int) -> None:
        self._text = text
        self._most = most_tokens
        self._count = count
        self._overlap = overlap
        self._added = count([""])[0]
        self._room = max(1, most_tokens - self._added)
        self._known: dict[str, int] = {}
        self._found = self._units()
        self._spent = list(accumulate(self._costs(self._found), initial=0))

    def chunks(self) -> Iterator[Chunk]:
        """The chunks in their order."""
        start = stop = 0
        while stop < len(self._found):
            start, stop, part = self._next(start, stop)
            yield part
            start = self._overlap_start(start, stop)

    def _next(self, start: int, done: int) -> tuple[int, int, Chunk]:
        """The chunk from *start*, of which the units before *done* are repeated ones."""
        room = self._room
        while True:
            # What is repeated gives way to the next unit.
            start = max(start, min(done, self._first_within(done + 1, room)))
            stop = self._stop(start, done, room)
            first, last = self._place(start), self._place(stop)
            part = self._text[first:last]
            (tokens,) = self._count([part])
            if tokens <= self._most or (start == done and stop == done + 1):
                return start, stop, Chunk(part, first, last, tokens)
            room = min(room, self._spent[stop] - self._spent[start]) - (tokens - self._most)

    def _stop(self, start: int, done: int, room: int) -> int:
        """Where the chunk from *start* ends: at the best boundary in its later part."""
        end = self._spent[start] + room
        reach = max(bisect_right(self._spent, end) - 1, done + 1)
        if reach == len(self._found):
            return reach
        new = end - self._spent[done]
        for least, filled in ((FENCE + 1, 1 / 4), (INSIDE, 1 / 2)):  # headings, then the others
            first = max(done + 1, bisect_left(self._spent, self._spent[done] + new * filled))
            best = max(range(reach, first - 1, -1), key=self._rank, default=reach)
            if self._rank(best) >= least:
                return best
        return reach

    def _overlap_start(self, start: int, stop: int) -> int:
        """Where the next chunk begins if this one is from *start* to *stop*."""
        if self._rank(stop) > FENCE:  # a heading: something new begins
            return stop
        first = max(start + 1, self._first_within(stop, self._overlap))
        while (begin := self._natural_start(first, stop)) < stop:
            (tokens,) = self._count([self._text[self._place(begin) : self._place(stop)]])
            if tokens - self._added <= self._overlap:  # together, they may take more
                break
            first = begin + 1
        return begin

    def _natural_start(self, first: int, stop: int) -> int:
        """The best place from *first* on for what is repeated before *stop*."""
        for rank in (SENTENCE, WORD):
            for n in range(first, stop):
                if self._rank(n) >= rank:
                    return n
        return first if self._rank(stop) == INSIDE else stop

    def _first_within(self, stop: int, room: float) -> int:
        """The first position from which to *stop* it is *room* at most."""
        return bisect_left(self._spent, self._spent[stop] - room)

    def _rank(self, position: int) -> int:
        return self._found[position - 1].rank if position else INSIDE

    def _place(self, position: int) -> int:
        return self._found[position - 1].stop if position else 0

    def _units(self) -> list[Unit]:
        """What is not cut: words, and fenced blocks that fit."""
        found = blocks(self._text)
        fenced = [Unit(block.start, block.stop, block.rank) for block in found if block.fenced]
        too_long = self._too_long(fenced)
        whole = {unit.start: unit for unit in fenced if unit not in too_long}
        words: list[Unit] = []
        for block in found:
            unit = whole.get(block.start)
            words += [unit] if unit else units(self._text, block)
        too_long = self._too_long(words)
        if not too_long:
            return words
        return [
            part for word in words for part in (self._pieces(word) if word in too_long else [word])
        ]

    def _pieces(self, word: Unit) -> list[Unit]:
        """A word that does not fit, in pieces that do: of whole graphemes, where these fit."""
        stops = [word.start + stop for stop in graphemes(self._text[word.start : word.stop])]
        edges = [word.start, *stops[PIECE - 1 : -1 : PIECE], word.stop]
        pieces = [Unit(start, stop, INSIDE) for start, stop in pairwise(edges)]
        whole = set(stops)
        while too_long := {
            piece for piece in self._too_long(pieces) if piece.stop - piece.start > 1
        }:
            pieces = [
                part
                for piece in pieces
                for part in (_halves(piece, whole) if piece in too_long else [piece])
            ]
        return [*pieces[:-1], pieces[-1]._replace(rank=word.rank)]

    def _too_long(self, found: Sequence[Unit]) -> set[Unit]:
        """Those that no chunk has room for. What a word costs in its place may differ a little."""
        longest = self._room * CHARACTERS
        short = [unit for unit in found if unit.stop - unit.start <= longest]
        costs = self._costs(short)
        large = [
            unit for unit, cost in zip(short, costs, strict=True) if cost > self._room * SURELY
        ]
        counted = self._counted([self._text[unit.start : unit.stop] for unit in large])
        return {
            *(unit for unit in found if unit.stop - unit.start > longest),
            *(unit for unit, tokens in zip(large, counted, strict=True) if tokens > self._most),
        }

    def _costs(self, found: Sequence[Unit]) -> list[int]:
        """The tokens of each, as far as they can be told one by one."""
        parts = [self._text[self._shifted(unit.start) : self._shifted(unit.stop)] for unit in found]
        unknown = [part for part in dict.fromkeys(parts) if part not in self._known]
        self._known |= zip(unknown, self._counted(unknown), strict=True)
        return [min(max(1, self._known[part] - self._added), self._room) for part in parts]

    def _shifted(self, place: int) -> int:
        """A space is counted with the word after it, as byte-pair tokenizers read it."""
        return place - (self._text[place - 1 : place] == " ")

    def _counted(self, texts: list[str]) -> list[int]:
        return self._count(texts) if texts else []


def _halves(piece: Unit, graphemes: Container[int]) -> list[Unit]:
    """*piece* in two, between graphemes if it is more than one."""
    middle = (piece.start + piece.stop) // 2
    inner = sorted(range(piece.start + 1, piece.stop), key=lambda place: abs(place - middle))
    place = next((place for place in inner if place in graphemes), middle)
    return [Unit(piece.start, place, INSIDE), Unit(place, piece.stop, INSIDE)]
