"""What is wrong with an index, by kind: of its tables, of each row of the table it watches.

Only reads. A part at a time, each of which is true of one moment; the whole is as well where a
statement runs it, since that sees the database as it was when it began.
"""

import re
from collections.abc import Iterable
from typing import Literal, NamedTuple

from sqlembed.engine.interface import Engine
from sqlembed.errors import ModelError, NotFoundError
from sqlembed.index import catalog, faults, pairs, samples, vec0
from sqlembed.index import source as sources
from sqlembed.index.catalog import Index
from sqlembed.index.triggers import triggers
from sqlembed.plan import Plan, Row, SqlValue, Statement, StatementError

REPAIR = "sqlembed_repair() has them wait for a flush"
MEANINGS = {
    "missing": f"rows with a text that are not indexed and do not wait; {REPAIR}",
    "orphaned": "rows that are indexed but not in the table any more; a flush removes them",
    "stale": f"rows that are indexed with another text than they have; {REPAIR}",
    "disordered": f"rows whose chunks do not follow each other through the text; {REPAIR}",
    "unreadable": "rows on which the expression fails, so that they cannot be compared",
    "wrong width": f"chunks whose vector has not the dimensions of the index; {REPAIR}",
    "not finite": f"chunks whose vector holds NaN or infinity; {REPAIR}",
    "not unit": f"chunks whose vector is not of unit length; {REPAIR}",
    "codes": "chunks whose codes are missing or wrong; sqlembed_repair() makes all anew",
    "words": "chunks whose words are missing, too many or wrong; sqlembed_repair() mends them",
    "keys": "keys of rows that are neither in the table nor indexed; a flush removes them",
    "triggers": "triggers that are missing or changed; sqlembed_repair() makes them anew, and"
    " compares every row",
    "tables": "tables of the index that are missing, damaged or not needed; sqlembed_repair()"
    " makes and drops them",
    "sample": "the sample that the model reads first is missing, so that nothing can be embedded;"
    " sqlembed_reindex() with the model's name, without what stands behind @, draws another",
    "left over": "tables, triggers, codes and waiting rows of an index that is not in the catalog;"
    " sqlembed_repair() removes them",
}
"""What each kind counts, and what to do. The others say it themselves."""

HERE = "SELECT name FROM main.sqlite_schema WHERE type = 'table' AND name IN ({})"
OURS = """
SELECT type, name FROM main.sqlite_schema
WHERE type IN ('table', 'trigger') AND name GLOB 'sqlembed_*[0-9]*'"""
NUMBERED = re.compile(r"sqlembed_(?:(?:chunk|word|key|import)_(\d+)|code_(\d+)(?:_\d+)?)", re.ASCII)
TRIGGER = re.compile(r"sqlembed_(\d+)_(?:insert|delete|text|key)", re.ASCII)
UNKNOWN = """
SELECT count(*), min(index_id) FROM main.{}
WHERE index_id NOT IN (SELECT index_id FROM main.sqlembed_catalog)"""
KEY_SHOWN = """
SELECT typeof({0}) = 'text', CASE typeof({0}) WHEN 'text' THEN CAST({0} AS BLOB) ELSE {0} END
FROM main.{1} WHERE key = ?"""
PROBE_WORDS = """
SELECT (SELECT rowid FROM main.{0} WHERE rowid = 1), (SELECT id FROM main.{0}_content LIMIT 1),
    (SELECT id FROM main.{0}_docsize LIMIT 1), (SELECT id FROM main.{0}_data LIMIT 1),
    (SELECT segid FROM main.{0}_idx LIMIT 1), (SELECT v FROM main.{0}_config WHERE k = 'version')"""


COLUMNS = ("name", "kind", "count", "example", "meaning")


class Finding(NamedTuple):
    """A row of ``sqlembed_check``."""

    name: str | None
    """The index; None for what belongs to none."""
    kind: str
    total: int
    example: SqlValue
    """The id of a row, the number of a chunk or code, or a name."""
    meaning: str


class Place(NamedTuple):
    """A part of the check of one index."""

    step: Literal["tables", "sets", "codes", "rows", "chunks"]
    start: int = sources.LOWEST
    most: int = faults.SLICE_ROWS


FIRST = Place("tables")


def chosen(name: str | None) -> Plan[list[Index]]:
    """The index called *name* and what is to take its place; all that are not dropped, for None."""
    every = [index for index in (yield from catalog.every()) if index.state != "dropped"]
    if name is None:
        return every
    found = yield from catalog.find(name)
    return [each for each in every if found.index_id in (each.index_id, each.replaces)]


