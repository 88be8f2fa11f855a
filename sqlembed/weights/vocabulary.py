"""A tokenizer.json's vocabulary as llama.cpp wants it: every token's text, type and score.

The engine tokenizes with the tokenizer.json itself. This is for llama.cpp, which loads
no model without a vocabulary, and for other programs that read our GGUF.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gguf import TokenType

from sqlembed.errors import ModelError

SPECIALS = {
    "bos": ("[CLS]", "<s>"),
    "eos": ("[SEP]", "</s>"),
    "unk": ("[UNK]", "<unk>"),
    "sep": ("[SEP]", "</s>"),
    "pad": ("[PAD]", "<pad>"),
    "mask": ("[MASK]", "<mask>"),
}
"""What BERT and XLM-R call each special token."""

WORD_START = "\u2581"


@dataclass(frozen=True)
class Vocabulary:
    """llama.cpp's view of a tokenizer."""

    model: str
    """``bert`` (WordPiece) or ``t5`` (unigram)."""
    tokens: Sequence[str]
    types: Sequence[int]
    scores: Sequence[float] | None
    specials: dict[str, int]
    """The id of each of ``SPECIALS`` that the tokenizer has."""


def vocabulary(definition: str, rows: int) -> Vocabulary:
    """Read a tokenizer.json.

    :param definition: its text
    :param rows: rows of the word embeddings; those beyond the tokenizer's are unused
    :raises ModelError: neither WordPiece nor unigram, or more tokens than *rows*
    """
    loaded = json.loads(definition)
    model = loaded["model"]
    kind = model.get("type")
    if kind == "WordPiece":
        pieces = [piece for piece, _ in sorted(model["vocab"].items(), key=lambda item: item[1])]
        scores = None
    elif kind == "Unigram":
        pieces = [piece for piece, _ in model["vocab"]]
        scores = [float(score) for _, score in model["vocab"]]
    else:
        raise ModelError(f"a tokenizer of type {kind!r}; supported are WordPiece and Unigram")
    if len(pieces) > rows:
        raise ModelError(f"the tokenizer has {len(pieces)} tokens, the model {rows}")
    ids = {piece: number for number, piece in enumerate(pieces)}
    specials = _specials(ids)
    controls = _controls(loaded) - {pieces[specials["unk"]]}
    types = [
        TokenType.UNKNOWN if number == specials["unk"]
        else TokenType.CONTROL if piece in controls
        else TokenType.NORMAL
        for number, piece in enumerate(pieces)
    ]  # fmt: skip
    tokens = [_llama(piece) for piece in pieces] if kind == "WordPiece" else pieces
    missing = rows - len(pieces)
    return Vocabulary(
        model="bert" if kind == "WordPiece" else "t5",
        tokens=[*tokens, *(f"[unused row {len(pieces) + n}]" for n in range(missing))],
        types=[int(t) for t in types] + [int(TokenType.UNUSED)] * missing,
        scores=None if scores is None else [*scores, *([0.0] * missing)],
        specials=specials,
    )


def _controls(loaded: dict[str, Any]) -> set[str]:
    return {added["content"] for added in loaded["added_tokens"] if added["special"]}


def _specials(ids: dict[str, int]) -> dict[str, int]:
    found = {role: ids[name] for role, names in SPECIALS.items() for name in names if name in ids}
    if lacking := {"bos", "eos", "unk"} - set(found):
        raise ModelError(f"the tokenizer has no {', '.join(sorted(lacking))} token")
    return found


def _llama(piece: str) -> str:
    """A WordPiece token as llama.cpp spells it: word starts are marked, not continuations."""
    if piece.startswith("[") and piece.endswith("]") and len(piece) > 2:
        return piece
    return piece[2:] if piece.startswith("##") else WORD_START + piece
