"""A query and a document in the words that a reranker was taught to judge them in."""

from collections.abc import Sequence

from sqlembed.engine.llama import TokenIds
from sqlembed.engine.tokenize import Tokenizer
from sqlembed.errors import ModelError
from sqlembed.weights.manifest import Manifest

QUERY, DOCUMENT = "{query}", "{document}"
ANSWERS = ("yes", "no")
"""The words whose logits are compared, the first for relevant."""


class Templated:
    """A tokenizer that puts pairs into a template, and reads that as its reference does."""

    def __init__(self, tokenizer: Tokenizer, template: str) -> None:
        """Use *template*, with ``{query}`` and then ``{document}`` in it."""
        self._tokenizer = tokenizer
        self._before, rest = template.split(QUERY)
        self._between, self._after = rest.split(DOCUMENT)

    def encode(self, texts: Sequence[str], *, bare: bool = False) -> list[TokenIds]:
        """The ids of each text."""
        return self._tokenizer.encode(texts, bare=bare)

    def token(self, text: str) -> int | None:
        """The id of the one token that *text* is."""
        return self._tokenizer.token(text)

    def encode_pairs(self, pairs: Sequence[tuple[str, str]]) -> list[TokenIds]:
        """The ids of each pair in the template, which has start and end of its own."""
        texts = [
            f"{self._before}{query}{self._between}{document}{self._after}"
            for query, document in pairs
        ]
        return self._tokenizer.encode(texts, bare=True)


def answers(tokenizer: Tokenizer, manifest: Manifest) -> list[int]:
    """The ids of the words that the model answers with.

    :raises ModelError: one is no token of its own
    """
    ids = [tokenizer.token(word) for word in ANSWERS]
    found = [number for number in ids if number is not None]
    if len(found) < len(ANSWERS):
        raise ModelError(
            f"{manifest.name} answers with {' and '.join(ANSWERS)}, and its tokenizer has no token"
            f" for {ANSWERS[ids.index(None)]!r}; its GGUF is another model's"
        )
    return found
