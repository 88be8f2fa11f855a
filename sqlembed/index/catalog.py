"""Which indexes there are: reading, adding and dropping them, and our tables' migrations."""

import json
import re
from dataclasses import dataclass

from sqlembed import resources
from sqlembed.errors import NotFoundError, SchemaError
from sqlembed.index.options import Lasting
from sqlembed.index.source import Source
from sqlembed.plan import Plan, Row, Statement

HAS_CATALOG = "SELECT 1 FROM main.sqlite_schema WHERE type = 'table' AND name = 'sqlembed_catalog'"
APPLIED = "SELECT max(number) FROM main.sqlembed_migration"
RECORD = "INSERT INTO main.sqlembed_migration(number, name) VALUES (?, ?)"
SELECT = """
SELECT index_id, name, source, model, space, dimension, mode, triggers, {}
FROM main.sqlembed_catalog ORDER BY name"""
OPTIONS_SINCE = 2
"""The format with the column ``options``. To read an older one must not change it: the database
may be read-only, or belong to programs with an older sqlembed."""
TRIGGERS = "SELECT name, sql FROM main.sqlite_schema WHERE type = 'trigger' AND name IN ({})"
MIGRATION = re.compile(r"(\d{4})_(\w+)")


@dataclass(frozen=True)
class Index:
    """One index, as its row of the catalog says."""

    index_id: int
    name: str
    source: Source
    model: str
    space: str
    dimension: int
    mode: str
    triggers: dict[str, str]
    options: Lasting

    @property
    def chunk_table(self) -> str:
        """The ordinary table of chunks and vectors: the truth."""
        return f"sqlembed_chunk_{self.index_id}"

    @property
    def code_table(self) -> str:
        """The ``vec0`` table of codes, rebuildable from the truth."""
        return f"sqlembed_code_{self.index_id}"

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


def has_catalog() -> Plan[bool]:
    """Whether this database has our tables."""
    return bool((yield Statement(HAS_CATALOG)))


def listed() -> Plan[list[Index]]:
    """Every index of the database."""
    if not (yield from has_catalog()):
        return []
    options = "options" if (yield from check_format()) >= OPTIONS_SINCE else "'{}'"
    return [_index(row) for row in (yield Statement(SELECT.format(options)))]


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


def check_watched(index: Index) -> Plan[None]:
    """See that the triggers of *index* still are what they were made.

    :raises SchemaError: the table was rebuilt, renamed or dropped, so changes were missed
    """
    marks = ", ".join("?" * len(index.triggers))
    rows = yield Statement(TRIGGERS.format(marks), tuple(index.triggers))
    if {str(name): sql for name, sql in rows} != index.triggers:
        raise SchemaError(
            f"index {index.name} no longer watches table {index.source.table}: the table was"
            " renamed, rebuilt or dropped, and changes may have been missed. Make the index again"
            f" (vectors come from the cache): SELECT sqlembed_drop('{index.name}'),"
            " then sqlembed_index()"
        )


def migrate() -> Plan[None]:
    """Bring our tables to the newest format, each step with its record."""
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


def _index(row: Row) -> Index:
    index_id, name, source, model, space, dimension, mode, triggers, options = row
    return Index(
        int(str(index_id)),
        str(name),
        Source.from_json(str(source)),
        str(model),
        str(space),
        int(str(dimension)),
        str(mode),
        json.loads(str(triggers)),
        Lasting.from_json(str(options)),
    )


def _migrations() -> list[tuple[int, str, str]]:
    found = []
    for path in sorted(resources.directory("migrations").glob("*.sql")):
        match = MIGRATION.fullmatch(path.stem)
        assert match, path
        found.append((int(match[1]), match[2], path.read_text(encoding="utf-8")))
    return found
