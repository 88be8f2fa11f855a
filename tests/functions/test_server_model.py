"""SQL on a model that is on a server, through every door."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import FAILING, Sql
from stand_in import Handler, StandIn, install_remote, standing_in

from sqlembed.engine import endpoint

WORDS = ("dinner at eight", "win a prize now", "see you at dinner", "late again")
INDEX = """SELECT sqlembed_index('sms', 'body', '{"model": "far", "backlog": "later"}')"""


@pytest.fixture
def server(fake_data: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    monkeypatch.setattr(endpoint, "FIRST_PAUSE", 0.001)
    with standing_in() as made:
        install_remote("far", made.url, "patience = 0.5")
        yield made


@pytest.fixture
def far(server: StandIn, sql: Sql) -> Sql:
    """SQL with a small table that has an index on the server's model, nothing stored yet."""
    sql("CREATE TABLE sms(id INTEGER PRIMARY KEY, body TEXT)")
    for body in WORDS:
        sql("INSERT INTO sms(body) VALUES (?)", body)
    sql(INDEX)
    return sql


def test_the_server_embeds(server: StandIn, sql: Sql) -> None:
    assert sql.one("SELECT length(embed('x', 'far'))") == 4 * 64
    assert sql.one("SELECT token_count('four', 'far')") == 8
    same = "SELECT round(vec_distance_cosine(embed('a b', 'far'), embed('b a', 'far')), 3)"
    assert sql.one(same) == 0
    assert sql("SELECT count(*) FROM chunks(?, 'far')", "word " * 30) == [3]


def test_an_index_is_filled_and_searched(server: StandIn, far: Sql) -> None:
    assert far.one("SELECT sqlembed_flush()") == 4
    assert far("SELECT id FROM knn('sms', 'dinner at eight', 1)") == [1]
    assert far("SELECT id FROM search('sms', 'a prize', 1)") == [2]
    far("INSERT INTO sms(body) VALUES ('something new')")
    assert far("SELECT id, distance < 1e-6 FROM knn('sms', 'something new', 1)") == [(5, 1)]
    assert far("SELECT model, dimension, problem FROM sqlembed_status") == [("far", 64, None)]
    assert far("SELECT count(*) FROM sqlembed_check()") == [0]


def test_a_server_that_is_away_charges_no_row_and_what_is_stored_is_found(
    server: StandIn, far: Sql
) -> None:
    far("SELECT sqlembed_flush()")
    far("SELECT count(*) FROM knn('sms', 'dinner at eight', 1)")
    far("INSERT INTO sms(body) VALUES ('something new')")
    server.faults.extend([cuts] * 200)
    error = far.error("SELECT sqlembed_flush()")
    assert error.startswith("ServerError: far: http://127.0.0.1:") and "cannot be reached" in error
    server.faults.clear()
    assert far("SELECT waiting, failed FROM sqlembed_status") == [(1, 0)]
    assert far.one("SELECT sqlembed_flush()") == 1


def cuts(handler: Handler, body: object) -> None:
    handler.cut()


def test_a_text_that_the_server_refuses_stops_no_other(server: StandIn, far: Sql) -> None:
    right = Handler.embeddings

    def picky(handler: Handler, body: dict[str, list[str]]) -> None:
        if any(FAILING in text for text in body["input"]):
            handler.refuse(400, "no such text, please")
        else:
            right(handler, body["input"])

    server.faults.extend([picky] * 200)
    far("UPDATE sms SET body = ? WHERE id = 2", FAILING)
    error = far.error("SELECT sqlembed_flush()")
    assert error.startswith("InputError: index sms: the row of key 2 cannot be stored: far: ")
    waiting, failed, told = far("SELECT waiting, failed, last_error FROM sqlembed_status")[0]
    assert (waiting, failed) == (1, 1) and "400 Bad Request: no such text, please" in told


def test_another_model_at_the_server_is_stored_nowhere(server: StandIn, far: Sql) -> None:
    far("SELECT sqlembed_flush()")
    server.model = "another"
    far("INSERT INTO sms(body) VALUES ('something new')")
    error = far.error("SELECT sqlembed_flush()")
    assert error.startswith("ProbeError: far gives other results")
    assert far("SELECT indexed, waiting, failed FROM sqlembed_status") == [(4, 1, 0)]


def test_vectors_of_two_servers_models_do_not_meet(server: StandIn, far: Sql) -> None:
    far("SELECT sqlembed_flush()")
    path = install_remote("far", server.url)
    path.write_text(path.read_text().replace("at the server", "a later version"))
    far("SELECT sqlembed_unload('far')")
    assert far.error("SELECT * FROM knn('sms', 'dinner', 1)").startswith("SpaceError: index sms")


def test_a_models_table_says_that_it_can_be_used(server: StandIn, sql: Sql) -> None:
    shown = "SELECT installed, loaded, bytes, used_for FROM sqlembed_models WHERE name = 'far'"
    assert sql(shown) == [(1, 0, None, None)]
    sql("SELECT sqlembed_load('far')")
    assert sql(shown) == [(1, 1, 0, None)]


def test_a_reranker_on_a_server_scores(server: StandIn, sql: Sql) -> None:
    install_remote("far-judge", server.url, "", "reranker", dimension=1)
    assert sql.one("SELECT rerank('a b', 'a x', 'far-judge')") == 0.5
    assert sql.error("SELECT embed('x', 'far-judge')").startswith("InputError: far-judge is a")
