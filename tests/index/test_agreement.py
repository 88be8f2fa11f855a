"""Whatever is written, in whatever order, knn agrees with brute force over the table."""

from pathlib import Path
from tempfile import TemporaryDirectory

import hypothesis.strategies as st
import numpy as np
import pytest
from harness import FakeModel, Sql, small_blocks
from hypothesis import HealthCheck, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

import sqlembed
from sqlembed.engine.cache import Cache
from sqlembed.engine.local import LocalEngine

WORDS = ["sun", "moon", "sea", "salt", "bread", "wine"]
TEXTS = st.one_of(
    st.none(),
    st.lists(st.sampled_from(WORDS), min_size=0, max_size=4).map(" ".join),
    st.lists(st.sampled_from(WORDS), min_size=20, max_size=40).map(" ".join),  # several chunks
)
KEYS = st.integers(1, 8)
PLAIN = '{"rerank": 0}'
TABLES = {
    "integer": "CREATE TABLE t(id INTEGER PRIMARY KEY, code UNIQUE, body)",
    "text": "CREATE TABLE t(id TEXT PRIMARY KEY, code UNIQUE, body)",
}


class Agreement(RuleBasedStateMachine):
    """Random writes through two connections, transactions and flushes, and a search after each."""

    @initialize(
        table=st.sampled_from(sorted(TABLES)),
        mode=st.sampled_from(["deferred", "immediate"]),
        recursive=st.booleans(),
        journal=st.sampled_from(["WAL", "DELETE"]),
    )
    def start(self, table: str, mode: str, recursive: bool, journal: str) -> None:
        self.directory = TemporaryDirectory()
        path = str(Path(self.directory.name) / "app.db")
        self.engine = LocalEngine(Cache(":memory:", 1 << 24))
        self.connections = [sqlembed.connect(path, engine=self.engine) for _ in range(2)]
        self.sqls = [Sql(connection) for connection in self.connections]
        self.sql = self.sqls[0]
        self.sql(f"PRAGMA journal_mode = {journal}")
        for sql in self.sqls:
            sql(f"PRAGMA recursive_triggers = {recursive}")
        self.sql(TABLES[table])
        self.sql("SELECT sqlembed_index('t', 'body', ?)", f'{{"mode": "{mode}"}}')

    def writer(self, second: bool) -> Sql:
        """The second connection, unless the first holds a transaction."""
        return self.sqls[1] if second and not self.connections[0].in_transaction else self.sql

    @rule(key=KEYS, text=TEXTS, second=st.booleans())
    def insert(self, key: int, text: str | None, second: bool) -> None:
        self.writer(second)("INSERT OR IGNORE INTO t VALUES (?, ?, ?)", key, key, text)

    @rule(key=KEYS, code=KEYS, text=TEXTS)
    def replace(self, key: int, code: int, text: str | None) -> None:
        self.sql("INSERT OR REPLACE INTO t VALUES (?, ?, ?)", key, code, text)

    @rule(key=KEYS, text=TEXTS)
    def upsert(self, key: int, text: str | None) -> None:
        self.sql(
            "INSERT INTO t VALUES (?1, NULL, ?2) ON CONFLICT(id) DO UPDATE SET body = ?2", key, text
        )

    @rule(key=KEYS, text=TEXTS, second=st.booleans())
    def update(self, key: int, text: str | None, second: bool) -> None:
        self.writer(second)("UPDATE t SET body = ? WHERE id = ?", text, key)

    @rule(key=KEYS, new=KEYS)
    def move(self, key: int, new: int) -> None:
        self.sql("UPDATE OR REPLACE t SET id = ? WHERE id = ?", new, key)

    @rule(key=KEYS, second=st.booleans())
    def delete(self, key: int, second: bool) -> None:
        self.writer(second)("DELETE FROM t WHERE id = ?", key)

    @rule()
    def begin(self) -> None:
        if not self.connections[0].in_transaction:
            self.sql("BEGIN")

    @rule(keep=st.booleans())
    def end(self, keep: bool) -> None:
        if self.connections[0].in_transaction:
            self.sql("COMMIT" if keep else "ROLLBACK")

    @rule(second=st.booleans())
    def flush(self, second: bool) -> None:
        self.writer(second)("SELECT sqlembed_flush()")

    @rule()
    def vacuum(self) -> None:
        if not self.connections[0].in_transaction:
            self.sql("VACUUM")

    @invariant()
    def knn_agrees_with_brute_force(self) -> None:
        expected = self.brute_force("sun sea")
        found = self.sql("SELECT CAST(id AS TEXT), distance FROM knn('t', 'sun sea', 50)")
        assert {id_: pytest.approx(d, abs=1e-5) for id_, d in found} == expected
        assert [d for _, d in found] == sorted(d for _, d in found)
        searched = self.sql(f"SELECT CAST(id AS TEXT) FROM search('t', 'sun sea', 50, '{PLAIN}')")
        assert sorted(searched) == sorted(expected)
        if expected:
            some = sorted(distance for id_, distance in expected.items() if int(id_) <= 5)[:2]
            among = "id IN (SELECT id FROM t WHERE CAST(id AS INTEGER) <= 5)"
            found = self.sql(f"SELECT distance FROM knn('t', 'sun sea', 2) WHERE {among}")
            assert found == [pytest.approx(distance, abs=1e-5) for distance in some]
            nearest = min(expected.values())
            assert self.sql("SELECT distance FROM knn('t', 'sun sea', 1)")[0] == pytest.approx(
                nearest, abs=1e-5
            )

    def brute_force(self, question: str) -> dict[str, float]:
        """The distance of every row's best chunk, from nothing but the table."""
        query = self.vector(question)
        rows = self.sql("SELECT CAST(id AS TEXT), body FROM t WHERE body IS NOT NULL")
        return {
            id_: min(
                1 - float(query @ self.vector(part.text))
                for part in self.engine.chunk([body], None)[0]
            )
            for id_, body in rows
        }

    def vector(self, text: str) -> np.ndarray:
        return np.frombuffer(self.engine.embed([text], None, "document")[0], "<f4")

    def teardown(self) -> None:
        for connection in self.connections:
            connection.close(force=True)
        self.engine.close()
        self.directory.cleanup()


@pytest.mark.parametrize("exact", [True, False], ids=["exact", "codes"])
def test_knn_agrees_with_brute_force(
    fake_data: Path, monkeypatch: pytest.MonkeyPatch, exact: bool
) -> None:
    if not exact:
        small_blocks(monkeypatch)
    run_state_machine_as_test(
        Agreement,
        settings=settings(
            max_examples=60,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
    assert FakeModel.texts
