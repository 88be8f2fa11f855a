"""A worker fills what is to take an index's place, and has it take it."""

from collections.abc import Callable

import apsw
from harness import FakeModel
from worker.conftest import Place, until

STATES = "SELECT model, state FROM sqlembed_catalog"
REINDEX = """SELECT sqlembed_reindex('t', 'wide', '{"backlog": "later"}')"""
LEFT = "SELECT name FROM sqlite_schema WHERE name GLOB 'sqlembed_*_1'"


def test_a_shadow_is_filled_and_takes_its_place(place: Place) -> None:
    path = place.make("a", 300)
    place.once(path)
    place.sql(path, REINDEX)
    assert place.sql(path, STATES) == [("fake", "live"), ("wide", "shadow")]
    assert place.once(path).well
    assert place.sql(path, STATES) == [("wide", "live")]
    assert place.sql(path, LEFT) == []
    found = place.sql(path, "SELECT id, distance FROM knn('t', 'a number 7', 1)")
    assert found[0][0] == 7 and abs(found[0][1]) < 1e-5


def test_it_takes_its_place_though_somebody_writes_all_the_time(
    place: Place, plain: Callable[[str], apsw.Connection]
) -> None:
    path = place.make("a", 300)
    place.once(path)
    place.sql(path, REINDEX)
    db = plain(path)
    written = [0]

    def write_and_ask() -> bool:
        written[0] += 1
        db.execute("UPDATE t SET body = 'changed ' || ?1 || id WHERE id % 10 = ?1 % 10", written)
        return db.execute(STATES).fetchall() == [("wide", "live")]

    working = place.work(path)
    until(write_and_ask, "the shadow takes its place")
    until(lambda: place.waiting(path) == 0, "all is stored")
    working.end()
    assert place.sql(path, "SELECT count(*) FROM knn('t', 'changed', 300)") == [(300,)]


def test_what_a_replaced_index_left_is_removed(place: Place) -> None:
    path = place.make("a", 30)
    place.once(path)
    place.sql(path, "UPDATE sqlembed_catalog SET state = 'dropped'")
    FakeModel.texts.clear()
    assert place.once(path).well
    assert place.sql(path, STATES) == place.sql(path, LEFT) == [] == FakeModel.texts
