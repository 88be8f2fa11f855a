"""The triggers that put a changed row on the queue, in core SQL: every SQLite program runs them.

They live in the application's database and fire in programs that never heard of
sqlembed, so they call no function of ours and touch no virtual table. Conflicts are
handled with upserts: ``INSERT OR ...`` would take over the outer statement's
conflict handling.
"""

from sqlembed.index.source import Source, mapped_names
from sqlembed.plan import quote

GENERATION = (
    "(CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER) << 22) | (random() & 4194303)"
)
"""Milliseconds since 1970 above 22 random bits: new with every change, the newest highest."""


def triggers(index_id: int, source: Source) -> dict[str, str]:
    """The CREATE TRIGGER statements of an index, by the triggers' names."""
    old, new = _enqueue(index_id, source, "OLD"), _enqueue(index_id, source, "NEW")
    of = "" if source.reads_generated else f" OF {', '.join(map(quote, source.used))}"
    bodies = {
        "insert": ("INSERT", _present(source, "NEW"), new),
        "delete": ("DELETE", _present(source, "OLD"), old),
        "text": (f"UPDATE{of}", f"({_changed(source.used)}) AND {_present(source, 'NEW')}", new),
        # Not OF the key: `UPDATE t SET rowid = 5` changes an INTEGER PRIMARY KEY unnamed.
        "key": ("UPDATE", f"{_changed(source.key)}", old + new),
    }
    return {
        f"sqlembed_{index_id}_{what}": (
            f"CREATE TRIGGER main.sqlembed_{index_id}_{what} AFTER {event}"
            f" ON {quote(source.table)} WHEN {condition} BEGIN {statements}END"
        )
        for what, (event, condition, statements) in bodies.items()
    }


def queue_all(index_id: int, source: Source) -> str:
    """A script that puts every row of the table on the queue."""
    table = f"main.{quote(source.table)}"
    if not source.mapped:
        return _insert_queue(index_id, source.column(source.key[0]), f" FROM {table} WHERE true")
    columns = ", ".join(source.column(name) for name in source.key)
    names = ", ".join(mapped_names(source))
    present = " AND ".join(f"{source.column(name)} IS NOT NULL" for name in source.key)
    return (
        f"INSERT INTO sqlembed_key_{index_id}({names}) SELECT {columns} FROM {table}"
        f" WHERE {present} ON CONFLICT DO NOTHING; "
        + _insert_queue(index_id, "key", f" FROM sqlembed_key_{index_id} WHERE true")
    )


def _enqueue(index_id: int, source: Source, row: str) -> str:
    values = [f"{row}.{quote(name)}" for name in source.key]
    if not source.mapped:
        return _insert_queue(index_id, values[0], " WHERE true")
    names = mapped_names(source)
    same = " AND ".join(f"{name} = {value}" for name, value in zip(names, values, strict=True))
    present = " AND ".join(f"{value} IS NOT NULL" for value in values)
    keys = f"sqlembed_key_{index_id}"
    return (
        f"INSERT INTO {keys}({', '.join(names)}) SELECT {', '.join(values)} WHERE {present}"
        " ON CONFLICT DO NOTHING; " + _insert_queue(index_id, "key", f" FROM {keys} WHERE {same}")
    )


def _insert_queue(index_id: int, key: str, rest: str) -> str:
    return (
        "INSERT INTO sqlembed_queue(index_id, key, generation)"
        f" SELECT {index_id}, {key}, {GENERATION}"
        f"{rest} ON CONFLICT(index_id, key) DO UPDATE SET generation = excluded.generation; "
    )


def _present(source: Source, row: str) -> str:
    """SQLite allows NULL in most primary keys; such a row has no name and is not indexed."""
    if not source.mapped:
        return "true"
    return " AND ".join(f"{row}.{quote(name)} IS NOT NULL" for name in source.key)


def _changed(columns: tuple[str, ...]) -> str:
    """Whether any column changed, seen byte by byte: 'Hello' to 'HELLO', 1 to 1.0."""
    return " OR ".join(
        f"OLD.{name} IS NOT NEW.{name} COLLATE BINARY"
        f" OR typeof(OLD.{name}) IS NOT typeof(NEW.{name})"
        for name in map(quote, columns)
    )
