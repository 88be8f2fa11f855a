"""Remember vectors, scores and token vectors by content, so that the model sees each text once.

Owns one database file, shared by every process of the user. What goes wrong with
that file (locked, full, damaged, read-only) is noted in ``problem`` and costs
speed, never an answer.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from threading import Lock
from typing import Any, Literal, NamedTuple, TypeVar

import apsw

from sqlembed import resources, settings
from sqlembed.engine.space import Space

Kind = Literal["embedding", "score", "tokens"]
Intact = Callable[[bytes], bool]
Result = TypeVar("Result")

BUSY_MILLISECONDS = 2000
PAGE_BYTES = 16384
"""Large pages hold several vectors each, with little left over."""
FRESH_SECONDS = 3600
"""A use is written down only if the last one noted is older than this."""
EVICTED_ENTRIES = 256
EVICTED_TOKENS = 32
TOKENS_SHARE = 8
"""Of so many parts of the bound, the values of token vectors have one. Those beyond it use room
that nobody else needs, and go first: a text's vector has a sixth of their bytes, and more uses."""
LARGEST_SHARE = 64
"""A value that takes more than one part of so many of the bound is not stored."""

SELECT_ENTRY = "SELECT value, used FROM entry WHERE key = ?"
SELECT_SPACE = "SELECT id FROM space WHERE fingerprint = ?"
INSERT_SPACE = "INSERT INTO space(fingerprint, model) VALUES (?, ?) ON CONFLICT DO NOTHING"
# The first value stored wins, and everyone gets that one: the same text has the same vector.
INSERT_ENTRY = """
INSERT INTO entry(key, space, kind, value, used) VALUES (?, ?, ?, ?, ?)
ON CONFLICT(key) DO UPDATE SET used = excluded.used RETURNING value"""
TOUCH = "UPDATE entry SET used = ? WHERE key = ?"
FORGET = "DELETE FROM entry WHERE key = ?"
EVICT = "DELETE FROM entry WHERE id IN (SELECT id FROM entry ORDER BY used LIMIT ?)"
EVICT_TOKENS = """
DELETE FROM entry
WHERE id IN (SELECT id FROM entry WHERE kind = 'tokens' ORDER BY used LIMIT ?)"""
TOKENS_BYTES = "SELECT coalesce(sum(length(value)), 0) FROM entry WHERE kind = 'tokens'"
CLEAR_ALL = "DELETE FROM entry"
CLEAR_MODEL = "DELETE FROM entry WHERE space IN (SELECT id FROM space WHERE model = ?)"


class Holding(NamedTuple):
    """What the cache holds of one model and kind."""

    model: str
    kind: str
    entries: int
    bytes: int


