"""Tokens as FTS5 sees them, so that texts that wait are matched as those in an FTS5 table are."""

import re
from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate

import apsw

from sqlembed.engine.interface import Span
from sqlembed.errors import InputError

Tokenize = apsw.FTS5Tokenizer
ARGUMENT = re.compile(r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|`(?:[^`]|``)*`|\[[^\]]*\]|\S+""")
"""A word of FTS5's ``tokenize``, quoted or not."""
MODE = apsw.FTS5_TOKENIZE_DOCUMENT


def tokens(texts: Sequence[str], tokenizer: str) -> list[list[str]]:
    """The tokens of each text, in their order.

    :param tokenizer: as in ``CREATE VIRTUAL TABLE ... USING fts5(tokenize = '...')``
    :raises InputError: FTS5 has no such tokenizer
    """
    split = _tokenizer(tokenizer)
    plain = {"include_offsets": False, "include_colocated": False}
    return [
        list(map(str, split(text.encode("utf-8", "replace"), MODE, None, **plain)))
        for text in texts
    ]


def spans(text: str, tokenizer: str) -> list[Span]:
    """The tokens of a text, as :func:`tokens` gives them, and where they stand."""
    data = text.encode("utf-8", "replace")
    characters = list(accumulate((byte & 0xC0 != 0x80 for byte in data), initial=0))
    found: list[tuple[int, int, str]] = _tokenizer(tokenizer)(  # type: ignore[assignment]
        data, MODE, None, include_colocated=False
    )
    return [Span(token, characters[start], characters[stop]) for start, stop, token in found]


@lru_cache
def _tokenizer(named: str) -> Tokenize:
    name, *arguments = map(_unquoted, ARGUMENT.findall(named) or [""])
    try:
        return apsw.Connection(":memory:").fts5_tokenizer(name, arguments)
    except apsw.Error as error:
        raise InputError(
            f"FTS5 has no tokenizer {named!r}: {error}; it has unicode61, ascii, porter and"
            " trigram, with options as in FTS5's tokenize"
        ) from error


def _unquoted(word: str) -> str:
    mark = word[:1]
    if mark not in ("'", '"', "`", "["):
        return word
    return word[1:-1].replace(mark * 2, mark)
