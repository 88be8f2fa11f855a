"""Rows that wait: leased, tried again, set aside; and searches over many of them."""

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from threading import Thread

import apsw
import pytest
from harness import FAILING, FakeModel, Sql

import sqlembed
from sqlembed.doors.plans import run
from sqlembed.engine.local import LocalEngine
from sqlembed.errors import ModelMissingError, ServiceError
from sqlembed.index import backlog, catalog
from sqlembed.index.catalog import Index

ROWS = "SELECT key, due, lease, takes, tries, error FROM sqlembed_backlog ORDER BY key"
STATUS = "SELECT indexed, waiting, leased, failed FROM sqlembed_status"


class Clock:
    """Seconds since 1970, as the backlog sees them."""

    def __init__(self) -> None:
        self.now = 1_800_000_000

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr("sqlembed.index.backlog.time", made)
    return made


@pytest.fixture
def later(sql: Sql) -> Sql:
    """An index of ten rows that all wait."""
    sql("CREATE TABLE t(id INTEGER PRIMARY KEY, body)")
    for n in range(1, 11):
        sql("INSERT INTO t VALUES (?, ?)", n, f"row number {n}")
    sql("""SELECT sqlembed_index('t', 'body', '{"backlog": "later"}')""")
    return sql


@pytest.fixture
def plain(later: Sql) -> Iterator[apsw.Connection]:
    """A connection without sqlembed to the same database."""
    made = apsw.Connection(later.db_path)
    yield made
    made.close()


def index_of(db: apsw.Connection) -> Index:
    return run(db, catalog.find("t"))


def test_a_text_on_which_the_model_fails_stops_no_other(later: Sql, clock: Clock) -> None:
    later("UPDATE t SET body = ? WHERE id = 4", FAILING)
    error = later.error("SELECT sqlembed_flush()")
    assert "InputError: index t: the row of key 4 cannot be stored: the fake model was" in error
    assert later(STATUS) == [(9, 1, 0, 1)]
    told = "the fake model was told to fail"
    assert later("SELECT last_error, coverage FROM sqlembed_status") == [(told, 0.9)]
    assert later(ROWS) == [(4, clock.now + 30, 0, 0, 1, told)]
    FakeModel.texts.clear()
    assert later.one("SELECT sqlembed_flush()") == 0
    assert later("SELECT id, coverage FROM knn('t', 'row number 9', 1)") == [(9, 0.9)]
    assert FAILING not in FakeModel.texts
    later("UPDATE t SET body = 'mended' WHERE id = 4")
    assert later("SELECT id, coverage FROM knn('t', 'mended', 1)") == [(4, 1.0)]
    assert later.one("SELECT sqlembed_flush()") == 1
    assert later(STATUS) == [(10, 0, 0, 0)]


def test_several_such_texts_are_each_found(later: Sql) -> None:
    later("UPDATE t SET body = body || ? WHERE id IN (1, 2, 10)", f" {FAILING}")
    assert "3 rows, first key 1 cannot be stored" in later.error("SELECT sqlembed_flush()")
    assert later(STATUS) == [(7, 3, 0, 3)]


def test_a_search_leaves_out_a_text_on_which_the_model_fails(later: Sql) -> None:
    later("UPDATE t SET body = ? WHERE id = 4", FAILING)
    assert later("SELECT id, coverage FROM knn('t', 'row number 9', 1)") == [(9, 0.9)]
    assert later("SELECT id, coverage FROM search('t', 'row number 9', 1)") == [(9, 0.9)]


