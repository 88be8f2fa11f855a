"""Compare what is stored of an index with the table that it watches, a slice at a time.

Needs no model: a chunk's digest tells whether it is of the text that stands at its span now. Rows
that wait are left out, since what is stored of them is not used.
"""

import json
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from sqlembed import vectors
from sqlembed.engine.space import Space
from sqlembed.errors import SchemaError
from sqlembed.index import blocks, waiting
from sqlembed.index import source as sources
from sqlembed.index.catalog import Index
from sqlembed.index.known import UNIT_TOLERANCE
from sqlembed.plan import Plan, Row, SqlValue, Statement, quote

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
CODED = "SELECT chunk, key, vector FROM main.{} WHERE chunk BETWEEN ? AND ? ORDER BY chunk"


@dataclass
class RowFaults:
    """What is wrong with a slice of rows, by their keys."""

    missing: list[int] = field(default_factory=list)
    stale: list[int] = field(default_factory=list)
    disordered: list[int] = field(default_factory=list)
    unreadable: dict[int, str] = field(default_factory=dict)
    """Why the expression fails."""
    words: dict[int, str] = field(default_factory=dict)
    """The texts of chunks, by number, whose words are another text's."""
    wordless: dict[int, str] = field(default_factory=dict)
    """And of those that have none."""
    following: int | None = None
    """Where the next slice begins; None at the end."""
    rows: int = SLICE_ROWS
    """How many the next one has at most."""

    def leave_out(self, waits: Container[SqlValue]) -> None:
        """Forget rows that wait."""
        for keys in (self.missing, self.stale, self.disordered):
            keys[:] = [key for key in keys if key not in waits]
        self.unreadable = {k: why for k, why in self.unreadable.items() if k not in waits}


@dataclass
class VectorFaults:
    """What is wrong with a slice of vectors: chunks with the keys of their rows."""

    width: list[Row] = field(default_factory=list)
    not_finite: list[Row] = field(default_factory=list)
    not_unit: list[Row] = field(default_factory=list)
    following: int | None = None
    """Where the next slice begins; None at the end."""

    @property
    def unsound(self) -> list[SqlValue]:
        """The keys of the rows whose vectors cannot be used."""
        found = (*self.width, *self.not_finite, *self.not_unit)
        return list(dict.fromkeys(key for _, key in found))


class _Part(NamedTuple):
    """A chunk without its vector; damaged, it may hold values of any type."""

    chunk: Any
    ordinal: Any
    start: Any
    stop: Any
    digest: Any


