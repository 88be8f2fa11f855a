"""The terms of a query: how each may be written, and which texts have it."""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlembed.engine.interface import Engine
from sqlembed.index.spelling import SHORTEST_CODE, Words, is_code

EDGES = re.compile(r"^\W+|\W+$")
"""What is around a piece of a query, as the mark of a question."""
LETTERS = re.compile(r"[^\W_]+")
CODE_WEIGHT = 3
"""Measured: "who sent me 0871..." found its message at 0.93 in place of 0.25 (MRR)."""
OTHER_SPELLING = 0.8
"""What another spelling of a number or code counts, where there are texts with the query's own."""
LOOSE_CODE = 6
"""Letters from which on a code is looked for with anything between them; in one of fewer, with one
letter between any two."""
LIKE_LETTERS = 30
LIKE_PIECES = 10
"""More of a term are not compared where the texts with it are only to be chosen."""
SHORT_WORD = 4
"""Letters of a word up to which it is mostly found inside of others, as ``ten`` in ``often``."""
FOLDS = (str.lower, str.upper, str.title)
"""LIKE knows both cases of the letters of ASCII only."""


@dataclass(frozen=True)
class Term:
    """A piece of a query up to the next white space: a word, or several as in ``0800-123``."""

    text: str
    tokens: Words
    also: tuple[Words, ...] = ()
    """Other spellings that count as it: of a number, or of what is misspelt."""
    worth: float = 1.0
    """What another spelling counts, where the query's own counts 1."""

    @property
    def shown(self) -> str:
        """It as a person reads it: ``diner (as dinner)``."""
        also = " or ".join(map(" ".join, self.also))
        return f"{self.text} (as {also})" if also else self.text

    @property
    def weight(self) -> int:
        """How often it counts: numbers and codes say more than their rarity tells."""
        return CODE_WEIGHT if is_code(self.text) else 1

    @property
    def match(self) -> str:
        """It as an FTS5 query."""
        texts = (self.text, *map(" ".join, self.also))
        return " OR ".join('"' + text.replace('"', '""') + '"' for text in texts)

    @property
    def likes(self) -> list[str]:
        """LIKE patterns: a text with the term is like one of them, and so are some others."""
        pieces = LETTERS.findall(self.text) or [self.text]
        whole = "".join(pieces)
        if is_code(whole) and len(whole) >= LOOSE_CODE:
            return [_like(whole[:LIKE_LETTERS])]
        if is_code(whole) and len(whole) >= SHORTEST_CODE:
            apart = (f"{whole[:at]}_{whole[at:]}" for at in range(1, len(whole)))
            return [_like([way]) for way in (whole, *apart)]
        plain = [_without_accents(piece) for piece in pieces]
        size = LIKE_LETTERS
        if len(pieces) == len(self.tokens) == 1:  # perhaps a stem: "happi" of "happy"
            size = min(size, _shared(plain[0], self.tokens[0]) or size)
        folds = () if self.text.isascii() else FOLDS
        variants = [plain, *([fold(piece) for piece in pieces] for fold in folds)]
        return sorted({_like(piece[:size] for piece in each[:LIKE_PIECES]) for each in variants})

    @property
    def apart(self) -> str | None:
        """A GLOB pattern of lower-case texts in which a short word stands apart; None for others.

        It holds for tokenizers that part words at whatever is no letter and no digit.
        """
        (word, *more) = self.tokens
        if more or word != self.text.lower() or len(word) > SHORT_WORD or not word.isascii():
            return None
        return f"*[^a-z0-9]{word}[^a-z0-9]*" if word.isalpha() else None

    @property
    def sequences(self) -> tuple[Words, ...]:
        """The tokens of which any, one after the other, is it."""
        return (self.tokens, *self.also)

    def occurrences(self, tokens: Sequence[str]) -> float:
        """How often a text has it."""
        others = sum(occurrences(words, tokens) for words in self.also)
        return occurrences(self.tokens, tokens) + self.worth * others

    def presence(self, tokens: Sequence[str]) -> float:
        """Whether a text has it: 1, or less in another spelling; 0 if not."""
        if occurrences(self.tokens, tokens):
            return 1.0
        return self.worth if any(occurrences(words, tokens) for words in self.also) else 0.0


def _like(parts: Iterable[str]) -> str:
    return "%".join(["", *parts, ""])


def _without_accents(text: str) -> str:
    parts = unicodedata.normalize("NFD", text.lower())
    return "".join(letter for letter in parts if not unicodedata.combining(letter))


def occurrences(words: Words, tokens: Sequence[str]) -> int:
    """How often *tokens* have these *words* one after the other."""
    size = len(words)
    if size == 1 or words[0] not in tokens:
        return tokens.count(words[0])
    places = range(len(tokens) - size + 1)
    return sum(tuple(tokens[at : at + size]) == words for at in places)


def split(engine: Engine, text: str, tokenizer: str) -> list[Term]:
    """The terms of a query, in their order; equal ones are one and the same."""
    # FTS5's queries end at a NUL.
    pieces = [EDGES.sub("", piece) for piece in text.replace("\0", " ").split()]
    found: dict[Words, Term] = {}
    terms = []
    for piece, tokens in zip(pieces, engine.words(pieces, tokenizer), strict=True):
        if tokens:
            terms.append(found.setdefault(tuple(tokens), Term(piece, tuple(tokens))))
    return terms


def _shared(one: str, other: str) -> int:
    """How many letters both begin with."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((n for n, (a, b) in pairs if a != b), min(len(one), len(other)))
