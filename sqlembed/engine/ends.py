"""Start and end tokens: where the tokenizer adds none that the manifest names, they are added."""

from collections.abc import Sequence

import numpy as np

from sqlembed.engine.llama import TokenIds
from sqlembed.engine.tokenize import Tokenizer
from sqlembed.errors import ModelError
from sqlembed.weights.manifest import Manifest

SOME = "fox"
"""A text to see what a tokenizer puts around it."""


class Ended:
    """A tokenizer whose texts begin and end with certain tokens.

    Without the end token, pooling by the last one reads another word's vector, and mean pooling
    lacks one: vectors that look right and are off.
    """

    def __init__(self, tokenizer: Tokenizer, start: TokenIds, end: TokenIds) -> None:
        """Add *start* and *end*, which may be empty, to whatever *tokenizer* gives."""
        self._tokenizer = tokenizer
        self._start, self._end = start, end

    def encode(self, texts: Sequence[str], *, bare: bool = False) -> list[TokenIds]:
        """The ids of each text."""
        encoded = self._tokenizer.encode(texts, bare=bare)
        return encoded if bare else [self._around(ids) for ids in encoded]

    def token(self, text: str) -> int | None:
        """The id of the one token that *text* is."""
        return self._tokenizer.token(text)

    def encode_pairs(self, pairs: Sequence[tuple[str, str]]) -> list[TokenIds]:
        """The ids of each pair."""
        return [self._around(ids) for ids in self._tokenizer.encode_pairs(pairs)]

    def _around(self, ids: TokenIds) -> TokenIds:
        return np.concatenate([self._start, ids, self._end])


def ended(tokenizer: Tokenizer, manifest: Manifest) -> Tokenizer:
    """*tokenizer*, if it begins and ends texts as *manifest* says; else one that does.

    :raises ModelError: it does not know these tokens
    """
    (ids,) = tokenizer.encode([SOME])
    start = _missing(tokenizer, manifest, "start", manifest.start, ids[:1])
    end = _missing(tokenizer, manifest, "end", manifest.end, ids[-1:])
    return Ended(tokenizer, start, end) if len(start) or len(end) else tokenizer


def _missing(
    tokenizer: Tokenizer, manifest: Manifest, which: str, token: str | None, found: TokenIds
) -> TokenIds:
    """The *token* to add, or none if it is *found* there already, or not asked for."""
    if token is None:
        return found[:0]
    number = tokenizer.token(token)
    if number is None:
        raise ModelError(
            f"{manifest.name}: its texts {which} with {token!r} by the manifest, and its tokenizer"
            " has no such token; the manifest or the GGUF is another model's"
        )
    return found[:0] if found.tolist() == [number] else np.array([number], dtype=np.int32)
