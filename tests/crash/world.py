"""A database to crash: its table, and the changes that an application makes to it.

Imports nothing but the standard library, since Debian's Python runs it too.
"""

import json
import random
from dataclasses import asdict, dataclass
from pathlib import Path

VOCABULARY = (  # noqa: SIM905
    "sun moon sea salt bread wine dinner train late milk winter river stone light garden letter"
    " music window bridge market island forest paper morning silver engine harbour candle"
).split()
KEYS = 400
"""Different keys that rows have."""
BUSY_SECONDS = 30.0

TABLES = {
    "integer": "CREATE TABLE t(id INTEGER PRIMARY KEY, code INTEGER UNIQUE, body)",
    "text": "CREATE TABLE t(id TEXT PRIMARY KEY, code INTEGER UNIQUE, body)",
    "without rowid": (
        "CREATE TABLE t(id TEXT PRIMARY KEY, code INTEGER UNIQUE, body) WITHOUT ROWID"
    ),
    "two columns": "CREATE TABLE t(a TEXT, b INTEGER, code INTEGER UNIQUE, body, PRIMARY KEY(a, b))",
}
"""By the shape of the key."""


@dataclass(frozen=True)
class World:
    """What a database is made with."""

    directory: str
    journal: str = "wal"
    shape: str = "integer"
    words: bool = True
    mode: str = "deferred"
    tokens: int | None = None
    """Of a chunk; None for the model's."""
    rows: int = 150
    table: str = "t"
    """Its name, and the index's; only a database of an older format has another."""

    @property
    def path(self) -> str:
        """The database file."""
        return f"{self.directory}/app.db"

    @property
    def options(self) -> str:
        """The index's, as JSON."""
        chosen: dict[str, object] = {"mode": self.mode}
        if not self.words:
            chosen["words"] = None
        if self.tokens:
            chosen["tokens"] = self.tokens
        return json.dumps(chosen)

    @property
    def key(self) -> tuple[str, ...]:
        """The key's columns."""
        return ("a", "b") if self.shape == "two columns" else ("id",)

    @property
    def id_sql(self) -> str:
        """SQL for a row's id, as a search shows it."""
        return "json_array(a, b)" if len(self.key) > 1 else "id"

    def values(self, number: int) -> tuple[object, ...]:
        """The key of the row of this number."""
        if self.shape == "integer":
            return (number,)
        return (f"k{number % 9}", number) if len(self.key) > 1 else (f"k{number}",)

    def save(self) -> None:
        """Write it down, for other programs and for who looks at what failed."""
        Path(self.directory, "world.json").write_text(json.dumps(asdict(self)))

    @classmethod
    def load(cls, directory: str) -> "World":
        """Read what :meth:`save` wrote."""
        facts = json.loads(Path(directory, "world.json").read_text())
        return cls(**{**facts, "directory": directory})


def text(chance: random.Random) -> str | None:
    """A row's text: often short, sometimes of several chunks, empty, or none."""
    kind = chance.random()
    if kind < 0.05:
        return None
    if kind < 0.08:
        return ""
    length = chance.randint(20, 60) if kind < 0.25 else chance.randint(1, 9)
    tag = f"tag{chance.randrange(1 << 40)}"
    return " ".join([tag, *chance.choices(VOCABULARY, k=length)])


def changes(
    world: World, chance: random.Random, count: int
) -> list[tuple[str, tuple[object, ...]]]:
    """So many random statements that change the table."""
    return [_change(world, chance) for _ in range(count)]


def _change(world: World, chance: random.Random) -> tuple[str, tuple[object, ...]]:
    key = world.values(chance.randrange(1, KEYS))
    columns, marks = ", ".join(world.key), ", ".join("?" * len(world.key))
    here = " AND ".join(f"{name} = ?" for name in world.key)
    body, code = text(chance), chance.randrange(2 * KEYS)
    new = f"INTO t({columns}, code, body) VALUES ({marks}, ?, ?)"
    kind = chance.random()
    if kind < 0.3:
        return f"INSERT OR IGNORE {new}", (*key, code, body)
    if kind < 0.4:
        return f"INSERT OR REPLACE {new}", (*key, code, body)
    if kind < 0.5:
        upsert = f"INSERT {new} ON CONFLICT DO UPDATE SET body = excluded.body"
        return upsert, (*key, code, body)
    if kind < 0.75:
        return f"UPDATE t SET body = ? WHERE {here}", (body, *key)
    if kind < 0.8:
        other = world.values(chance.randrange(1, KEYS))
        moved = ", ".join(f"{name} = ?" for name in world.key)
        return f"UPDATE OR REPLACE t SET {moved} WHERE {here}", (*other, *key)
    if kind < 0.85:
        return "UPDATE t SET body = body || ' more' WHERE code % 50 = ?", (code % 50,)
    return f"DELETE FROM t WHERE {here}", key