def test_what_fails_is_tried_again_later_and_in_the_end_set_aside(clock: Clock, later: Sql) -> None:
    later("UPDATE t SET body = ? WHERE id = 4", FAILING)
    for tries, delay in enumerate((30, 120, 480), 1):
        assert "told to fail" in later.error("SELECT sqlembed_flush()")
        assert later("SELECT tries, due FROM sqlembed_backlog") == [(tries, clock.now + delay)]
        clock.now += delay - 1
        assert later.one("SELECT sqlembed_flush()") == 0
        clock.now += 1
    assert "told to fail" in later.error("SELECT sqlembed_flush()")
    assert later("SELECT tries, due FROM sqlembed_backlog") == [(4, None)]
    clock.now += 10**7
    assert later.one("SELECT sqlembed_flush()") == 0
    assert later("SELECT failed, oldest FROM sqlembed_status") == [(1, 10**7 + 630)]
    assert later.one("SELECT sqlembed_retry('t')") == 1
    assert "told to fail" in later.error("SELECT sqlembed_flush()")
    assert later.one("SELECT sqlembed_retry()") == 1
    later("UPDATE t SET body = 'mended' WHERE id = 4")
    assert later.one("SELECT sqlembed_flush()") == 1
    assert later.one("SELECT sqlembed_retry()") == 0


def test_what_was_set_aside_is_forgotten_when_its_row_was_replaced_away(
    sql: Sql, clock: Clock
) -> None:
    sql("CREATE TABLE t(id INTEGER PRIMARY KEY, code UNIQUE, body)")
    sql("INSERT INTO t VALUES (1, 1, ?), (2, 2, 'harmless')", FAILING)
    sql.error("SELECT sqlembed_index('t', 'body')")
    for _ in range(3):
        clock.now += 1000
        sql.error("SELECT sqlembed_flush()")
    assert sql("SELECT due FROM sqlembed_backlog") == [None]
    sql("INSERT OR REPLACE INTO t VALUES (3, 1, 'in its place')")
    assert sql.one("SELECT sqlembed_flush()") == 1
    assert sql(STATUS) == [(2, 0, 0, 0)]


def test_a_model_that_fails_on_everything_is_charged_to_no_row(
    later: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: FakeModel, texts: list[str], role: str) -> object:
        raise RuntimeError("the graphics card fell out")

    embed = FakeModel.embed
    monkeypatch.setattr(FakeModel, "embed", fail)
    assert "the graphics card fell out" in later.error("SELECT sqlembed_flush()")
    assert later(STATUS) == [(0, 10, 0, 0)]
    assert {row[2:] for row in later(ROWS)} == {(0, 0, 0, None)}
    monkeypatch.setattr(FakeModel, "embed", embed)
    assert later.one("SELECT sqlembed_flush()") == 10


