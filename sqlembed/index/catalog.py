"""Which indexes there are: reading, adding and dropping them, and our tables' migrations."""

import json
import re
from dataclasses import dataclass, replace
from functools import cache, lru_cache

from sqlembed import resources
from sqlembed.errors import NotFoundError, SchemaError
from sqlembed.index.options import Lasting
from sqlembed.index.source import Source
from sqlembed.plan import Boundary, Plan, Row, Statement

HAS_CATALOG = "SELECT 1 FROM main.sqlite_schema WHERE type = 'table' AND name = 'sqlembed_catalog'"
APPLIED = "SELECT max(number) FROM main.sqlembed_migration"
RECORD = "INSERT INTO main.sqlembed_migration(number, name) VALUES (?, ?)"
SELECT = """
SELECT index_id, name, source, model, space, dimension, mode, triggers, {}
FROM main.sqlembed_catalog ORDER BY name"""
LATER_COLUMNS = (
    (2, ("options", "'{}'")),
    (3, ("state", "'live'")),
    (3, ("replaces", "NULL")),
    (3, ("from_generation", "NULL")),
    (4, ("stamp", "NULL")),
)
"""The format since which the catalog has a column, its name, and what stands for it before. To read
an older format must not change it: the database may be read-only, or belong to programs with
an older sqlembed."""
BACKLOG_SINCE, BLOCKS_SINCE = 3, 4
"""The formats with ``sqlembed_backlog`` and ``sqlembed_block``."""
STILL = """
SELECT 1 FROM main.sqlembed_catalog WHERE index_id = ? AND space = ? AND state <> 'dropped'"""
TRIGGERS = "SELECT name, sql FROM main.sqlite_schema WHERE type = 'trigger' AND name IN ({})"
MIGRATION = re.compile(r"(\d{4})_(\w+)")


@dataclass(frozen=True)
class Index:
    """One index, as its row of the catalog says."""

    index_id: int
    name: str
    """What users call it; a shadow is called as what it replaces."""
    source: Source
    model: str
    space: str
    dimension: int
    mode: str
    triggers: dict[str, str]
    options: Lasting
    state: str = "live"
    """``live``; ``shadow`` while it is filled, to take another's place; ``dropped`` while what it
    leaves is removed. Only those that are live are searched and shown."""
    replaces: int | None = None
    """The number of the index whose place a shadow is to take."""
    from_generation: int | None = None
    """The last generation that a shadow was filled with."""
    stamp: int | None = None
    """Stands for the state of its stored vectors; None where none was stored since format 4."""
    has_backlog: bool = True
    """Whether the database has the table; not so in formats 1 and 2, which are only read."""
    has_blocks: bool = True
    """Likewise; not so before format 4."""

    @property
    def chunk_table(self) -> str:
        """The ordinary table of chunks and vectors: the truth."""
        return f"sqlembed_chunk_{self.index_id}"

    @property
    def word_table(self) -> str:
        """The FTS5 table of the chunks' words, likewise; where there is ``words``."""
        return f"sqlembed_word_{self.index_id}"

    @property
    def words(self) -> str | None:
        """The tokenizer of its words; None if it keeps none."""
        return self.options.words

    @property
    def key_table(self) -> str:
        """The table that maps other keys to integers; not every index has one."""
        return f"sqlembed_key_{self.index_id}"

    @property
    def import_table(self) -> str:
        """The table of vectors by digest that are being imported; mostly there is none."""
        return f"sqlembed_import_{self.index_id}"

    @property
    def anew(self) -> str:
        """The statement that makes it anew."""
        model = "" if self.replaces is None else f", '{self.model}'"
        return f"SELECT sqlembed_reindex('{self.name}'{model})"


def has_catalog() -> Plan[bool]:
    """Whether this database has our tables."""
    return bool((yield Statement(HAS_CATALOG)))


def listed() -> Plan[list[Index]]:
    """Every index of the database that is searched."""
    return [index for index in (yield from every()) if index.state == "live"]


def every() -> Plan[list[Index]]:
    """Every index of the database, also those that are not searched yet, or no more."""
    if not (yield from has_catalog()):
        return []
    number = yield from check_format()
    later = (name if number >= since else old for since, (name, old) in LATER_COLUMNS)
    rows = yield Statement(SELECT.format(", ".join(later)))
    indexes = [
        replace(_index(row), has_backlog=number >= BACKLOG_SINCE, has_blocks=number >= BLOCKS_SINCE)
        for row in rows
    ]
    names = {index.index_id: index.name for index in indexes}
    return [
        replace(index, name=names[index.replaces]) if index.replaces in names else index
        for index in indexes
    ]


def shadow_of(index: Index) -> Plan[Index | None]:
    """What is to take the place of *index*, if anything is."""
    for each in (yield from every()):
        if each.replaces == index.index_id:
            return each
    return None


