"""The triggers that put a changed row on the queue, in core SQL: every SQLite program runs them.

They live in the application's database and fire in programs that never heard of
sqlembed, so they call no function of ours and touch no virtual table. They append to
a log, the cheapest write there is; an application's bulk insert pays for every step here.
"""

from sqlembed.index.source import Source, mapped_names
from sqlembed.plan import quote

QUEUE = "INSERT INTO sqlembed_queue(index_id, key)"


def triggers(index_id: int, source: Source) -> dict[str, str]:
    """The CREATE TRIGGER statements of an index, by the triggers' names."""
    old, new = _enqueue(index_id, source, "OLD"), _enqueue(index_id, source, "NEW")
    of = "" if source.reads_generated else f" OF {', '.join(map(quote, source.used))}"
    bodies = {
        "insert": ("INSERT", "", new),
        "delete": ("DELETE", "", old),
        "text": (f"UPDATE{of}", f" WHEN {_changed(source.used)}", new),
        # Not OF the key: `UPDATE t SET rowid = 5` changes an INTEGER PRIMARY KEY unnamed.
        "key": ("UPDATE", f" WHEN {_changed(source.key)}", old + new),
    }
    return {
        f"sqlembed_{index_id}_{what}": (
            f"CREATE TRIGGER main.sqlembed_{index_id}_{what} AFTER {event}"
            f" ON {quote(source.table)}{condition} BEGIN {statements}END"
        )
        for what, (event, condition, statements) in bodies.items()
    }


def every_key(index_id: int, source: Source) -> tuple[str, str, str]:
    """Where every row's key is: a statement to run first, or none; the table, and its column."""
    table = f"main.{quote(source.table)}"
    if not source.mapped:
        return "", table, source.column(source.key[0])
    keys = f"sqlembed_key_{index_id}"
    columns = [source.column(name) for name in source.key]
    return _insert_key(keys, source, columns, f" FROM {table}"), f"main.{keys}", "key"


def _enqueue(index_id: int, source: Source, row: str) -> str:
    values = [f"{row}.{quote(name)}" for name in source.key]
    if not source.mapped:
        return f"{QUEUE} VALUES ({index_id}, {values[0]}); "
    keys = f"sqlembed_key_{index_id}"
    pairs = zip(mapped_names(source), values, strict=True)
    same = " AND ".join(f"{name} = {value}" for name, value in pairs)
    return (
        f"{_insert_key(keys, source, values, '')}"
        f"{QUEUE} SELECT {index_id}, key FROM {keys} WHERE {same}; "
    )


def _insert_key(keys: str, source: Source, values: list[str], rest: str) -> str:
    # SQLite allows NULL in most primary keys; such a row has no name and is not indexed.
    # Not INSERT OR IGNORE: in a trigger that takes over the outer statement's handling.
    present = " AND ".join(f"{value} IS NOT NULL" for value in values)
    return (
        f"INSERT INTO {keys}({', '.join(mapped_names(source))})"
        f" SELECT {', '.join(values)}{rest} WHERE {present} ON CONFLICT DO NOTHING; "
    )


def _changed(columns: tuple[str, ...]) -> str:
    """Whether any column changed, seen byte by byte: 'Hello' to 'HELLO', 1 to 1.0."""
    return " OR ".join(
        f"OLD.{name} IS NOT NEW.{name} COLLATE BINARY"
        f" OR typeof(OLD.{name}) IS NOT typeof(NEW.{name})"
        for name in map(quote, columns)
    )
