"""The tokenizer.json of a table of whole words: small letters, split as GloVe's texts were.

Stanford's tokenizer split those: "don't" is "do" and "n't", "it's" is "it" and "'s", and a mark is
a word (https://nlp.stanford.edu/software/tokenizer.html). Two of its rules are not followed: quotes
are not told apart by which side they are on, and compounds are split at the hyphen, since of those
that no table has the parts would else be lost.
"""

from collections.abc import Sequence

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

UNKNOWN = "<unknown>"
"""The token of every word that the table has not. It is split itself, so no text has it."""

LETTER = r"[\p{L}\p{M}]"
SIGN = r"[\p{L}\p{M}\p{N}]"
ENDING = rf"'(?:s|m|d|ll|re|ve)(?!{SIGN})"
WORD = "|".join(
    (
        rf"{LETTER}+?(?=n't(?!{SIGN}))",  # do n't
        rf"n't(?!{SIGN})",
        ENDING,
        r"(?:\p{L}\.){2,}",  # u.s.
        r"\p{N}+(?:[.,:/]\p{N}+)+",  # 1,000 and 10:30
        rf"{SIGN}+(?:(?!{ENDING})'{SIGN}+)*",  # o'brien
        r"\.\.\.",
        r"[^\s\p{C}]",
    )
)
"""What is a word; anything else parts words."""


def tokenizer(words: Sequence[str]) -> str:
    """The text of a tokenizer.json; the id of a word is its place, that of unknown ones ``len``.

    :param words: all different
    """
    ids = {word: number for number, word in enumerate(words)}
    built = Tokenizer(models.WordLevel(ids | {UNKNOWN: len(words)}, unk_token=UNKNOWN))
    built.normalizer = normalizers.Sequence(
        [
            normalizers.NFC(),
            normalizers.Lowercase(),
            normalizers.Replace(Regex("[\u2018\u2019]"), "'"),
            normalizers.Replace(Regex("[\u201c\u201d]"), '"'),
            normalizers.Replace("\u2026", "..."),
        ]
    )
    built.pre_tokenizer = pre_tokenizers.Split(Regex(WORD), "removed", invert=True)
    return str(built.to_str())
