"""Tokens as FTS5 sees them, so that texts that wait are matched as those in an FTS5 table are."""

from collections.abc import Sequence
from functools import lru_cache

import apsw

from sqlembed.errors import InputError

Tokenize = apsw.FTS5Tokenizer


def tokens(texts: Sequence[str], tokenizer: str) -> list[list[str]]:
    """The tokens of each text, in their order.

    :param tokenizer: as in ``CREATE VIRTUAL TABLE ... USING fts5(tokenize = '...')``
    :raises InputError: FTS5 has no such tokenizer
    """
    split = _tokenizer(tokenizer)
    mode = apsw.FTS5_TOKENIZE_DOCUMENT
    plain = {"include_offsets": False, "include_colocated": False}
    return [
        list(map(str, split(text.encode("utf-8", "replace"), mode, None, **plain)))
        for text in texts
    ]


@lru_cache
def _tokenizer(named: str) -> Tokenize:
    name, *arguments = named.split()
    try:
        return apsw.Connection(":memory:").fts5_tokenizer(name, arguments)
    except apsw.Error as error:
        raise InputError(
            f"FTS5 has no tokenizer {named!r}: {error}; it has unicode61, ascii, porter and"
            " trigram, with options as in FTS5's tokenize"
        ) from error
