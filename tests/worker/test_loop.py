"""What a worker does with databases, and with what stands in the way; in threads, on a fake model."""

import lzma
import os
import time
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest
from harness import FAILING, FakeModel
from worker.conftest import Place, until

from sqlembed.engine.cache import Cache
from sqlembed.engine.local import LocalEngine
from sqlembed.errors import BusyError, ModelMissingError, ServiceError
from sqlembed.worker import database
from sqlembed.worker.conditions import Condition

Connect = Callable[[str], apsw.Connection]
BACKLOG = "SELECT count(*), sum(lease > 0), sum(takes), sum(tries) FROM sqlembed_backlog"


def test_it_drains_every_index_of_every_database(place: Place) -> None:
    one, two = place.make("one", 300), place.make("two", 5)
    place.sql(
        two, """SELECT sqlembed_index('t', 'body || 1', '{"name": "u", "backlog": "later"}')"""
    )
    worker = place.work(one, two, once=True)
    assert worker.wait()
    assert (place.waiting(one), place.waiting(two)) == (0, 0)
    assert place.sql(one, "SELECT id FROM knn('t', 'one number 77', 1)") == [(77,)]
    assert sorted(line.partition(" in ")[0] for line in worker.told) == [
        f"{one} t: 300 rows", f"{two} t: 5 rows", f"{two} u: 5 rows"
    ]  # fmt: skip
    assert worker.warned == []


def test_a_long_backlog_holds_up_no_other(place: Place) -> None:
    long, short = place.make("long", 3000), place.make("short", 5)
    assert place.work(long, short, once=True).wait()
    first = FakeModel.texts.index("short number 1")
    assert first <= database.FIRST_ROWS


