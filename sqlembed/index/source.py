"""The application's table that an index reads: its key, its columns, and the text of its rows."""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from sqlembed.errors import InputError, NotFoundError, SchemaError
from sqlembed.plan import Plan, SqlValue, Statement, StatementError, quote

TABLE = """
SELECT name, type FROM pragma_table_list WHERE schema = 'main' AND lower(name) = lower(?)"""
TABLE_NAMES = """
SELECT name FROM pragma_table_list WHERE schema = 'main' AND type = 'table'
AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' AND name NOT LIKE 'sqlembed\\_%' ESCAPE '\\'
ORDER BY name"""
COLUMNS = "SELECT name, type, pk, hidden FROM pragma_table_xinfo(?, 'main')"
KEY_INDEX = "SELECT name FROM pragma_index_list(?, 'main') WHERE origin = 'pk'"
READABLE = "SELECT {}, ({}) FROM main.{} LIMIT 0"
COLLATIONS = "SELECT name, coll FROM pragma_index_xinfo(?, 'main') WHERE key"

STRINGS = re.compile(r"'(?:[^']|'')*'")
DOUBLE_QUOTED = re.compile(r'"((?:[^"]|"")*)"')
NOW = re.compile(
    r"'now'|\b(date|time|datetime|julianday|unixepoch)\s*\(\s*\)|\bstrftime\s*\([^,()]*\)", re.I
)
LOWEST, HIGHEST = -(1 << 63), (1 << 63) - 1
"""The integers of SQLite, and so the keys."""
SLICE = 500
"""Keys bound in one statement; SQLite allows at least 999 parameters."""


class Column(NamedTuple):
    """A column of the application's table."""

    name: str
    type: str
    key_position: int
    generated: bool


@dataclass(frozen=True)
class Source:
    """What an index needs to know of the table it reads."""

    table: str
    expression: str
    key: tuple[str, ...]
    """The primary key's columns."""
    collations: tuple[str, ...]
    """The collation of each of them."""
    mapped: bool
    """Whether keys are mapped to integers; not so for INTEGER PRIMARY KEY."""
    used: tuple[str, ...]
    """The columns that the expression may read."""
    reads_generated: bool
    """Whether one of these is generated, and so changes with any other column."""

    @classmethod
    def from_json(cls, text: str) -> "Source":
        """Read what :meth:`to_json` wrote."""
        facts: dict[str, Any] = {
            name: tuple(fact) if isinstance(fact, list) else fact
            for name, fact in json.loads(text).items()
        }
        return cls(**facts)

    def to_json(self) -> str:
        """Every fact, for the catalog."""
        return json.dumps(asdict(self), ensure_ascii=False)

    @property
    def id_sql(self) -> str:
        """SQL for the key as users see it: its value, or a JSON array of several."""
        return identity([self.column(name) for name in self.key])

    def has_keys_of(self, other: "Source") -> bool:
        """Whether a row has the same key in both."""
        return self._keys == other._keys

    def is_like(self, other: "Source") -> bool:
        """Whether both read the same text of the same rows."""
        return (self.table, self.expression, self._keys) == (
            other.table,
            other.expression,
            other._keys,
        )

    @property
    def _keys(self) -> tuple[object, ...]:
        return self.key, self.collations, self.mapped

    def column(self, name: str) -> str:
        """*name*, qualified so that nothing else can be meant."""
        return f"{quote(self.table)}.{quote(name)}"


def identity(columns: Sequence[str]) -> str:
    """SQL for what users see of a key: its value, or a JSON array of several (BLOBs as hex)."""
    if len(columns) == 1:
        return columns[0]
    shown = (f"CASE typeof({c}) WHEN 'blob' THEN hex({c}) ELSE {c} END" for c in columns)
    return f"json_array({', '.join(shown)})"


def inspect(table: str, expression: str) -> Plan[Source]:
    """Look at *table*, and check that *expression* gives one text for each of its rows.

    :raises NotFoundError: no such table or column
    :raises SchemaError: not an ordinary table of the main database, or it has no lasting key
    :raises InputError: the expression is not one that an index can keep true
    """
    name = yield from _table_name(table)
    rows = yield Statement(COLUMNS, (name,))
    columns = [Column(str(n), str(t), int(str(pk)), hidden in (2, 3)) for n, t, pk, hidden in rows]
    yield from _check_expression(name, columns, expression)
    used = [column for column in columns if _mentions(expression, column.name)]
    if not used:
        raise InputError(
            f"the expression {expression} reads no column of {name}, {_listed(columns)}"
        )
    key = sorted((c for c in columns if c.key_position), key=lambda column: column.key_position)
    if not key:
        raise SchemaError(
            f"table {name} has no primary key, and its rowids change at VACUUM, so an index cannot"
            " tell its rows apart; declare one, best an INTEGER PRIMARY KEY"
        )
    indexes = yield Statement(KEY_INDEX, (name,))
    collations: dict[SqlValue, SqlValue] = {}
    if indexes:
        for column, collation in (yield Statement(COLLATIONS, (indexes[0][0],))):
            collations[column] = collation
    return Source(
        table=name,
        expression=expression,
        key=tuple(column.name for column in key),
        collations=tuple(str(collations.get(column.name, "BINARY")) for column in key),
        # An INTEGER PRIMARY KEY DESC has an index of its own, and moves at VACUUM.
        mapped=bool(indexes) or len(key) > 1 or key[0].type.upper() != "INTEGER",
        used=tuple(column.name for column in used),
        reads_generated=any(column.generated for column in used),
    )


