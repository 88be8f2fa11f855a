"""Compare what is stored of an index with the table that it watches, a slice at a time.

Needs no model: a chunk's digest tells whether it is of the text that stands at its span now. Rows
that wait are left out, since what is stored of them is not used.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from sqlembed import vectors
from sqlembed.engine.space import Space
from sqlembed.index import source as sources
from sqlembed.index import waiting
from sqlembed.index.catalog import Index
from sqlembed.index.known import UNIT_TOLERANCE
from sqlembed.plan import Plan, Row, SqlValue, Statement, quote

LOWEST, HIGHEST = -(2**63), 2**63 - 1
"""Of a key."""
SLICE_ROWS = 500
SLICE_CHARACTERS = 4_000_000
"""Of the texts of a slice: after one with more, the next is of fewer rows."""
SLICE_CHUNKS = 1000

KEYS = "SELECT {key} FROM {table} WHERE {key} >= ? ORDER BY {key} LIMIT ?"
CHUNKS = """
SELECT key, chunk, ordinal, start, stop, digest FROM main.{}
WHERE key IN (SELECT value FROM json_each(?)) ORDER BY key, ordinal, chunk"""
WORDS = """
SELECT words.rowid, CAST(words.text AS BLOB)
FROM json_each(?) AS wanted CROSS JOIN main.{} AS words ON words.rowid = wanted.value"""
AMONG_WAITING = """
SELECT key FROM (SELECT value AS key FROM json_each(?)) AS sqlembed_ours WHERE NOT ({})"""
VECTORS = """
SELECT chunk, key, vector FROM main.{} WHERE chunk >= ? ORDER BY chunk LIMIT ?"""
CODES = """
SELECT codes.rowid, codes.code
FROM json_each(?) AS wanted CROSS JOIN main.{} AS codes ON codes.rowid = wanted.value"""


class RowFaults(NamedTuple):
    """What is wrong with a slice of rows, by their keys."""

    missing: list[int]
    stale: list[int]
    disordered: list[int]
    unreadable: dict[int, str]
    """Why the expression fails."""
    words: dict[int, str]
    """What the words of a chunk, by its number, are to be of."""
    following: int | None
    """Where the next slice begins; None at the end."""
    rows: int
    """How many the next one has at most."""


class VectorFaults(NamedTuple):
    """What is wrong with a slice of vectors: chunks with the keys of their rows."""

    width: list[Row]
    not_finite: list[Row]
    not_unit: list[Row]
    codes: list[Row]
    """Those whose code is another."""
    following: int | None

    @property
    def unsound(self) -> list[SqlValue]:
        """The keys of the rows whose vectors cannot be used."""
        found = (*self.width, *self.not_finite, *self.not_unit)
        return list(dict.fromkeys(key for _, key in found))


class _Part(NamedTuple):
    """A chunk without its vector."""

    chunk: SqlValue
    ordinal: SqlValue
    start: SqlValue
    stop: SqlValue
    digest: SqlValue


def rows(index: Index, start: int, most: int, *, words: bool) -> Plan[RowFaults]:
    """Look at the next *most* rows from the key *start*.

    :param words: whether to compare the words of their chunks, too
    """
    found = RowFaults([], [], [], {}, {}, None, most)
    keys = yield from _keys(index, start, most)
    if not keys:
        return found
    encoding = yield from sources.text_encoding()
    read = yield from sources.read_rows(index.source, index.key_table, keys, encoding)
    chunks: dict[SqlValue, list[_Part]] = {}
    for key, *part in (yield Statement(CHUNKS.format(index.chunk_table), (json.dumps(keys),))):
        chunks.setdefault(key, []).append(_Part(*part))
    space = Space(index.model, index.dimension, index.space)
    expected: dict[SqlValue, str] = {}
    for key, (_, text) in read.rows.items():
        parts = chunks.get(key, [])
        if not parts and text is not None:
            found.missing.append(key)
        elif parts and (text is None or not _follow(parts)):
            (found.stale if text is None else found.disordered).append(key)
        elif parts and text is not None:
            fault = _fault(space, parts, text)
            if fault:
                (found.stale if fault == "stale" else found.disordered).append(key)
            elif words:
                expected |= {part.chunk: text[part.start : part.stop] for part in parts}  # type: ignore[misc]
    found.unreadable.update(read.failed)
    if words:
        owner = {part.chunk: key for key, parts in chunks.items() for part in parts}
        wrong = yield from _other_words(index, expected, encoding)
        waits = yield from _waiting(index, {owner[chunk] for chunk in wrong})
        found.words.update((c, t) for c, t in wrong.items() if owner[c] not in waits)  # type: ignore[misc]
    suspects = (*found.missing, *found.stale, *found.disordered, *found.unreadable)
    waits = yield from _waiting(index, suspects)
    characters = sum(len(text) for _, text in read.rows.values() if text)
    return RowFaults(
        *([key for key in some if key not in waits] for some in found[:3]),
        {key: why for key, why in found.unreadable.items() if key not in waits},
        found.words,
        keys[-1] + 1 if keys[-1] < HIGHEST else None,
        max(1, most // 2) if characters > SLICE_CHARACTERS else min(2 * most, SLICE_ROWS),
    )


def chunks(index: Index, start: int, *, codes: bool) -> Plan[VectorFaults]:
    """Look at the vectors of the next chunks from the number *start*.

    :param codes: whether to compare their codes, too
    """
    found = VectorFaults([], [], [], [], None)
    listed = yield Statement(VECTORS.format(index.chunk_table), (start, SLICE_CHUNKS))
    if not listed:
        return found
    size = index.dimension * vectors.FLOAT_BYTES
    whole = [row for row in listed if isinstance(row[2], bytes) and len(row[2]) == size]
    floats = np.frombuffer(b"".join(row[2] for row in whole), dtype="<f4")  # type: ignore[misc]
    matrix = floats.reshape(-1, index.dimension)
    finite = np.isfinite(matrix).all(axis=1)
    with np.errstate(invalid="ignore", over="ignore"):
        norms = np.linalg.norm(matrix.astype(np.float64), axis=1)
        unit = np.abs(norms - 1.0) < UNIT_TOLERANCE
    fit = {row[0] for row in whole}
    found.width.extend((chunk, key) for chunk, key, _ in listed if chunk not in fit)
    found.not_finite.extend(row[:2] for row, is_so in zip(whole, finite, strict=True) if not is_so)
    wrong = finite & ~unit
    found.not_unit.extend(row[:2] for row, is_so in zip(whole, wrong, strict=True) if is_so)
    if codes:
        sound = [row for row, is_so in zip(whole, unit, strict=True) if is_so]
        expected = vectors.code(matrix[unit])
        asked = (json.dumps([row[0] for row in sound]),)
        stored = dict((yield Statement(CODES.format(index.code_table), asked)))
        pairs = zip(sound, expected, strict=True)
        found.codes.extend(
            row[:2]
            for row, code in pairs
            if row[0] in stored and stored[row[0]] != code.tobytes()
        )
    suspects = {key for some in found[:4] for _, key in some}  # type: ignore[union-attr]
    waits = yield from _waiting(index, suspects)
    last = int(str(listed[-1][0]))
    return VectorFaults(
        *([row for row in some if row[1] not in waits] for some in found[:4]),  # type: ignore[union-attr]
        last + 1 if last < HIGHEST else None,
    )


def _keys(index: Index, start: int, most: int) -> Plan[list[int]]:
    table, key = f"main.{index.key_table}", "key"
    if not index.source.mapped:
        table = f"main.{quote(index.source.table)}"
        key = index.source.column(index.source.key[0])
    found = yield Statement(KEYS.format(table=table, key=key), (start, most))
    return [int(str(key)) for (key,) in found]


def _follow(parts: Sequence[_Part]) -> bool:
    """Whether the chunks of a row are numbered from 0, and each begins where another may end."""
    if [part.ordinal for part in parts] != list(range(len(parts))) or parts[0].start != 0:
        return False
    if not all(isinstance(p.start, int) and isinstance(p.stop, int) for p in parts):
        return False
    pairs = zip(parts, parts[1:], strict=False)
    return all(a.start < b.start <= a.stop < b.stop for a, b in pairs)  # type: ignore[operator]


def _fault(space: Space, parts: Sequence[_Part], text: str) -> str | None:
    """What is wrong with chunks that follow each other, if they are to be those of *text*."""
    spans = [text[part.start : part.stop] for part in parts]  # type: ignore[misc]
    digests = [space.key("document", span) for span in spans]
    if digests != [part.digest for part in parts] or parts[-1].stop < len(text):  # type: ignore[operator]
        return "stale"
    return None if parts[-1].stop == len(text) else "disordered"


def _other_words(
    index: Index, expected: Mapping[SqlValue, str], encoding: str
) -> Plan[dict[SqlValue, str]]:
    """Those of *expected*, texts by chunk, of which the words are missing or another text's."""
    stored = yield Statement(WORDS.format(index.word_table), (json.dumps(list(expected)),))
    texts = {
        chunk: text.decode(encoding, "replace") for chunk, text in stored if isinstance(text, bytes)
    }
    return {chunk: text for chunk, text in expected.items() if texts.get(chunk) != text}


def _waiting(index: Index, keys: Iterable[SqlValue]) -> Plan[set[SqlValue]]:
    """Those of *keys* that wait."""
    asked = list(keys)
    if not asked:
        return set()
    sql = AMONG_WAITING.format(waiting.nowhere(index, "sqlembed_ours"))
    return {key for (key,) in (yield Statement(sql, (json.dumps(asked),)))}