def test_one_that_was_written_to_before_goes_on_after_a_stop(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = place.make("a", 1000)
    embed = FakeModel.embed

    def stopping(self: FakeModel, texts: list[str], role: str) -> object:
        if len(FakeModel.texts) > 300:
            worker.stop.ask()
        return embed(self, texts, role)

    monkeypatch.setattr(FakeModel, "embed", stopping)
    worker = place.work(path)
    assert worker.wait()
    ((left, leased, takes, tries),) = place.sql(path, BACKLOG)
    assert 0 < left < 1000 and (leased, takes, tries) == (0, 0, 0)
    monkeypatch.setattr(FakeModel, "embed", embed)
    place.once(path)
    assert place.sql(path, "SELECT indexed, waiting FROM sqlembed_status") == [(1000, 0)]


def test_two_share_a_backlog_and_do_no_row_twice(place: Place) -> None:
    path = place.make("a", 2000)
    engines = [LocalEngine(Cache(":memory:", 1 << 24)) for _ in range(2)]
    workers = [place.work(path, once=True, engine=engine) for engine in engines]
    assert all(worker.wait() for worker in workers)
    until(lambda: not place.waiting(path), "its end")
    assert sorted(FakeModel.texts) == sorted(f"a number {n}" for n in range(1, 2001))
    for engine in engines:
        engine.close()


def test_what_is_written_while_it_sleeps_is_stored(place: Place, plain: Connect) -> None:
    path = place.make("a")
    place.work(path)
    until(lambda: not place.waiting(path), "what waited first")
    db = plain(path)
    db.execute("INSERT INTO t(body) VALUES ('woken')")
    until(lambda: place.sql(path, "SELECT indexed FROM sqlembed_status") == [(11,)], "the row")
    place.sql(path, """SELECT sqlembed_index('t', 'id', '{"name": "u", "backlog": "later"}')""")
    until(lambda: not place.waiting(path), "another index")
    place.sql(path, "SELECT sqlembed_drop('t')")
    db.execute("INSERT INTO t(body) VALUES ('more')")
    until(lambda: place.sql(path, "SELECT indexed FROM sqlembed_status") == [(12,)], "that one")


def test_where_nothing_changes_nothing_is_written(place: Place, plain: Connect) -> None:
    path = place.make("a")
    place.work(path)
    until(lambda: not place.waiting(path), "what waited")
    db = plain(path)
    time.sleep(0.5)  # rows that were replaced away are looked for too
    before = db.execute("PRAGMA data_version").get
    time.sleep(0.5)
    assert db.execute("PRAGMA data_version").get == before


def test_a_lease_of_another_is_taken_when_it_ends(place: Place) -> None:
    path = place.make("a")
    place.sql(path, "UPDATE sqlembed_backlog SET lease = strftime('%s') + 600, takes = 1")
    assert place.once(path).well
    assert place.waiting(path) == 10
    place.sql(path, "UPDATE sqlembed_backlog SET lease = strftime('%s') + 2")
    place.work(path)
    until(lambda: not place.waiting(path), "the lease's end")


def test_a_database_that_appears_goes_away_and_comes_again(place: Place) -> None:
    path, other = place.path("a"), place.make("other")
    worker = place.work(path, other)
    until(lambda: worker.warned and not place.waiting(other), "the other")
    assert worker.warned == [f"{path}: cannot be opened: No such file or directory"]
    place.make("a")
    until(lambda: not place.waiting(path), "the new one")
    assert worker.warned[1:] == [f"{path}: all is well again"]
    os.unlink(path)
    until(lambda: len(worker.warned) == 3, "a word")
    assert worker.warned[2] == worker.warned[0]
    place.make("a", 20)
    until(lambda: place.sql(path, "SELECT indexed FROM sqlembed_status") == [(20,)], "the next")
    moved = place.make("b", 30)
    os.replace(moved, path)
    until(lambda: place.sql(path, "SELECT indexed FROM sqlembed_status") == [(30,)], "another")


def test_a_locked_database_is_waited_for_while_others_go_on(
    place: Place, plain: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sqlembed.worker.trouble.PATIENCE_SECONDS", 0.3)
    path, other = place.make("a"), place.make("other", 300)
    for lock in ("EXCLUSIVE", "IMMEDIATE"):
        db = plain(path)
        db.execute(f"BEGIN {lock}")
        worker = place.work(path, other, once=True)
        until(lambda: not place.waiting(other), "the other")
        until(lambda worker=worker: worker.warned, "a word")
        assert worker.well is None
        db.execute("COMMIT")
        assert worker.wait()
        assert worker.warned == [
            f"{path}: database is locked; waiting",
            f"{path}: all is well again",
        ]
        assert place.waiting(path) == 0
        for each in (path, other):
            plain(each).execute("UPDATE t SET body = body || '!'")


def test_a_lock_that_comes_while_a_page_is_computed_costs_no_row(
    place: Place, plain: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = place.make("a")
    db = plain(path)
    embed = FakeModel.embed

    def locking(self: FakeModel, texts: list[str], role: str) -> object:
        if not db.in_transaction:
            db.execute("BEGIN IMMEDIATE")
        return embed(self, texts, role)

    monkeypatch.setattr(FakeModel, "embed", locking)
    monkeypatch.setattr("sqlembed.doors.plans.BUSY_SECONDS", 0.1)
    monkeypatch.setattr("sqlembed.doors.plans.run.__defaults__", (0.1,))
    worker = place.work(path, once=True)
    until(lambda: db.in_transaction, "the page")
    monkeypatch.setattr(FakeModel, "embed", embed)
    time.sleep(0.3)
    db.execute("COMMIT")
    assert worker.wait()
    assert place.waiting(path) == 0
    assert worker.warned == []


def test_a_row_that_fails_is_told_once_and_stops_no_other(place: Place) -> None:
    path = place.make("a")
    place.sql(path, "UPDATE t SET body = ? WHERE id = 4", FAILING)
    worker = place.work(path)
    until(lambda: place.waiting(path) == 1, "the others")
    until(lambda: worker.warned, "a word")
    assert worker.warned == [
        f"{path} t: the row of key 4 cannot be stored: the fake model was told to fail; tried again"
        " later, and in the end set aside; at once: SELECT sqlembed_retry('t')"
    ]
    place.sql(path, "SELECT sqlembed_retry()")
    until(
        lambda: place.sql(path, "SELECT tries, lease FROM sqlembed_backlog") == [(1, 0)],
        "another try",
    )
    worker.end()
    assert len(worker.warned) == 1
    assert worker.well is False


def test_an_index_whose_model_is_missing_stops_no_other(place: Place, fake_data: Path) -> None:
    path = place.make("a", options=', "model": "wide"')
    place.sql(path, """SELECT sqlembed_index('t', 'body', '{"name": "u", "backlog": "later"}')""")
    model = fake_data / "models" / "wide.gguf"
    model.rename(model.with_suffix(".gone"))
    worker = place.work(path)
    standing = "SELECT waiting FROM sqlembed_status ORDER BY name"
    until(lambda: place.sql(path, standing) == [(10,), (0,)], "the other index")
    until(lambda: worker.warned, "a word")
    assert worker.warned[0].startswith(f"{path} t: model 'wide' is no longer ")
    time.sleep(1.5)
    assert len(worker.warned) == 1
    assert place.sql(path, BACKLOG) == [(10, 0, 0, 0)]
    model.with_suffix(".gone").rename(model)
    until(lambda: place.waiting(path) == 0, "the model's return")
    until(lambda: len(worker.warned) == 2, "a word of it")
    assert worker.warned[1] == f"{path} t: all is well again"


@pytest.mark.parametrize("kind", ["text", "newer", "directory", "truncated"])
def test_what_is_no_database_of_ours_stops_no_other(place: Place, kind: str) -> None:
    path, other = place.path("a"), place.make("other")
    if kind == "text":
        Path(path).write_text("this is a letter, and no database. " * 200)
    elif kind == "directory":
        os.mkdir(path)
    else:
        place.make("a", 300)
    if kind == "newer":
        place.sql(path, "INSERT INTO sqlembed_migration(number, name) VALUES (99, 'later')")
    elif kind == "truncated":
        with open(path, "r+b") as file:
            file.truncate(5 * 4096)
    worker = place.once(path, other)
    assert worker.well is False
    assert place.waiting(other) == 0
    assert worker.warned, kind
    assert worker.warned[0].startswith(f"{path}: ")
    if kind == "newer":
        assert "this database has format 99 of sqlembed's tables" in worker.warned[0]


def test_a_database_without_indexes_is_no_failure(place: Place, plain: Connect) -> None:
    plain(place.path("a")).execute("CREATE TABLE t(body)")
    worker = place.once(place.path("a"))
    assert worker.well and worker.told == worker.warned == []


@pytest.mark.parametrize("number", [1, 2])
def test_an_older_format_is_brought_forward(place: Place, number: int, plain: Connect) -> None:
    packed = Path(__file__).parents[1] / "index" / f"format_{number}.db.xz"
    path = place.path("old")
    Path(path).write_bytes(lzma.decompress(packed.read_bytes()))
    space = place.engine.space("fake").fingerprint
    plain(path).execute("UPDATE sqlembed_catalog SET space = ?", (space,))
    assert place.waiting(path) > 0
    worker = place.once(path)
    assert worker.well, worker.warned
    assert place.waiting(path) == 0


def test_a_shadow_is_filled_like_any_other(place: Place) -> None:
    path = place.make("a")
    place.sql(path, "UPDATE sqlembed_catalog SET state = 'shadow'")
    assert place.once(path).well
    assert place.sql(path, "SELECT count(*) FROM sqlembed_chunk_1") == [(10,)]
    assert place.sql(path, "SELECT count(*) FROM sqlembed_backlog") == [(0,)]


def test_rows_that_were_replaced_away_are_removed(place: Place, plain: Connect) -> None:
    path = place.make("a")
    place.once(path)
    db = plain(path)
    db.execute("CREATE UNIQUE INDEX once ON t(body)")
    db.execute("INSERT OR REPLACE INTO t VALUES (99, 'a number 3')")
    assert place.once(path).well
    assert place.sql(path, "SELECT count(*) FROM sqlembed_chunk_1 WHERE key = 3") == [(0,)]


def test_between_pages_it_looks_whether_it_may_go_on(place: Place) -> None:
    path = place.make("a", 1000)
    readings = [0.0, 0.0]

    def read() -> float:
        return readings.pop() if readings else 1.0

    worker = place.work(path, once=True, chosen=Condition(read, 0.5, 0.5, settled=True))
    until(lambda: place.waiting(path) < 1000 and worker.told, "a page")
    assert worker.told[-1] == "rows wait until the moon is up"
    assert place.waiting(path) == 1000 - database.FIRST_ROWS
    worker.end()
    assert place.sql(path, BACKLOG) == [(1000 - database.FIRST_ROWS, 0, 0, 0)]


@pytest.mark.parametrize(("kind", "kept"), [(ServiceError, True), (ModelMissingError, False)])
def test_a_lease_is_kept_only_where_a_row_may_have_ended_the_service(
    place: Place, kind: type[Exception], kept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = place.make("a")

    def fail(*_: object) -> object:
        raise kind("it is gone")
        yield

    monkeypatch.setattr("sqlembed.index.flush.work", fail)
    worker = place.once(path)
    assert worker.well is False
    assert worker.warned == [f"{path} t: it is gone"]
    assert place.sql(path, BACKLOG) == [(10, 10 * kept, 10 * kept, 0)]


def test_a_model_that_is_busy_is_waited_for(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    path = place.make("a")
    embed = FakeModel.embed
    asked: list[int] = []

    def busy(self: FakeModel, texts: list[str], role: str) -> object:
        asked.append(len(texts))
        if len(asked) < 4:
            raise BusyError("fake is busy")
        return embed(self, texts, role)

    monkeypatch.setattr(FakeModel, "embed", busy)
    worker = place.once(path)
    assert (worker.well, worker.warned, asked) == (True, [], [10] * 4)
    assert place.waiting(path) == 0