@pytest.mark.parametrize("kind", [ModelMissingError, ServiceError, MemoryError, OSError])
def test_nor_is_what_no_text_can_cause(
    later: Sql, kind: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def fail(self: FakeModel, texts: list[str], role: str) -> object:
        asked.append(len(texts))
        raise kind("not now")

    monkeypatch.setattr(FakeModel, "embed", fail)
    later.error("SELECT sqlembed_flush()")
    assert asked == [10]
    assert later(STATUS)[0][1:] == (10, 0, 0)
    assert {row[2:] for row in later(ROWS)} <= {(0, 0, 0, None)}


@pytest.mark.doors("apsw")
def test_a_row_that_ends_the_process_is_set_aside_and_stops_no_other(
    later: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    later("UPDATE t SET body = 'deadly' WHERE id = 4")
    embed = FakeModel.embed

    def die(self: FakeModel, texts: list[str], role: str) -> object:
        if "deadly" in texts:
            os._exit(9)
        return embed(self, texts, role)

    monkeypatch.setattr(FakeModel, "embed", die)
    ended = 0
    for _ in range(9):
        child = os.fork()
        if not child:
            sqlembed.connect(later.db_path, engine=LocalEngine()).execute("SELECT sqlembed_flush()")
            os._exit(0)
        if not os.waitpid(child, 0)[1]:
            break
        ended += 1
    assert ended == backlog.MOST_TAKES
    assert later(STATUS) == [(9, 1, 0, 1)]
    assert later("SELECT last_error FROM sqlembed_status") == [backlog.ENDED]


def test_what_others_work_on_is_left_to_them(
    later: Sql, plain: apsw.Connection, clock: Clock
) -> None:
    index = index_of(plain)
    upto = run(plain, backlog.newest())
    run(plain, backlog.absorb(upto))
    first = run(plain, backlog.lease(index, 0, upto, 4))
    assert [row.key for row in first] == [1, 2, 3, 4]
    assert later("SELECT leased FROM sqlembed_status") == [4]
    second = run(plain, backlog.lease(index, 0, upto, 100))
    assert [row.key for row in second] == [5, 6, 7, 8, 9, 10]
    assert run(plain, backlog.lease(index, 0, upto, 100)) == []
    run(plain, backlog.give_back(index, first[:1]))
    clock.now += 30
    run(plain, backlog.renew(index, first[1:2]))
    clock.now += 30
    assert [row.key for row in run(plain, backlog.lease(index, 0, upto, 5))] == [1, 3, 4, 5, 6]
    assert later("SELECT takes FROM sqlembed_backlog WHERE key <= 4 ORDER BY key") == [1, 1, 2, 2]
    clock.now -= 10**6  # set back: a lease so far ahead was given by a clock that went wrong
    assert len(run(plain, backlog.lease(index, 0, upto, 100))) == 10


def test_a_flush_stores_also_what_somebody_left_leased(later: Sql, plain: apsw.Connection) -> None:
    index = index_of(plain)
    upto = run(plain, backlog.newest())
    run(plain, backlog.absorb(upto))
    assert len(run(plain, backlog.lease(index, 0, upto, 4))) == 4
    assert later.one("SELECT sqlembed_flush()") == 10
    assert later(STATUS) == [(10, 0, 0, 0)]


@pytest.mark.doors("apsw", "service")
def test_a_flush_whose_index_is_dropped_meanwhile_ends_quietly(
    later: Sql, engine: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = sqlembed.connect(later.db_path, engine=engine)
    embed = FakeModel.embed

    def dropping(self: FakeModel, texts: list[str], role: str) -> object:
        monkeypatch.setattr(FakeModel, "embed", embed)
        other.execute("SELECT sqlembed_drop('t')").fetchall()
        return embed(self, texts, role)

    monkeypatch.setattr(FakeModel, "embed", dropping)
    assert later.one("SELECT sqlembed_flush()") == 0
    assert later("SELECT * FROM sqlembed_status") == []
    assert later("SELECT * FROM sqlembed_backlog") == []
    other.close()


def test_an_entry_without_a_key_is_no_row(later: Sql) -> None:
    later("INSERT INTO sqlembed_queue(index_id, key) VALUES (1, NULL), (77, 5)")
    assert later("SELECT waiting FROM sqlembed_status") == [10]
    assert later("SELECT count(*) FROM knn('t', 'row', 20)") == [10]
    assert later.one("SELECT sqlembed_flush()") == 10
    later("INSERT INTO sqlembed_queue(index_id, key) VALUES (1, NULL)")
    assert later("SELECT count(*) FROM knn('t', 'row', 20)") == [10]
    assert later(STATUS) == [(10, 0, 0, 0)]


def test_the_log_is_absorbed_for_all_indexes_and_stays_short(later: Sql) -> None:
    later("""SELECT sqlembed_index('t', 'body', '{"name": "u"}')""")
    later("UPDATE t SET body = body || '!'")
    assert later("SELECT name, waiting FROM sqlembed_status") == [("t", 10), ("u", 10)]
    assert later.one("SELECT sqlembed_flush('u')") == 10
    assert later.one("SELECT count(*) FROM sqlembed_queue") == 1
    assert later("SELECT name, waiting FROM sqlembed_status") == [("t", 10), ("u", 0)]
    assert later.one("SELECT sqlembed_flush()") == 10


def test_what_is_written_after_the_index_was_made_is_newer(later: Sql) -> None:
    later("UPDATE t SET body = 'changed' WHERE id = 1")
    assert later("SELECT waiting FROM sqlembed_status") == [10]
    assert later("SELECT id, distance < 1e-6 FROM knn('t', 'changed', 1)") == [(1, 1)]
    assert later.one("SELECT sqlembed_flush()") == 10
    assert later("SELECT id, distance < 1e-6 FROM knn('t', 'changed', 1)") == [(1, 1)]
    assert later(STATUS) == [(10, 0, 0, 0)]


def test_an_idle_flush_writes_nothing(later: Sql, plain: apsw.Connection) -> None:
    later("SELECT sqlembed_flush()")
    before = plain.execute("PRAGMA data_version").get
    assert later.one("SELECT sqlembed_flush()") == 0
    assert plain.execute("PRAGMA data_version").get == before


@pytest.mark.parametrize("absorbed", [False, True])
def test_of_many_that_wait_a_search_takes_the_newest(
    later: Sql, plain: apsw.Connection, absorbed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    later("SELECT sqlembed_flush()")
    later("UPDATE t SET body = 'older ' || id WHERE id BETWEEN 1 AND 6")
    later("UPDATE t SET body = 'newer ' || id WHERE id BETWEEN 4 AND 6")
    if absorbed:
        run(plain, backlog.absorb(run(plain, backlog.newest())))
    monkeypatch.setattr("sqlembed.index.fresh.MOST_ROWS", 3)
    found = later("SELECT id, coverage FROM knn('t', 'newer', 20)")
    assert sorted(found) == [(n, 0.7) for n in range(4, 11)]
    among = "SELECT id, coverage FROM knn('t', 'newer', 20) WHERE id IN (1, 5, 9)"
    assert sorted(later(among)) == [(1, 1.0), (5, 1.0), (9, 1.0)]
    later("UPDATE t SET body = 'newest' WHERE id = 10")
    found = later("SELECT id, coverage FROM knn('t', 'newest', 20)")
    assert sorted(found) == [(n, 0.6) for n in range(5, 11)]
    assert later("SELECT waiting, coverage FROM sqlembed_status") == [(7, 3 / 10)]


def test_a_backlog_is_searched_where_nothing_can_be_written(
    later: Sql, engine: LocalEngine, plain: apsw.Connection
) -> None:
    run(plain, backlog.absorb(run(plain, backlog.newest())))
    flags = apsw.SQLITE_OPEN_READONLY
    reader = Sql(sqlembed.connect(later.db_path, engine=engine, flags=flags))
    assert reader("SELECT id FROM knn('t', 'row number 7', 1)") == [7]
    assert reader("SELECT waiting FROM sqlembed_status") == [10]
    reader.close()


def test_of_a_long_text_only_what_changed_is_computed(sql: Sql, engine: LocalEngine) -> None:
    sql("CREATE TABLE t(id INTEGER PRIMARY KEY, body)")
    text = ". ".join(f"sentence number {n} of a long text" for n in range(12))
    sql("INSERT INTO t VALUES (1, ?)", text)
    sql("SELECT sqlembed_index('t', 'body')")
    before = sql.one("SELECT chunks FROM sqlembed_status")
    engine.cache_clear()
    FakeModel.texts.clear()
    sql("UPDATE t SET body = body || '. And an end'")
    sql("SELECT sqlembed_flush()")
    assert before > 3
    assert len(FakeModel.texts) <= 2


def test_a_damaged_vector_is_not_used_again(sql: Sql, engine: LocalEngine) -> None:
    sql("CREATE TABLE t(id INTEGER PRIMARY KEY, body)")
    sql("INSERT INTO t VALUES (1, 'a text'), (2, 'another'), (3, 'the third')")
    sql("SELECT sqlembed_index('t', 'body')")
    good = sql("SELECT vector FROM sqlembed_chunk_1 ORDER BY key")
    nan = b"\0\0\xc0\x7f" * 64
    sql("UPDATE sqlembed_chunk_1 SET vector = ? WHERE key = 1", nan)
    sql("UPDATE sqlembed_chunk_1 SET vector = x'00' WHERE key = 2")
    sql("INSERT INTO sqlembed_queue(index_id, key) VALUES (1, 1), (1, 2), (1, 3)")
    engine.cache_clear()
    FakeModel.texts.clear()
    assert sql.one("SELECT sqlembed_flush()") == 3
    assert sql("SELECT vector FROM sqlembed_chunk_1 ORDER BY key") == good
    assert FakeModel.texts == ["a text", "another"]


def test_status_tells_how_fast_rows_are_stored_and_what_they_take(
    later: Sql, plain: apsw.Connection, tmp_path: Path
) -> None:
    assert later("SELECT rate, oldest IS NOT NULL FROM sqlembed_status") == [(0.0, 1)]
    later("SELECT sqlembed_flush()")
    rate, oldest, size = later("SELECT rate, oldest, bytes FROM sqlembed_status")[0]
    assert 1 < rate <= 10
    assert oldest is None
    own = "SELECT sum(pgsize) FROM dbstat WHERE name GLOB '*sqlembed_[cw]o[dr][de]*_1*' OR name GLOB 'sqlembed_chunk_1*'"
    assert size == plain.execute(own).get
    later("UPDATE sqlembed_pace SET at = at - 61")
    assert later("SELECT rate FROM sqlembed_status") == [0.0]
    later("UPDATE t SET body = 'changed' WHERE id = 1")
    assert later("SELECT oldest FROM sqlembed_status") == [None]
    later("SELECT sqlembed_flush()")
    assert later.one("SELECT count(*) FROM sqlembed_pace") == 1


@pytest.mark.doors("apsw")
@pytest.mark.parametrize("journal", ["WAL", "DELETE"])
def test_several_flush_at_once_while_others_write(
    later: Sql, engine: LocalEngine, journal: str
) -> None:
    later(f"PRAGMA journal_mode = {journal}")
    later("""SELECT sqlembed_index('t', 'body', '{"name": "now", "mode": "immediate"}')""")
    problems: list[Exception] = []

    def flush() -> None:
        db = sqlembed.connect(later.db_path, engine=engine)
        if journal == "WAL":  # else who only reads has to wait for locks, too
            db.set_busy_timeout(0)
        for _ in range(10):
            db.execute("SELECT sqlembed_flush()").fetchall()
        db.close()

    def write(of: int) -> None:
        plain = apsw.Connection(later.db_path)
        db = sqlembed.connect(later.db_path, engine=engine) if of else plain
        db.set_busy_timeout(20_000)
        for n in range(60):
            text = f"writer {of} wrote {n}"
            db.execute("INSERT OR REPLACE INTO t VALUES (?, ?)", (1 + (7 * n + of) % 20, text))
        db.close()

    def watched(work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as problem:
            problems.append(problem)

    works = [flush, flush, flush, partial(write, 0), partial(write, 1)]
    threads = [Thread(target=watched, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    later("SELECT sqlembed_flush()")
    assert later("SELECT waiting, leased, failed FROM sqlembed_status") == [(0, 0, 0)] * 2
    for table in ("sqlembed_chunk_1", "sqlembed_chunk_2"):
        wrong = f"SELECT id FROM t LEFT JOIN {table} ON key = id WHERE vector IS NOT embed(body)"
        assert later(wrong) == []
        assert later.one(f"SELECT count(*) FROM {table}") == later.one("SELECT count(*) FROM t")


def test_a_program_that_cannot_run_the_expression_charges_no_row(
    sql: Sql, engine: LocalEngine
) -> None:
    sql("CREATE TABLE t(id INTEGER PRIMARY KEY, body)")
    sql("INSERT INTO t(body) VALUES ('one'), ('two')")
    able = sqlembed.connect(sql.db_path, engine=engine)
    able.create_scalar_function("clean", lambda text: text.upper(), 1, deterministic=True)
    able.execute("""SELECT sqlembed_index('t', 'clean(body)', '{"backlog": "later"}')""")
    said = sql.error("SELECT sqlembed_flush()")
    assert "index t: its expression clean(body) cannot be run here: no such function" in said
    assert "SchemaError" in said
    assert sql(ROWS) == [(1, 0, 0, 0, 0, None), (2, 0, 0, 0, 0, None)]
    assert able.execute("SELECT sqlembed_flush()").get == 2
    able.close()