def rows(index: Index, start: int, most: int, *, words: bool) -> Plan[RowFaults]:
    """Look at the next *most* rows from the key *start*.

    :param words: whether to compare the words of their chunks, too
    """
    found = RowFaults()
    keys = yield from _keys(index, start, most)
    if not keys:
        return found
    encoding = yield from sources.text_encoding()
    read = yield from sources.read_rows(index.source, index.key_table, keys, encoding)
    chunks: dict[SqlValue, list[_Part]] = {}
    for key, *part in (yield Statement(CHUNKS.format(index.chunk_table), (json.dumps(keys),))):
        chunks.setdefault(key, []).append(_Part(*part))
    space = space_of(index)
    good: dict[int, str] = {}
    for key, (_, text) in read.rows.items():
        parts = chunks.get(key, [])
        if not parts and text is not None:
            found.missing.append(key)
        elif parts and (text is None or _is_stale(space, parts, text)):
            found.stale.append(key)
        elif parts and text is not None and not _follow(parts, len(text)):
            found.disordered.append(key)
        elif text is not None:
            good[key] = text
    found.unreadable.update(read.failed)
    suspects = (*found.missing, *found.stale, *found.disordered, *found.unreadable)
    found.leave_out((yield from waiting_among(index, suspects)))
    if words:
        yield from _compare_words(index, found, good, chunks, encoding)
    characters = sum(len(text) for _, text in read.rows.values() if text)
    found.following = keys[-1] + 1 if keys[-1] < sources.HIGHEST else None
    found.rows = min(2 * most, SLICE_ROWS)
    if characters > SLICE_CHARACTERS:
        found.rows = max(1, most // 2)
    return found


def chunks(index: Index, start: int) -> Plan[VectorFaults]:
    """Look at the vectors of the next chunks from the number *start*."""
    found = VectorFaults()
    listed = yield Statement(VECTORS.format(index.chunk_table), (start, SLICE_CHUNKS))
    if not listed:
        return found
    size = index.dimension * vectors.FLOAT_BYTES
    whole: list[Row] = []
    for row in listed:
        blob = row[2]
        (whole if isinstance(blob, bytes) and len(blob) == size else found.width).append(row)
    joined = b"".join(blob for *_, blob in whole if isinstance(blob, bytes))
    matrix = np.frombuffer(joined, dtype="<f4").reshape(-1, index.dimension)
    finite = np.isfinite(matrix).all(axis=1)
    with np.errstate(invalid="ignore", over="ignore"):
        norms = np.linalg.norm(matrix.astype(np.float64), axis=1)
        unit = np.abs(norms - 1.0) < UNIT_TOLERANCE
    for row, is_finite, is_unit in zip(whole, finite, unit, strict=True):
        if not is_unit:
            (found.not_unit if is_finite else found.not_finite).append(row)
    every = (found.width, found.not_finite, found.not_unit)
    waits = yield from waiting_among(index, {row[1] for some in every for row in some})
    for some in every:
        some[:] = [row[:2] for row in some if row[1] not in waits]
    last = int(str(listed[-1][0]))
    found.following = last + 1 if last < sources.HIGHEST else None
    return found


def codes(index: Index, start: int) -> Plan[tuple[list[SqlValue], int | None]]:
    """Look at the codes of the chunks from the number *start* to the end of a block.

    :returns: the numbers of chunks that are not in that block, or with another code or key; and
        where the next slice begins, None at the end
    """
    known = yield from blocks.listed(index)
    block = next((each for each in known if each.last >= start), None)
    if block is None:
        return [], None
    following = block.last + 1 if block.last < blocks.sealed(known) else None
    asked = (start, block.last)
    rows = yield Statement(CODED.format(index.chunk_table), asked)
    if block not in (yield from blocks.listed(index)):  # another has taken it in meanwhile
        return [], start
    every = [chunk for chunk, *_ in rows] or [block.first]
    try:
        codes = yield from blocks.read(index, block)
    except SchemaError:
        return every, following
    before = (other.last for other in known if other is not block and other.first <= block.first)
    numbers = [max(before, default=0), *codes.chunks.tolist()]
    ends = (codes.chunks[0], codes.chunks[-1])
    if ends != (block.first, block.last) or any(a >= b for a, b in pairwise(numbers)):
        return every, following
    if not rows:
        return [], following
    rows = [row for row in rows if isinstance(row[1], int) and _is_sound(index, row[2])]
    expected = blocks.coded(index, rows, codes.frame)
    at = np.searchsorted(codes.chunks, expected.chunks).clip(max=len(codes) - 1)
    same = codes.chunks[at] == expected.chunks
    same &= codes.keys[at] == expected.keys
    same &= (codes.levels[at] == expected.levels).all(axis=1)
    same &= (codes.signs[:, at] == expected.signs).all(axis=0)
    return expected.chunks[~same].tolist(), following


def _is_sound(index: Index, vector: SqlValue) -> bool:
    """Whether it can be used; else it is found to be wrong itself."""
    if not isinstance(vector, bytes) or len(vector) != index.dimension * vectors.FLOAT_BYTES:
        return False
    floats = np.frombuffer(vector, "<f4")
    with np.errstate(invalid="ignore", over="ignore"):
        return bool(abs(np.linalg.norm(floats.astype(np.float64)) - 1.0) < UNIT_TOLERANCE)


def space_of(index: Index) -> Space:
    """The embedding space that *index* was made with, whether its model is here or not."""
    return Space(index.model, index.dimension, index.space)


def _keys(index: Index, start: int, most: int) -> Plan[list[int]]:
    table, key = f"main.{index.key_table}", "key"
    if not index.source.mapped:
        table = f"main.{quote(index.source.table)}"
        key = index.source.column(index.source.key[0])
    found = yield Statement(KEYS.format(table=table, key=key), (start, most))
    return [int(str(key)) for (key,) in found]


def _is_stale(space: Space, parts: Sequence[_Part], text: str) -> bool:
    """Whether chunks are of another text; where their spans make no sense, that is not known."""
    if not all(isinstance(p.start, int) and isinstance(p.stop, int) for p in parts):
        return False
    spans = (text[part.start : part.stop] for part in parts)
    same = (
        space.key("document", span) == part.digest for span, part in zip(spans, parts, strict=True)
    )
    return not all(same) or max(part.stop for part in parts) < len(text)


def _follow(parts: Sequence[_Part], length: int) -> bool:
    """Whether chunks are numbered from 0, and go on from each other through the whole text."""
    if [part.ordinal for part in parts] != list(range(len(parts))):
        return False
    if not all(isinstance(p.start, int) and isinstance(p.stop, int) for p in parts):
        return False
    ends = parts[0].start == 0 and parts[-1].stop == length
    return ends and all(a.start < b.start <= a.stop < b.stop for a, b in pairwise(parts))


def _compare_words(
    index: Index,
    found: RowFaults,
    texts: Mapping[int, str],
    chunks: Mapping[SqlValue, Sequence[_Part]],
    encoding: str,
) -> Plan[None]:
    """Note the chunks of rows with these *texts* whose words are missing, or of another text."""
    expected = {
        part.chunk: (key, text[part.start : part.stop])
        for key, text in texts.items()
        for part in chunks.get(key, ())
    }
    asked = (json.dumps(list(expected)),)
    stored = {
        chunk: text.decode(encoding, "replace")
        for chunk, text in (yield Statement(WORDS.format(index.word_table), asked))
        if isinstance(text, bytes)
    }
    wrong = {chunk: each for chunk, each in expected.items() if stored.get(chunk) != each[1]}
    waits = yield from waiting_among(index, {key for key, _ in wrong.values()})
    for chunk, (key, text) in wrong.items():
        if key not in waits:
            (found.words if chunk in stored else found.wordless)[chunk] = text


def waiting_among(index: Index, keys: Iterable[SqlValue]) -> Plan[set[SqlValue]]:
    """Those of *keys* that wait."""
    asked = list(keys)
    if not asked:
        return set()
    sql = AMONG_WAITING.format(waiting.nowhere(index, "sqlembed_ours"))
    return {key for (key,) in (yield Statement(sql, (json.dumps(asked),)))}