def find(name: str) -> Plan[Index]:
    """The index called *name*, whatever the case of its letters.

    :raises NotFoundError: there is none
    """
    indexes = yield from listed()
    for index in indexes:
        if index.name.lower() == name.lower():
            return index
    names = ", ".join(index.name for index in indexes)
    raise NotFoundError(
        f"no index is called {name!r}; the indexes are {names}"
        if names
        else f"no index is called {name!r}; this database has none yet:"
        " SELECT sqlembed_index(table, column)"
    )


def now(index: Index) -> Plan[Index | None]:
    """*index* as the catalog has it now; None if it is gone."""
    return (yield from numbered(index.index_id))


def numbered(index_id: int | None) -> Plan[Index | None]:
    """The index of that number, whatever its state; None if there is none."""
    return next((each for each in (yield from every()) if each.index_id == index_id), None)


def still(index: Index) -> Plan[bool]:
    """Whether *index* is there as it was, asked within a transaction that writes to it."""
    return bool((yield Statement(STILL, (index.index_id, index.space))))


def gone(index: Index) -> NotFoundError:
    """What says that *index* was there when the call began, and is no more."""
    return NotFoundError(
        f"index {index.name} was dropped or replaced by another meanwhile; look at sqlembed_status,"
        " and call it again"
    )


def is_watched(index: Index) -> Plan[bool]:
    """Whether the triggers of *index* still are what they were made."""
    marks = ", ".join("?" * len(index.triggers))
    rows = yield Statement(TRIGGERS.format(marks), tuple(index.triggers))
    return bool(rows) and {str(name): sql for name, sql in rows} == index.triggers


def check_watched(index: Index) -> Plan[None]:
    """See that the triggers of *index* still are what they were made.

    :raises SchemaError: the table was rebuilt, renamed or dropped, so changes were missed
    """
    if not (yield from is_watched(index)):
        raise SchemaError(
            f"index {index.name} no longer watches table {index.source.table}: the table was"
            " renamed, rebuilt or dropped, and changes may have been missed. Make the index anew"
            f" (texts that stayed the same keep their vectors): {index.anew}"
        )


def bring_forward() -> Plan[None]:
    """Bring our tables, if there are any, to the newest format, in a transaction of its own."""
    if (yield from has_catalog()) and (yield from check_format()) < _migrations()[-1][0]:
        yield Boundary.BEGIN
        yield from migrate()  # looks at the format again: another may have come first
        yield Boundary.COMMIT


def migrate() -> Plan[None]:
    """Bring our tables to the newest format, each step with its record, within a transaction."""
    applied = 0
    if (yield from has_catalog()):
        applied = yield from check_format()
    for number, name, script in _migrations():
        if number > applied:
            yield Statement(script)
            yield Statement(RECORD, (number, name))


def check_format() -> Plan[int]:
    """The format of our tables here.

    :raises SchemaError: a newer sqlembed has changed them
    """
    rows = yield Statement(APPLIED)
    applied, newest = int(str(rows[0][0] or 0)), _migrations()[-1][0]
    if applied > newest:
        raise SchemaError(
            f"this database has format {applied} of sqlembed's tables, and this sqlembed knows"
            f" formats up to {newest}; upgrade sqlembed"
        )
    return applied


@lru_cache(maxsize=64)
def _index(row: Row) -> Index:
    """What a row of the catalog says; each statement asks, and most find it as it was."""
    index_id, name, source, model, space, dimension, mode, triggers, options, *rest = row
    state, replaces, from_generation, stamp = rest
    try:
        watched, width = Source.from_json(str(source)), int(str(dimension))
        made, lasting = dict(json.loads(str(triggers))), Lasting.from_json(str(options))
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise SchemaError(
            f"the row of index {name!s} in sqlembed_catalog is damaged ({error}); restore the row"
            f" from a backup of the database, or give the index up: DELETE FROM sqlembed_catalog"
            f" WHERE index_id = {index_id!s}, then SELECT sqlembed_repair() and make it again with"
            " sqlembed_index()"
        ) from error
    return Index(
        int(str(index_id)),
        str(name),
        watched,
        str(model),
        str(space),
        width,
        str(mode),
        made,
        lasting,
        str(state),
        replaces if isinstance(replaces, int) else None,
        from_generation if isinstance(from_generation, int) else None,
        stamp if isinstance(stamp, int) else None,
    )


@cache
def _migrations() -> list[tuple[int, str, str]]:
    found = []
    for path in sorted(resources.directory("migrations").glob("*.sql")):
        match = MIGRATION.fullmatch(path.stem)
        assert match, path
        found.append((int(match[1]), match[2], path.read_text(encoding="utf-8")))
    return found
