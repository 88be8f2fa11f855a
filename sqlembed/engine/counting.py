"""How many tokens a text has to a model on a server: by a tokenizer at hand, else by bytes."""

import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from sqlembed.engine.llama import Weights
from sqlembed.engine.tokenize import LlamaTokenizer, Tokenizer, tokenizer_in, tokenizer_of
from sqlembed.weights import receipt
from sqlembed.weights.server import Server

ADDED = 4
"""Tokens that a model adds to a text or a pair, at most, where it is not known."""


class Counter(Protocol):
    """Counts tokens, start and end tokens included."""

    what: str
    """What is counted, for messages."""

    def count(self, texts: Sequence[str]) -> list[int]:
        """Of each text."""

    def plain(self, texts: Sequence[str]) -> list[int]:
        """Of each text, without what the model adds."""

    def pair(self, query: str) -> int:
        """Of *query* with an empty document."""


class Bytes:
    """No fewer tokens than a text has, whatever the tokenizer: the bytes of its UTF-8.

    A token stands for a byte at least. Some tokenizers take a text apart by NFKC first, and write
    it small, which can make it longer.
    """

    what = (
        "bytes, which are counted for tokens, since its manifest names no tokenizer"
        " (docs/models.md tells how)"
    )

    def count(self, texts: Sequence[str]) -> list[int]:
        """Of each text."""
        return [size + ADDED for size in self.plain(texts)]

    def plain(self, texts: Sequence[str]) -> list[int]:
        """Of each text, without what the model adds."""
        return [
            len(text)
            if text.isascii()
            else max(_size(text), _size(unicodedata.normalize("NFKC", text).lower()))
            for text in texts
        ]

    def pair(self, query: str) -> int:
        """Of *query* with an empty document."""
        return self.plain([query])[0] + ADDED


class Tokens:
    """As a tokenizer counts."""

    what = "tokens"

    def __init__(self, tokenizer: Tokenizer) -> None:
        """Use *tokenizer*."""
        self._tokenizer = tokenizer
        self._added = len(tokenizer.encode([""])[0])

    def count(self, texts: Sequence[str]) -> list[int]:
        """Of each text."""
        return [len(ids) for ids in self._tokenizer.encode(texts)]

    def plain(self, texts: Sequence[str]) -> list[int]:
        """Of each text, without what the model adds."""
        return [count - self._added for count in self.count(texts)]

    def pair(self, query: str) -> int:
        """Of *query* with an empty document."""
        return len(self._tokenizer.encode_pairs([(query, "")])[0])


def counter_of(server: Server) -> Counter:
    """The counter that *server*'s manifest asks for.

    :raises ModelError: the tokenizer it names cannot be had
    """
    named = server.tokenizer
    if named is None:
        return Bytes()
    if named.endswith(".json"):
        return Tokens(tokenizer_in(receipt.directory() / Path(named).expanduser()))
    path, _ = receipt.verified(named)
    weights = Weights(path)
    tokenizer = tokenizer_of(weights)
    if not isinstance(tokenizer, LlamaTokenizer):
        weights.close()
    return Tokens(tokenizer)


def _size(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))