def check(engine: Engine, name: str | None) -> Plan[list[Finding]]:
    """Everything that is wrong with an index, or with all of them; nothing if all is well."""
    found: list[Finding] = []
    for index in (yield from chosen(name)):
        place: Place | None = FIRST
        while place is not None:
            new, place = yield from part(engine, index, place)
            found = merged([*found, *new])
    if name is None:
        found += yield from left_over()
    return found


def merged(found: Iterable[Finding]) -> list[Finding]:
    """*found* with what was found of one kind in several parts put together."""
    by_kind: dict[tuple[str | None, str], Finding] = {}
    for each in found:
        known = by_kind.get((each.name, each.kind))
        total = each.total + (known.total if known else 0)
        by_kind[each.name, each.kind] = (known or each)._replace(total=total)
    return list(by_kind.values())


def part(engine: Engine, index: Index, place: Place) -> Plan[tuple[list[Finding], Place | None]]:
    """Check one part of *index*; what is wrong, and the next part, if there is any."""
    here = yield from usable(index)
    if place.step == "tables":
        found = yield from _tables(engine, index, here)
        return found, Place("sets") if index.chunk_table in here else None
    readable = (yield from sources.unreadable(index.source)) is None and (
        not index.source.mapped or index.key_table in here
    )
    if place.step == "sets":
        return (yield from _sets(index, here, rows=readable)), Place("codes")
    if place.step == "codes":
        wrong, block = yield from faults.codes(index, place.start)
        found = _finding(index, "codes", len(wrong), wrong[0] if wrong else None)
        if block is not None:
            return found, Place("codes", block)
        return found, Place("rows") if readable else Place("chunks")
    if place.step == "rows":
        slice_ = yield from faults.rows(
            index,
            place.start,
            place.most,
            words=index.words is not None and index.word_table in here,
        )
        found = yield from _of_rows(index, slice_)
        following = slice_.following
        if following is None:
            return found, Place("chunks")
        return found, Place("rows", following, slice_.rows)
    chunk_faults = yield from faults.chunks(index, place.start)
    found = yield from _of_chunks(index, chunk_faults)
    following = chunk_faults.following
    return found, None if following is None else Place("chunks", following)


def usable(index: Index) -> Plan[set[str]]:
    """The tables of *index* that are there, and can be read."""
    names = (index.chunk_table, index.word_table, index.key_table)
    marks = ", ".join("?" * len(names))
    found = {str(name) for (name,) in (yield Statement(HERE.format(marks), names))}
    if index.word_table in found:
        try:
            (row,) = yield Statement(PROBE_WORDS.format(index.word_table))
            if row[-1] is None:  # its next reader cannot open it
                found.discard(index.word_table)
        except StatementError:
            found.discard(index.word_table)
    return found


def _finding(
    index: Index, kind: str, count: SqlValue, example: SqlValue, meaning: str | None = None
) -> list[Finding]:
    number = int(str(count))
    if not number:
        return []
    return [Finding(index.name, kind, number, example, meaning or MEANINGS[kind])]


def _tables(engine: Engine, index: Index, here: set[str]) -> Plan[list[Finding]]:
    needed = {index.chunk_table}
    needed |= {index.word_table} if index.words is not None else set()
    needed |= {index.key_table} if index.source.mapped else set()
    spare = set((yield from vec0.tables(index))) if index.has_blocks else set()
    wrong = sorted((needed ^ here) | spare)
    found = _finding(index, "tables", len(wrong), wrong[0] if wrong else None)
    changed = yield from changed_triggers(index)
    found += _finding(index, "triggers", len(changed), changed[0] if changed else None)
    reason = yield from sources.unreadable(index.source)
    if reason is not None:
        meaning = f"the table that the index watches cannot be read ({reason}); if it is there:"
        meaning += f" SELECT sqlembed_reindex('{index.name}'), which says more; or sqlembed_drop()"
        found += _finding(index, "table", 1, index.source.table, meaning)
    if (yield from samples.is_missing(index)):
        found += _finding(index, "sample", 1, index.model)
    return found + _model(engine, index)


def changed_triggers(index: Index) -> Plan[list[str]]:
    """The triggers of *index* that are not as the catalog has them."""
    names = list(index.triggers) or list(triggers(index.index_id, index.source))
    marks = ", ".join("?" * len(names))
    rows = yield Statement(catalog.TRIGGERS.format(marks), tuple(names))
    stored = {str(name): sql for name, sql in rows}
    return [name for name in names if stored.get(name) != index.triggers.get(name)]


