"""A new space beside the old: interrupted, raced, written to and searched in the middle."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from threading import Event, Thread

import apsw
import pytest
from harness import FakeModel, Sql

import sqlembed
from sqlembed.doors.plans import run
from sqlembed.engine.local import LocalEngine
from sqlembed.index import catalog, reindex, store

LATER = """SELECT sqlembed_reindex('t', '{}', '{{"backlog": "later"}}')"""
STATUS = "SELECT model, indexed, waiting, reindexing FROM sqlembed_status"
WAIT = """
SELECT key FROM sqlembed_queue WHERE index_id = 1
UNION SELECT key FROM sqlembed_backlog WHERE index_id = 1"""
LEFT = "SELECT name FROM sqlite_schema WHERE name GLOB 'sqlembed_*_1' OR name GLOB 'sqlembed_1_*'"


@pytest.fixture
def t(sql: Sql) -> Sql:
    """An index of twenty rows."""
    sql("CREATE TABLE t(id INTEGER PRIMARY KEY, body)")
    for n in range(1, 21):
        sql("INSERT INTO t VALUES (?, ?)", n, f"row number {n}")
    sql("SELECT sqlembed_index('t', 'body')")
    return sql


@pytest.fixture
def other(t: Sql, engine: LocalEngine) -> Iterator[Sql]:
    """Another connection to the same database."""
    made = Sql(sqlembed.connect(t.db_path, engine=engine), engine)
    yield made
    made.close()


@contextmanager
def before_embedding(
    monkeypatch: pytest.MonkeyPatch, act: Callable[[list[str]], object], role: str, model: str
) -> Iterator[None]:
    """Do something, once, when *model* is asked."""
    embed, done = FakeModel.embed, []

    def watched(self: FakeModel, texts: list[str], asked: str) -> object:
        if (asked, self.manifest.name) == (role, model) and not done:
            done.append(1)
            act(texts)
        return embed(self, texts, asked)

    with monkeypatch.context() as patch:
        patch.setattr(FakeModel, "embed", watched)
        yield
    assert done


def nearest(sql: Sql, text: str) -> list[tuple[int, int]]:
    return sql("SELECT id, distance < 1e-6 FROM knn('t', ?, 1)", text)


def as_the_table(sql: Sql, model: str) -> None:
    """Every row is stored once, with the model's vector of its text, and nothing else is there."""
    number = sql.one("SELECT index_id FROM sqlembed_catalog")
    chunks = f"sqlembed_chunk_{number}"
    wrong = f"SELECT id FROM t LEFT JOIN {chunks} ON key = id WHERE vector IS NOT embed(body, ?)"
    assert sql(wrong, model) == []
    assert sql.one(f"SELECT count(*) FROM {chunks}") == sql.one("SELECT count(*) FROM t")
    assert sql(STATUS)[0][0] == model
    assert sql("SELECT DISTINCT index_id FROM sqlembed_queue WHERE index_id > 0") in ([], [number])
    assert sql("SELECT count(*) FROM sqlembed_backlog") == [0]


