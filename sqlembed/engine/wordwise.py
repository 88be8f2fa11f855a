"""Tokenize between spaces, and remember what each piece became: most pieces have been seen before.

To split a text takes longer than the mean of its words' rows. So the tokenizer is asked for new
pieces only, where its tokens end at spaces anyway.
"""

import json
from collections.abc import Iterator, Sequence
from typing import Any

from sqlembed.engine.tokenize import ReferenceTokenizer
from sqlembed.weights.word_level import WORD

MOST_CHARACTERS = 1 << 19
"""Of the pieces that are remembered: some 80,000, which take 20 MB."""
AT_SPACES = {"BertPreTokenizer", "Whitespace", "WhitespaceSplit"}
"""Kinds that split at each space and look no further."""
LOCAL = {"BertNormalizer", "Lowercase", "NFC", "NFD", "NFKC", "NFKD", "StripAccents", "Replace"}
"""Kinds of normalizers to which what is beyond a space makes no difference."""
MODELS = {"WordLevel", "WordPiece"}


class Wordwise:
    """A tokenizer with a memory, for many threads at once."""

    def __init__(self, definition: str) -> None:
        """Tokenize as *definition* says, the text of a tokenizer.json."""
        self._tokenizer = ReferenceTokenizer(definition, 0)
        self._separable = separable(json.loads(definition))
        self._known: dict[str, list[int]] = {}
        self._characters = 0

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of each text; none for an empty one."""
        if not self._separable:
            return self._computed(texts)
        known = self._known
        parts = [text.split(" ") for text in texts]
        new = list({piece for each in parts for piece in each if piece not in known})
        if new:
            known.update(zip(new, self._computed(new), strict=True))
            self._characters += sum(map(len, new))
            if self._characters > MOST_CHARACTERS:
                # Others may still read the old one: it is replaced, not emptied.
                self._known, self._characters = {}, 0
        return [[number for piece in each for number in known[piece]] for each in parts]

    def split(self, text: str) -> list[str]:
        """The words of *text*, in small letters."""
        return [text[start:stop].lower() for start, stop in self._tokenizer.spans(text)]

    def _computed(self, texts: Sequence[str]) -> list[list[int]]:
        return [ids.tolist() for ids in self._tokenizer.encode(texts, bare=True)]


def separable(definition: dict[str, Any]) -> bool:
    """Whether the tokens of a text are those of its pieces between spaces."""
    splits = list(_each(definition.get("pre_tokenizer"), "pretokenizers"))
    return (
        definition["model"]["type"] in MODELS
        and all(each["type"] in LOCAL for each in _each(definition["normalizer"], "normalizers"))
        and not any(" " in each.get("pattern", {}).get("String", "")
                    for each in _each(definition["normalizer"], "normalizers"))
        and bool(splits)
        and (splits[0]["type"] in AT_SPACES or splits[0].get("pattern") == {"Regex": WORD})
        and not any(
            token["lstrip"] or token["rstrip"] or " " in token["content"]
            for token in definition["added_tokens"]
        )
    )  # fmt: skip


def _each(found: dict[str, Any] | None, parts: str) -> Iterator[dict[str, Any]]:
    """What *found* does, one after another."""
    if found is not None and found["type"] == "Sequence":
        for part in found[parts]:
            yield from _each(part, parts)
    elif found is not None:
        yield found