class Cache:
    """The cache file; every method is safe from any thread."""

    def __init__(self, path: str, most_bytes: int) -> None:
        """Use the file at *path* (``:memory:`` for none), bounded by *most_bytes*."""
        self.path = path
        self.most_bytes = most_bytes
        self.problem: str | None = None
        """Why the file could not be used; None again once something was stored."""
        self._connection: apsw.Connection | None = None
        self._abandoned: list[apsw.Connection | None] = []
        self._lock = Lock()
        self._touched: dict[bytes, int] = {}
        self._spaces: dict[str, int] = {}

    def get(self, keys: Iterable[bytes], intact: int | Intact) -> dict[bytes, bytes]:
        """The values remembered, by key; absent keys are left out.

        :param intact: the bytes of a value, or what tells whether one is whole; one that
            is not is forgotten
        """
        if isinstance(intact, int):
            return self.get(keys, lambda value: len(value) == intact)
        return self._attempt(lambda db: self._get(db, keys, intact), {})

    def put(self, space: Space, kind: Kind, values: Mapping[bytes, bytes]) -> Mapping[bytes, bytes]:
        """Remember *values* by key.

        :returns: the values to use: where another process was first, its own
        """
        return self._attempt(lambda db: self._put(db, space, kind, values), values)

    def clear(self, model: str | None = None) -> int:
        """Forget everything, or what *model* made; returns the number of entries."""
        return self._attempt(lambda db: self._clear(db, model), 0)

    def holdings(self) -> list[Holding]:
        """Entries and bytes by model and kind."""
        query = resources.sql("cache_summary")
        return self._attempt(lambda db: [Holding(*row) for row in db.execute(query)], [])

    def after_fork(self) -> None:
        """Open the file anew in this child: SQLite forbids to carry a connection over."""
        self._lock = Lock()
        self._abandoned.append(self._connection)  # kept, since closing it would use it
        self._connection = None

    def close(self) -> None:
        """Write down the uses not noted yet, and close the file."""
        if self._connection is not None:
            self._attempt(self._write_touched, None)
        with self._lock:
            self._drop_connection()

    def _attempt(self, work: Callable[[apsw.Connection], Result], otherwise: Result) -> Result:
        with self._lock:
            try:
                result = work(self._connection or self._open())
            except (apsw.CorruptError, apsw.NotADBError) as error:
                self._set_aside(error)
                return otherwise
            except (apsw.Error, OSError) as error:
                self.problem = f"{self.path}: {error}"
                self._drop_connection()
                return otherwise
            return result

    def _open(self) -> apsw.Connection:
        if self.path != settings.MEMORY_ONLY:
            Path(self.path).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        connection = apsw.Connection(self.path)
        connection.set_busy_timeout(BUSY_MILLISECONDS)
        connection.transaction_mode = "IMMEDIATE"
        connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
        connection.execute("PRAGMA journal_mode = WAL")
        # A power cut may lose the newest entries; WAL keeps the file sound all the same.
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute(resources.sql("cache_schema"))
        self._connection = connection
        self._spaces.clear()
        return connection

    def _drop_connection(self) -> None:
        if self._connection is not None:
            self._connection.close(force=True)
            self._connection = None

    def _set_aside(self, error: apsw.Error) -> None:
        self.problem = f"{self.path} is damaged ({error}); it was set aside as {self.path}.damaged"
        self._drop_connection()
        try:
            Path(self.path).rename(f"{self.path}.damaged")
            for ending in ("-wal", "-shm"):
                Path(self.path + ending).unlink(missing_ok=True)
        except OSError as refused:
            self.problem = f"{self.path} is damaged ({error}) and cannot be moved: {refused}"

    def _get(
        self, db: apsw.Connection, keys: Iterable[bytes], intact: Intact
    ) -> dict[bytes, bytes]:
        found: dict[bytes, bytes] = {}
        now = int(time.time())
        for key in keys:
            rows: list[tuple[Any, ...]] = db.execute(SELECT_ENTRY, (key,)).fetchall()
            for value, used in rows:
                if not intact(value):
                    db.execute(FORGET, (key,))
                    continue
                found[key] = value
                if now - used > FRESH_SECONDS:
                    self._touched[key] = now
        return found

    def _put(
        self, db: apsw.Connection, space: Space, kind: Kind, values: Mapping[bytes, bytes]
    ) -> dict[bytes, bytes]:
        now = int(time.time())
        stored: dict[bytes, bytes] = {}
        with db:
            space_id = self._space_id(db, space)
            for key, value in values.items():
                if len(value) > self.most_bytes // LARGEST_SHARE:
                    stored[key] = value
                    continue
                row = (key, space_id, kind, value, now)
                stored[key] = db.execute(INSERT_ENTRY, row).get
            self._touch(db)
            self._evict(db)
        self.problem = None
        return stored

    def _space_id(self, db: apsw.Connection, space: Space) -> int:
        known = self._spaces.get(space.fingerprint)
        if known is None:
            db.execute(INSERT_SPACE, (space.fingerprint, space.model))
            known = int(db.execute(SELECT_SPACE, (space.fingerprint,)).get)
            self._spaces[space.fingerprint] = known
        return known

    def _write_touched(self, db: apsw.Connection) -> None:
        if self._touched:
            with db:
                self._touch(db)

    def _touch(self, db: apsw.Connection) -> None:
        db.executemany(TOUCH, ((used, key) for key, used in self._touched.items()))
        self._touched.clear()

    def _evict(self, db: apsw.Connection) -> None:
        while _used_bytes(db) > self.most_bytes:
            if db.execute(TOKENS_BYTES).get > self.most_bytes // TOKENS_SHARE:
                db.execute(EVICT_TOKENS, (EVICTED_TOKENS,))
            else:
                db.execute(EVICT, (EVICTED_ENTRIES,))
            if db.changes() == 0:
                return

    def _clear(self, db: apsw.Connection, model: str | None) -> int:
        if model is None:
            db.execute(CLEAR_ALL)
        else:
            db.execute(CLEAR_MODEL, (model,))
        return db.changes()


def _used_bytes(db: apsw.Connection) -> int:
    pages, free, size = (
        int(db.pragma(name)) for name in ("page_count", "freelist_count", "page_size")
    )
    return (pages - free) * size