@pytest.mark.parametrize("call", ["flush", "reindex"])
def test_a_search_sees_one_moment(
    t: Sql, other: Sql, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    t("PRAGMA journal_mode = WAL")
    t(LATER.format("other"))
    statement = {"flush": "SELECT sqlembed_flush()", "reindex": "SELECT sqlembed_reindex('t', 'other')"}[call]  # fmt: skip
    with before_embedding(monkeypatch, lambda _: other(statement), "query", "fake"):
        found = t("SELECT (SELECT max(distance) FROM knn('t', body, 1)) < 1e-6 FROM t WHERE id < 4")
    assert found == [1, 1, 1]
    assert t(STATUS) == [("other", 20, 0, None)]
    with before_embedding(monkeypatch, lambda _: None, "query", "other"):
        assert t("SELECT id FROM knn('t', 'row number 7', 1)") == [7]
    assert other(LEFT) == []
    as_the_table(t, "other")


@pytest.mark.parametrize("function", ["knn", "search", "more_like"])
def test_rows_that_wait_are_of_the_same_moment(
    t: Sql, other: Sql, monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    t("PRAGMA journal_mode = WAL")
    t(LATER.format("other"))
    t("UPDATE t SET body = 'newest of all' WHERE id = 1")
    swap = lambda _: other("SELECT sqlembed_reindex('t', 'other')")  # noqa: E731
    query = 1 if function == "more_like" else "newest of all"
    with before_embedding(monkeypatch, swap, "document", "fake"):
        found = t(f"SELECT id FROM {function}('t', ?, 20)", query)
    assert sorted(found) == list(range(2 if function == "more_like" else 1, 21))
    assert t("SELECT model FROM sqlembed_status") == ["other"]


def test_a_rollback_journal_makes_it_wait_for_the_search(
    t: Sql, other: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    t("PRAGMA journal_mode = DELETE")
    other.db.set_busy_timeout(0)
    t(LATER.format("other"))

    def swap(_: list[str]) -> None:
        with pytest.raises(apsw.BusyError):
            other("SELECT sqlembed_flush()")

    with before_embedding(monkeypatch, swap, "query", "fake"):
        assert nearest(t, "row number 7") == [(7, 1)]
    assert other("SELECT sqlembed_flush()") == [20]
    assert t(STATUS) == [("other", 20, 0, None)]
    as_the_table(t, "other")


@pytest.mark.doors("apsw")
@pytest.mark.parametrize("journal", ["WAL", "DELETE"])
def test_killed_in_the_middle_the_same_call_goes_on(
    t: Sql, engine: LocalEngine, monkeypatch: pytest.MonkeyPatch, journal: str
) -> None:
    t(f"PRAGMA journal_mode = {journal}")
    monkeypatch.setattr("sqlembed.index.flush.FIRST_TEXTS", 2)
    monkeypatch.setattr("sqlembed.index.flush.PART_CHARACTERS", 60)
    monkeypatch.setattr("sqlembed.index.flush._texts_at_once", {})
    embed = FakeModel.embed
    asked = 0

    def die(self: FakeModel, texts: list[str], role: str) -> object:
        nonlocal asked
        asked += self.manifest.name == "wide"
        if asked == 3:
            os._exit(9)
        return embed(self, texts, role)

    t("SELECT count(*) FROM t")
    child = os.fork()
    if not child:
        FakeModel.embed = die  # type: ignore[method-assign, assignment]
        again = sqlembed.connect(t.db_path, engine=LocalEngine())
        again.execute("SELECT sqlembed_reindex('t', 'wide')").fetchall()
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    (model, _, _, becomes), = t(STATUS)  # fmt: skip
    assert (model, becomes) == ("fake", "wide, 25 % filled")
    assert nearest(t, "row number 7") == [(7, 1)]
    FakeModel.texts.clear()
    assert t.one("SELECT sqlembed_reindex('t', 'wide')") == 15
    assert len([text for text in FakeModel.texts if text.startswith("row")]) == 15
    as_the_table(t, "wide")


@pytest.mark.doors("apsw")
def test_killed_after_the_swap_the_next_writer_frees_the_rest(
    t: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "FREED_ROWS", 7)
    t("SELECT count(*) FROM t")
    child = os.fork()
    if not child:
        store._drop_rest = lambda _: os._exit(9)  # type: ignore[assignment]
        again = sqlembed.connect(t.db_path, engine=LocalEngine())
        again.execute("SELECT sqlembed_reindex('t', 'wide')").fetchall()
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    assert t(STATUS) == [("wide", 20, 0, None)]
    assert len(t(LEFT)) == 2
    assert nearest(t, "row number 7") == [(7, 1)]
    t("SELECT sqlembed_flush()")
    assert t(LEFT) == []
    as_the_table(t, "wide")


def test_a_writer_that_never_stops_does_not_put_it_off(
    t: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reindex, "FEW_ROWS", 2)
    plain = apsw.Connection(t.db_path)
    embed = FakeModel.embed
    calls = 0

    def writing(self: FakeModel, texts: list[str], role: str) -> object:
        nonlocal calls
        calls += self.manifest.name == "wide"
        for n in range(3 if self.manifest.name == "wide" else 0):
            plain.execute("INSERT INTO t(body) VALUES (?)", (f"written {calls} {n}",))
        return embed(self, texts, role)

    monkeypatch.setattr(FakeModel, "embed", writing)
    t("SELECT sqlembed_reindex('t', 'wide')")
    monkeypatch.setattr(FakeModel, "embed", embed)
    plain.close()
    # The rows that it began with, what changed since, and once more when it had taken its place.
    assert calls == 1 + 1 + (reindex.MOST_ROUNDS - 1) + 1
    assert t("SELECT model, waiting, reindexing FROM sqlembed_status") == [("wide", 3, None)]
    assert nearest(t, f"written {calls} 2") == [(20 + 3 * calls, 1)]
    assert t.one("SELECT sqlembed_flush()") == 3
    as_the_table(t, "wide")


def test_what_changes_meanwhile_is_stored_in_the_old_one_too(
    t: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reindex, "BETWEEN_ROWS", 8)
    plain = apsw.Connection(t.db_path)
    waits: list[int] = []

    def look(_: list[str]) -> None:
        waits.append(plain.execute(f"SELECT count(*) FROM ({WAIT})").fetchall()[0][0])
        plain.execute("UPDATE t SET body = body || ' again' WHERE id <= 3")

    embed = FakeModel.embed

    def watched(self: FakeModel, texts: list[str], role: str) -> object:
        if self.manifest.name == "wide":
            look(texts)
        return embed(self, texts, role)

    with monkeypatch.context() as patch:
        patch.setattr(FakeModel, "embed", watched)
        # Twenty rows and what changed since: three times, and three rows in the end.
        assert t.one("SELECT sqlembed_reindex('t', 'wide')") >= 20 + 3
    plain.close()
    assert waits[:3] == [0, 0, 0]
    t("SELECT sqlembed_flush()")
    as_the_table(t, "wide")


def test_a_second_caller_may_be_faster(t: Sql, other: Sql, monkeypatch: pytest.MonkeyPatch) -> None:
    call = "SELECT sqlembed_reindex('t', 'wide')"
    with before_embedding(monkeypatch, lambda _: other(call), "document", "wide"):
        assert t.one(call) == 0
    as_the_table(t, "wide")


@pytest.mark.parametrize(
    ("model", "told"), [("other", None), ("wide", "NotFoundError: index t was")]
)
def test_another_may_be_done_before_a_call_begins(
    t: Sql, other: Sql, monkeypatch: pytest.MonkeyPatch, model: str, told: str | None
) -> None:
    load, calls = LocalEngine.load, count()

    def slow(self: LocalEngine, name: str) -> None:
        if next(calls) == 0:
            other("SELECT sqlembed_reindex('t', ?)", model)
        load(self, name)

    monkeypatch.setattr(LocalEngine, "load", slow)
    if told:
        assert t.error("SELECT sqlembed_reindex('t', 'other')").startswith(told)
    else:
        assert t("SELECT sqlembed_reindex('t', 'other')") == [0]
    assert next(calls) > 0
    as_the_table(t, model)


@pytest.mark.parametrize(
    ("call", "becomes"),
    [
        ("SELECT sqlembed_reindex('t', 'other')", ["other"]),
        ("SELECT sqlembed_reindex('t')", ["fake"]),
        ("SELECT sqlembed_drop('t')", []),
    ],
)
@pytest.mark.parametrize("flush", [False, True])
def test_one_that_was_given_up_ends_in_words_or_quietly(
    t: Sql,
    other: Sql,
    monkeypatch: pytest.MonkeyPatch,
    call: str,
    becomes: list[str],
    flush: bool,
) -> None:
    t(LATER.format("wide"))
    with before_embedding(monkeypatch, lambda _: other(call), "document", "wide"):
        if flush:
            assert t.one("SELECT sqlembed_flush()") == 0
        else:
            error = t.error("SELECT sqlembed_reindex('t', 'wide')")
            assert error.startswith("SchemaError: what index t was to become was superseded")
    assert t("SELECT model FROM sqlembed_status WHERE reindexing IS NULL") == becomes
    assert t("SELECT model FROM sqlembed_catalog") == becomes
    if becomes:
        as_the_table(t, *becomes)
        t("INSERT INTO t(body) VALUES ('afterwards')")
        assert t("SELECT id FROM knn('t', 'afterwards', 1)") == [21]


def test_a_flush_of_the_old_one_under_way_loses_nothing(
    t: Sql, other: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    t("UPDATE t SET body = 'changed' WHERE id = 5")
    call = "SELECT sqlembed_reindex('t', 'wide')"
    with before_embedding(monkeypatch, lambda _: other(call), "document", "fake"):
        t("SELECT sqlembed_flush('t')")
    as_the_table(t, "wide")


def test_rows_written_in_the_middle_go_to_both(
    t: Sql, other: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = apsw.Connection(t.db_path)

    def write(_: list[str]) -> None:
        plain.execute("INSERT INTO t VALUES (21, 'inserted')")
        plain.execute("UPDATE t SET body = 'changed' WHERE id = 2")
        plain.execute("UPDATE t SET id = 103 WHERE id = 3")
        plain.execute("DELETE FROM t WHERE id = 4")
        plain.execute("REPLACE INTO t VALUES (5, 'replaced')")
        for text, key in (("inserted", 21), ("changed", 2), ("row number 3", 103), ("replaced", 5)):
            assert nearest(other, text) == [(key, 1)]
        assert nearest(other, "row number 4") != [(4, 1)]

    with before_embedding(monkeypatch, write, "document", "wide"):
        t("SELECT sqlembed_reindex('t', 'wide')")
    plain.close()
    as_the_table(t, "wide")


def test_a_table_that_was_rebuilt(t: Sql) -> None:
    t("BEGIN")
    t("CREATE TABLE copy(id INTEGER PRIMARY KEY, more, body)")
    t("INSERT INTO copy SELECT id, NULL, body FROM t WHERE id > 2")
    t("DROP TABLE t")
    t("ALTER TABLE copy RENAME TO t")
    t("COMMIT")
    t("INSERT INTO t(body) VALUES ('unseen')")
    assert "SELECT sqlembed_reindex('t')" in t.error("SELECT id FROM knn('t', 'x')")
    assert "SELECT sqlembed_reindex('t')" in t("SELECT problem FROM sqlembed_status")[0]
    FakeModel.texts.clear()
    t("""SELECT sqlembed_reindex('t', NULL, '{"backlog": "later"}')""")
    assert "no longer watches" in t.error("SELECT id FROM knn('t', 'x')")
    assert t.one("SELECT sqlembed_flush('t')") == 19
    assert FakeModel.texts == ["unseen"]
    as_the_table(t, "fake")
    assert nearest(t, "unseen") == [(21, 1)]
    assert t(LEFT) == []


def test_a_table_or_column_that_was_renamed(t: Sql) -> None:
    t("ALTER TABLE t RENAME TO later")
    assert t.one("SELECT sqlembed_reindex('t')") == 20
    assert t("SELECT name, source, problem FROM sqlembed_status") == [("t", "later", None)]
    t("ALTER TABLE later RENAME COLUMN body TO content")
    error = t.error("SELECT sqlembed_reindex('t')")
    assert error.startswith("NotFoundError: index t: ")
    assert """sqlembed_alter('t', '{"expression": "...\"}')""" in error
    t("DROP TABLE later")
    assert "SELECT sqlembed_drop('t')" in t.error("SELECT sqlembed_reindex('t')")
    t("SELECT sqlembed_drop('t')")


def test_a_shadow_whose_table_is_rebuilt_is_made_anew(t: Sql) -> None:
    t(LATER.format("wide"))
    t("SELECT sqlembed_flush('t', 5)")
    t("CREATE TABLE copy(id INTEGER PRIMARY KEY, body)")
    t("INSERT INTO copy SELECT * FROM t")
    t("DROP TABLE t")
    t("ALTER TABLE copy RENAME TO t")
    assert "sqlembed_reindex('t', 'wide')" in t.error("SELECT sqlembed_flush()")
    assert t.one("SELECT sqlembed_reindex('t', 'wide')") == 20
    as_the_table(t, "wide")


@pytest.mark.doors("apsw")
def test_weights_that_changed_under_the_same_name(t: Sql, fake_data: Path) -> None:
    path = fake_data / "models" / "fake.toml"
    path.write_text(path.read_text().replace('query = ""', 'query = "now with a prompt: "'))
    engine = LocalEngine()
    again = Sql(sqlembed.connect(t.db_path, engine=engine))
    assert "SELECT sqlembed_reindex('t')" in again.error("SELECT id FROM knn('t', 'x')")
    assert again.one("SELECT sqlembed_reindex('t')") == 20
    assert again("SELECT id FROM knn('t', 'row number 4', 1)") == [4]
    assert again.one("SELECT space FROM sqlembed_catalog") == engine.space("fake").fingerprint
    again.close()
    engine.close()


@pytest.mark.doors("apsw")
def test_what_was_drained_takes_its_place(
    t: Sql, engine: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    t(LATER.format("wide"))
    shadow = next(each for each in run(t.db, catalog.every()) if each.state == "shadow")
    assert (shadow.name, shadow.replaces) == ("t", 1)
    assert [each.index_id for each in run(t.db, catalog.listed())] == [1]
    assert run(t.db, reindex.advance(engine, shadow)) is False
    run(t.db, reindex.flush.drain(engine, shadow, 15))
    assert run(t.db, reindex.take_place(shadow, whatever_waits=True)) is False
    run(t.db, reindex.flush.drain(engine, shadow))
    monkeypatch.setattr(reindex, "FEW_ROWS", 2)
    t("INSERT INTO t(body) VALUES ('a'), ('b'), ('c')")
    assert run(t.db, reindex.take_place(shadow)) is False
    assert run(t.db, reindex.take_place(shadow, whatever_waits=True)) is True
    assert t("SELECT model, waiting FROM sqlembed_status") == [("wide", 3)]
    assert run(t.db, reindex.advance(engine, shadow)) is True
    as_the_table(t, "wide")
    t("SELECT sqlembed_drop('t')")
    assert run(t.db, reindex.advance(engine, shadow)) is False


@pytest.mark.doors("apsw")
@pytest.mark.parametrize("journal", ["WAL", "DELETE"])
def test_under_load_no_search_fails_or_mixes(t: Sql, engine: LocalEngine, journal: str) -> None:
    t(f"PRAGMA journal_mode = {journal}")
    problems: list[object] = []
    ended = Event()

    def connected() -> apsw.Connection:
        db = sqlembed.connect(t.db_path, engine=engine)
        db.set_busy_timeout(20_000)
        return db

    def search() -> None:
        db = connected()
        while not ended.is_set():
            for row in (7, 8, 9):
                text = f"row number {row}"
                found = db.execute("SELECT id, distance FROM knn('t', ?, 1)", (text,)).fetchall()
                if [(key, distance < 1e-6) for key, distance in found] != [(row, True)]:
                    problems.append(found)
        db.close()

    def write() -> None:
        db = apsw.Connection(t.db_path)
        db.set_busy_timeout(20_000)
        for n in count():
            # Without a pause it would leave no other the lock of a rollback journal.
            if ended.wait(0.005):
                break
            db.execute("INSERT OR REPLACE INTO t VALUES (?, ?)", (10 + n % 40, f"written {n}"))
            if n % 3 == 0:
                db.execute("DELETE FROM t WHERE id = ?", (10 + n * 7 % 40,))
        db.close()

    def change() -> None:
        db = connected()
        for model in ("wide", "fake", "wide"):
            db.execute("SELECT sqlembed_reindex('t', ?)", (model,)).fetchall()
        db.close()

    def flush() -> None:
        db = connected()
        while not ended.wait(0.005):
            db.execute("SELECT sqlembed_flush()").fetchall()
        db.close()

    def watched(work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as problem:
            problems.append(problem)

    threads = [Thread(target=watched, args=(work,)) for work in (search, write, flush)]
    for thread in threads:
        thread.start()
    watched(change)
    ended.set()
    for thread in threads:
        thread.join()
    assert problems == []
    t("SELECT sqlembed_flush()")
    as_the_table(t, "wide")