def _model(engine: Engine, index: Index) -> list[Finding]:
    try:
        space = engine.space(index.model)
    except (ModelError, NotFoundError) as error:
        meaning = (
            f"nothing can be embedded, nor told whether the vectors are of this model: {error}"
        )
        return _finding(index, "model", 1, index.model, meaning)
    if space.fingerprint == index.space:
        return []
    meaning = (
        f"the vectors are of {index.model} as it was (space {index.space[:12]}), and the one that"
        f" is installed is another (space {space.fingerprint[:12]}); make the index anew: SELECT"
        f" sqlembed_reindex('{index.name}')"
    )
    return _finding(index, "model", 1, index.model, meaning)


def _sets(index: Index, here: set[str], *, rows: bool) -> Plan[list[Finding]]:
    found: list[Finding] = []
    if rows:
        ((count, key),) = yield Statement(
            f"SELECT count(DISTINCT key), min(key) {pairs.orphaned(index)}"
        )
        found += _finding(index, "orphaned", count, (yield from shown(index, key)))
        if index.source.mapped:
            ((count, key),) = yield Statement(
                f"SELECT count(*), min(key) {pairs.empty_keys(index)}"
            )
            found += _finding(index, "keys", count, (yield from shown(index, key)))
            found += yield from _unmapped(index)
    if index.words is not None and index.word_table in here:
        for count, chunk in (yield from pairs.words_out_of_step(index)):
            found += _finding(index, "words", count, chunk)
    return found


def _unmapped(index: Index) -> Plan[list[Finding]]:
    identity = index.source.id_sql
    ((count, example),) = yield Statement(
        f"SELECT count(*), CAST({identity} AS BLOB) {pairs.unmapped(index)}"
    )
    encoding = yield from sources.text_encoding()
    text = example.decode(encoding, "replace") if isinstance(example, bytes) else None
    return _finding(index, "missing", count, text)


def shown(index: Index, key: SqlValue) -> Plan[SqlValue]:
    """The id of a row, as users see it; of a mapped one that is not known, its integer."""
    if not index.source.mapped or key is None:
        return key
    identity = sources.identity(sources.mapped_names(index.source))
    rows = yield Statement(KEY_SHOWN.format(identity, index.key_table), (key,))
    if not rows:
        return key
    is_text, value = rows[0]
    if not is_text or not isinstance(value, bytes):
        return value
    return value.decode((yield from sources.text_encoding()), "replace")


def _of_rows(index: Index, slice_: faults.RowFaults) -> Plan[list[Finding]]:
    found: list[Finding] = []
    for kind in ("missing", "stale", "disordered"):
        keys = getattr(slice_, kind)
        if keys:
            found += _finding(index, kind, len(keys), (yield from shown(index, keys[0])))
    if slice_.unreadable:
        key, reason = next(iter(slice_.unreadable.items()))
        meaning = f"{MEANINGS['unreadable']}: {reason}"
        example = yield from shown(index, key)
        found += _finding(index, "unreadable", len(slice_.unreadable), example, meaning)
    words = [*slice_.words, *slice_.wordless]
    return found + _finding(index, "words", len(words), words[0] if words else None)


def _of_chunks(index: Index, slice_: faults.VectorFaults) -> Plan[list[Finding]]:
    found: list[Finding] = []
    kinds = {
        "wrong width": slice_.width,
        "not finite": slice_.not_finite,
        "not unit": slice_.not_unit,
    }
    for kind, rows in kinds.items():
        if rows:
            found += _finding(index, kind, len(rows), (yield from shown(index, rows[0][1])))
    return found


def left_over() -> Plan[list[Finding]]:
    """What belongs to an index that is not in the catalog."""
    objects = yield from strays()
    found = [(len(objects), objects[0][1])] if objects else []
    every = yield from catalog.every()
    tables = ["sqlembed_backlog"] if not every or every[0].has_backlog else []
    tables += ["sqlembed_block"] if not every or every[0].has_blocks else []
    if (yield from catalog.has_catalog()):
        for table in tables:
            found += yield from _of_unknown(table)
    total = sum(count for count, _ in found)
    return [Finding(None, "left over", total, found[0][1], MEANINGS["left over"])] if total else []


def _of_unknown(table: str) -> Plan[list[tuple[int, SqlValue]]]:
    try:
        ((count, index_id),) = yield Statement(UNKNOWN.format(table))
    except StatementError:  # an older format, and no index
        return []
    return [(int(str(count)), index_id)] if count else []


def strays() -> Plan[list[Row]]:
    """Our tables and triggers, (type, name), of indexes that are not in the catalog."""
    if not (yield from catalog.has_catalog()):
        return []
    known = {index.index_id for index in (yield from catalog.every())}
    found: list[Row] = []
    for kind, name in (yield Statement(OURS)):
        match = (TRIGGER if kind == "trigger" else NUMBERED).fullmatch(str(name))
        if match and int(next(filter(None, match.groups()))) not in known:
            found.append((kind, name))
    return found
