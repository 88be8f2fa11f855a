"""Text to token ids, exactly as the model's reference does it.

The GGUF carries the reference's own ``tokenizer.json`` where it has one, and the
``tokenizers`` library reads it: llama.cpp's WordPiece gives other ids for Hangul,
Devanagari and words of more than 100 letters, and so other vectors. A GGUF without
one is tokenized by llama.cpp.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from tokenizers import Tokenizer as HubTokenizer

from sqlembed.engine.llama import TokenIds, Weights
from sqlembed.errors import ModelError

JSON_KEY = "tokenizer.huggingface.json"
"""The GGUF metadata key of the reference's tokenizer."""
PLAIN = "the red fox"
"""What every tokenizer of a model must make the same of."""
SEGMENT_KEY = "sqlembed.segment_offset"
"""The GGUF metadata key of what is added to the ids of a pair's second text."""


class Tokenizer(Protocol):
    """Turns texts into ids, start and end tokens included."""

    def encode(self, texts: Sequence[str], *, bare: bool = False) -> list[TokenIds]:
        """The ids of each text.

        :param bare: without start and end tokens
        """

    def token(self, text: str) -> int | None:
        """The id of the one token that *text* is, special ones included; None if it is none."""

    def encode_pairs(self, pairs: Sequence[tuple[str, str]]) -> list[TokenIds]:
        """The ids of each pair, as a cross-encoder reads them."""


def tokenizer_of(weights: Weights, beside: Path | None = None) -> Tokenizer:
    """The tokenizer that *weights* were trained with.

    :param beside: a ``tokenizer.json`` that may stand beside them, where they have none inside
    :raises ModelError: that is another model's
    """
    stored = weights.metadata(JSON_KEY)
    if stored is not None:
        return ReferenceTokenizer(stored, int(weights.metadata(SEGMENT_KEY) or 0))
    own = LlamaTokenizer(weights)
    if beside is None or not beside.is_file():
        return own
    reference = tokenizer_in(beside)
    (ids,), (expected,) = own.encode([PLAIN], bare=True), reference.encode([PLAIN], bare=True)
    if not np.array_equal(ids, expected):
        raise ModelError(
            f"{beside} is another model's: it makes {expected.tolist()} of {PLAIN!r}, and the GGUF"
            f" beside it {ids.tolist()}"
        )
    return reference


def tokenizer_in(path: Path) -> "ReferenceTokenizer":
    """The tokenizer in a ``tokenizer.json``.

    :raises ModelError: there is none
    """
    try:
        return ReferenceTokenizer(path.read_text(encoding="utf-8"), 0)
    except Exception as error:  # the library raises the bare class
        raise ModelError(f"{path} is no tokenizer.json that can be read: {error}") from error


class ReferenceTokenizer:
    """The reference's own tokenizer, from its ``tokenizer.json``."""

    def __init__(self, definition: str, segment_offset: int) -> None:
        """Read *definition*, and let nothing be cut or padded."""
        self._tokenizer = HubTokenizer.from_str(definition)
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._segment_offset = segment_offset

    def encode(self, texts: Sequence[str], *, bare: bool = False) -> list[TokenIds]:
        """The ids of each text."""
        encodings = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=not bare)
        return [np.array(encoding.ids, dtype=np.int32) for encoding in encodings]

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Where each token of *text* stands, in characters; without start and end tokens."""
        found: list[tuple[int, int]] = self._tokenizer.encode(
            text, add_special_tokens=False
        ).offsets
        return found

    def token(self, text: str) -> int | None:
        """The id of the one token that *text* is."""
        found: int | None = self._tokenizer.token_to_id(text)
        return found

    def encode_pairs(self, pairs: Sequence[tuple[str, str]]) -> list[TokenIds]:
        """The ids of each pair; the second text's are shifted to its segment's half."""
        encodings = self._tokenizer.encode_batch_fast(list(pairs))
        return [
            np.array(encoding.ids, dtype=np.int32)
            + np.array(encoding.type_ids, dtype=np.int32) * self._segment_offset
            for encoding in encodings
        ]


class LlamaTokenizer:
    """llama.cpp's tokenizer, for a GGUF that brings no other."""

    def __init__(self, weights: Weights) -> None:
        """Use the vocabulary inside *weights*."""
        self._weights = weights

    def encode(self, texts: Sequence[str], *, bare: bool = False) -> list[TokenIds]:
        """The ids of each text."""
        return [self._weights.tokenize(text, bare=bare) for text in texts]

    def token(self, text: str) -> int | None:
        """The id of the one token that *text* is."""
        return self._weights.token(text)

    def encode_pairs(self, pairs: Sequence[tuple[str, str]]) -> list[TokenIds]:
        """Refuse: without the reference's template the pair's form is not known."""
        raise ModelError(
            f"this reranker's GGUF has no {JSON_KEY}, so how it reads a pair is not known;"
            " convert it with `sqlembed convert`"
        )