class Found(NamedTuple):
    """Rows of the application's table, by key; those that are gone are left out."""

    rows: dict[int, tuple[SqlValue, str | None]]
    """The id as users see it, and the text."""
    failed: dict[int, str]
    """Why the expression fails on a row."""


def read_rows(source: Source, key_table: str, keys: Iterable[int], encoding: str) -> Plan[Found]:
    """The id and the text of the rows with these keys.

    :param encoding: the database's text encoding, as Python names it
    """
    found = Found({}, {})
    columns = f"{_key(source, key_table)}, {_shown(source)}, CAST({_text(source)} AS BLOB)"
    parts = list(slices(keys))
    while parts:
        part = parts.pop()
        marks = ", ".join("?" * len(part))
        try:
            wanted = _among(source, key_table, marks)
            rows = yield Statement(_select(source, columns, wanted), tuple(part))
        except StatementError as error:
            # The expression fails on some row: find it, and read its neighbours.
            if len(part) == 1:
                found.failed[int(str(part[0]))] = str(error)
            else:
                middle = len(part) // 2
                parts += [part[:middle], part[middle:]]
            continue
        for key, is_text, shown, text in rows:
            # Bytes, decoded here: what is not valid text must not stop its neighbours.
            name = _decoded(shown, encoding) if is_text else shown
            found.rows[int(str(key))] = (name, _decoded(text, encoding))
    return found


def _decoded(value: SqlValue, encoding: str) -> str | None:
    return value.decode(encoding, "replace") if isinstance(value, bytes) else None


def unreadable(source: Source) -> Plan[str | None]:
    """Why no row of the table can be read here, whatever is in it; None if rows can be."""
    key = ", ".join(map(source.column, source.key))
    try:
        yield Statement(READABLE.format(key, source.expression, quote(source.table)))
    except StatementError as error:
        return str(error)
    return None


def orphans(source: Source, chunk_table: str, key_table: str, waits_not: str) -> str:
    """A query for the keys that are stored though the table has no such row, nor one that waits.

    :param waits_not: SQL that is true where ``sqlembed_ours.key`` does not wait
    """
    # Qualified by a name of ours: the table may have a column called key.
    ours = f"main.{key_table if source.mapped else chunk_table} AS sqlembed_ours"
    names = mapped_names(source) if source.mapped else ["key"]
    pairs = zip(names, source.key, strict=True)
    same = " AND ".join(f"{source.column(name)} = sqlembed_ours.{mine}" for mine, name in pairs)
    gone = f"NOT EXISTS (SELECT 1 FROM main.{quote(source.table)} WHERE {same})"
    return f"SELECT DISTINCT sqlembed_ours.key FROM {ours} WHERE {gone} AND {waits_not}"


def is_there(source: Source, table: str, key_table: str) -> str:
    """SQL that is true where the row of the key ``table.key`` exists: REPLACE deletes silently."""
    rows = f"main.{quote(source.table)}"
    if not source.mapped:
        return f"EXISTS (SELECT 1 FROM {rows} WHERE {source.column(source.key[0])} = {table}.key)"
    pairs = zip(mapped_names(source), source.key, strict=True)
    same = " AND ".join(f"{source.column(name)} = sqlembed_keys.{mine}" for mine, name in pairs)
    return (
        f"EXISTS (SELECT 1 FROM main.{key_table} AS sqlembed_keys JOIN {rows} ON {same}"
        f" WHERE sqlembed_keys.key = {table}.key)"
    )


def slices(values: Iterable[SqlValue]) -> Iterable[Sequence[SqlValue]]:
    """*values* in parts that fit one statement's bindings."""
    listed = list(values)
    return (listed[start : start + SLICE] for start in range(0, len(listed), SLICE))


def text_encoding() -> Plan[str]:
    """How the database stores text, as Python names it."""
    rows = yield Statement("PRAGMA main.encoding")
    return {"UTF-16le": "utf-16-le", "UTF-16be": "utf-16-be"}.get(str(rows[0][0]), "utf-8")


def texts(source: Source, key_table: str) -> str:
    """A query for the ``key`` and the ``text`` of the rows whose keys the JSON array ?1 lists."""
    columns = f"{_key(source, key_table)} AS key, {_text(source)} AS text"
    return _select(source, columns, _among(source, key_table, "SELECT value FROM json_each(?1)"))


def _select(source: Source, columns: str, where: str) -> str:
    return f"SELECT {columns} FROM main.{quote(source.table)} WHERE {where}"


def _shown(source: Source) -> str:
    """SQL for whether the id as users see it is a text, and for that id, a text's as its bytes."""
    if not source.mapped:
        return f"false, {source.id_sql}"
    is_text = f"typeof({source.id_sql}) = 'text'"
    shown = f"CASE WHEN {is_text} THEN CAST({source.id_sql} AS BLOB) ELSE {source.id_sql} END"
    return f"{is_text}, {shown}"


def _text(source: Source) -> str:
    return f"CAST(({source.expression}) AS TEXT)"


def _key(source: Source, key_table: str) -> str:
    columns = [source.column(name) for name in source.key]
    if not source.mapped:
        return columns[0]
    pairs = zip(mapped_names(source), columns, strict=True)
    same = " AND ".join(f"{name} = {column}" for name, column in pairs)
    return f"(SELECT key FROM main.{key_table} WHERE {same})"


def _among(source: Source, key_table: str, keys: str) -> str:
    """SQL that is true of the rows with the *keys*, which are SQL too."""
    columns = ", ".join(source.column(name) for name in source.key)
    if not source.mapped:
        return f"{columns} IN ({keys})"
    names = ", ".join(mapped_names(source))
    return f"({columns}) IN (SELECT {names} FROM main.{key_table} WHERE key IN ({keys}))"


def mapped_names(source: Source) -> list[str]:
    """The key's columns as the key table calls them: k1, k2 and so on."""
    return [f"k{position}" for position in range(1, len(source.key) + 1)]


def _table_name(table: str) -> Plan[str]:
    rows = yield Statement(TABLE, (table,))
    if not rows:
        known = yield Statement(TABLE_NAMES)
        names = ", ".join(str(row[0]) for row in known) or "none"
        raise NotFoundError(
            f"the main database has no table {table!r}; its tables are {names}"
            " (a table of an attached database is indexed by a connection to that database)"
        )
    name, kind = (str(value) for value in rows[0])
    if kind != "table" or name.lower().startswith("sqlembed_"):
        raise SchemaError(
            f"{name} is {'a view' if kind == 'view' else 'not an ordinary table'}, which triggers"
            " cannot watch; index the table under it"
        )
    return name


def _check_expression(table: str, columns: list[Column], expression: str) -> Plan[None]:
    """Let SQLite judge by its own rules for generated columns; nothing is written."""
    names = {column.name.lower() for column in columns}
    for quoted in DOUBLE_QUOTED.findall(STRINGS.sub("", expression)):
        if quoted.replace('""', '"').lower() not in names:
            # SQLite would take it for a string.
            raise NotFoundError(f"no such column: {quoted} in {table}, {_listed(columns)}")
    _refuse_now(expression)
    declared = ", ".join(quote(column.name) for column in columns)
    text = quote("".join(["sqlembed_text", *("_" for name in names if "sqlembed_text" in name)]))
    check = f"EXPLAIN CREATE TABLE main.sqlembed_check({declared}, {text} AS ({expression}))"
    single = f"SELECT ({expression}) FROM main.{quote(table)} UNION ALL SELECT 1 LIMIT 0"
    for sql in (check, single):
        try:
            yield Statement(sql)
        except StatementError as error:
            reason = str(error).replace("generated columns", "index expressions")
            kind = NotFoundError if "no such column" in reason else InputError
            raise kind(
                f"the expression {expression} cannot be indexed: {reason}; it may use"
                f" deterministic functions and the row's own columns: {table}, {_listed(columns)}"
            ) from error


def _refuse_now(expression: str) -> None:
    """SQLite finds out that a time is the current one only when it runs."""
    if NOW.search(expression):
        raise InputError(
            f"the expression {expression} depends on the current time, so a row's text would change"
            " without the row; it may use deterministic functions and the row's own columns"
        )


def _mentions(expression: str, column: str) -> bool:
    """Whether *expression* may read *column*; too often yes costs a trigger, no is never wrong."""
    text = expression.lower()
    return column.lower() in text or quote(column).lower() in text


def _listed(columns: list[Column]) -> str:
    return "whose columns are " + ", ".join(column.name for column in columns)
