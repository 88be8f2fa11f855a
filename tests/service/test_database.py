"""A fork, and transactions around calls that fail: no row is lost, none is half there."""

import pytest
from service.scene import DOORS, Scene, vector

IN_TRANSACTION = "result = db.in_transaction if DOOR == 'extension' else not db.getautocommit()"
STATE = "SELECT indexed, waiting FROM sqlembed_status"
TABLE = "CREATE TABLE t(id INTEGER PRIMARY KEY, body)"
INDEX = "SELECT sqlembed_index('t', 'body')"
ENDED = "sqlembed's service ended"


def write(scene: Scene, host: object, *bodies: str) -> None:
    for body in bodies:
        host.sql("INSERT INTO t(body) VALUES (?)", body)  # type: ignore[attr-defined]


@pytest.mark.parametrize("client", DOORS)
def test_a_parent_and_its_children_are_each_answered(scene: Scene, client: str) -> None:
    host = scene.host(client)
    host.embed("before")
    found = host.run(
        "def work(name):\n"
        "    return [sql('SELECT embed(?)', f'{name} {number}')[0] for number in range(20)]\n"
        "children = [forked(lambda: work(f'child{each}')) for each in range(4)]\n"
        "mine = work('parent')\n"
        "result = [joined(each) for each in children] + [mine, work('again')]"
    )
    names = [f"child{each}" for each in range(4)] + ["parent", "again"]
    assert found == [[vector(f"{name} {n}") for n in range(20)] for name in names]


@pytest.mark.parametrize("client", DOORS)
def test_a_fork_in_the_middle_of_a_transaction(scene: Scene, client: str) -> None:
    # The child has the database's file from its parent, and must leave it alone; not the service.
    host = scene.host(client)
    host.sql(TABLE)
    host.sql("BEGIN")
    write(scene, host, "one")
    host.embed("before")
    found = host.run(
        "result = joined(forked(lambda: sql(\"SELECT embed('child')\", on=connect())))"
    )
    assert found == [vector("child")]
    host.sql("INSERT INTO t(body) SELECT embed('parent')")
    host.sql("COMMIT")
    assert host.sql("SELECT body FROM t") == ["one", vector("parent")]


@pytest.mark.parametrize("client", DOORS)
def test_a_transaction_outlives_the_service(scene: Scene, client: str) -> None:
    host = scene.host(client)
    host.sql("CREATE TABLE t(body, vector)")
    for number in range(3):
        host.sql("BEGIN")
        host.sql("INSERT INTO t VALUES (?1, embed(?1))", f"first {number}")
        scene.kill()
        host.sql("INSERT INTO t VALUES (?1, embed(?1))", f"second {number}")
        host.sql("INSERT INTO t VALUES (?1, embed(?1))", f"third {number}")
        host.sql("COMMIT")
    rows = host.sql("SELECT body, vector FROM t")
    assert len(rows) == 9 and all(made == vector(body) for body, made in rows)


@pytest.mark.parametrize("client", DOORS)
def test_a_statement_that_fails_takes_only_itself_back(scene: Scene, client: str) -> None:
    host = scene.host(client)
    host.sql(TABLE)
    host.sql("CREATE TABLE vectors(vector)")
    host.sql("BEGIN")
    write(scene, host, "one", "two", "die 3", "four")
    assert ENDED in host.error("INSERT INTO vectors SELECT embed(body) FROM t ORDER BY id")
    assert host.sql("SELECT count(*) FROM vectors") == [0]
    assert host.run(IN_TRANSACTION)
    host.sql("UPDATE t SET body = 'three' WHERE id = 3")
    host.sql("INSERT INTO vectors SELECT embed(body) FROM t ORDER BY id")
    host.sql("COMMIT")
    words = ("one", "two", "three", "four")
    assert host.sql("SELECT vector FROM vectors") == [vector(word) for word in words]


@pytest.mark.parametrize("client", DOORS)
@pytest.mark.parametrize("inside", [True, False], ids=["in a transaction", "alone"])
def test_an_index_whose_service_dies(scene: Scene, client: str, inside: bool) -> None:
    host = scene.host(client, HOST_DATABASE=str(scene.directory / "app.db"))
    host.sql(TABLE)
    if inside:
        host.sql("BEGIN")
    write(scene, host, "one", "die-once:now two", "three")
    scene.touch("now")
    assert ENDED in host.error(INDEX)
    assert host.run(IN_TRANSACTION) == inside
    assert host.sql("SELECT count(*) FROM t") == [3]
    assert host.sql(STATE) == [(0, 3)], "the index is made, and all waits"
    host.sql("SELECT sqlembed_flush()")
    write(scene, host, "four")
    if inside:
        host.sql("COMMIT")
    host.sql("SELECT sqlembed_flush()")
    assert host.sql(STATE) == [(4, 0)]
    assert host.sql("SELECT id FROM knn('t', 'three', 1)") == [3]
    assert host.sql("PRAGMA integrity_check") == ["ok"]


@pytest.mark.parametrize("client", DOORS)
def test_a_flush_whose_service_dies_goes_on_at_the_next(scene: Scene, client: str) -> None:
    host = scene.host(client)
    host.sql(TABLE)
    host.sql(INDEX)
    for number in range(5):
        write(scene, host, f"one {number}", f"die-once:now{number} two", f"three {number}")
        scene.touch(f"now{number}")
        assert ENDED in host.error("SELECT sqlembed_flush()")
        assert host.sql("SELECT indexed + waiting FROM sqlembed_status") == [3 * number + 3]
        assert not host.run(IN_TRANSACTION)
        host.sql("SELECT sqlembed_flush()")
        assert host.sql(STATE) == [(3 * number + 3, 0)]


@pytest.mark.parametrize("client", DOORS)
def test_a_search_whose_service_dies_is_an_error_and_the_next_is_right(
    scene: Scene, client: str
) -> None:
    host = scene.host(client)
    host.sql(TABLE)
    write(scene, host, "red apple", "green pear")
    host.sql(INDEX)
    write(scene, host, "die-once:now blue plum")
    scene.touch("now")
    search = "SELECT id FROM knn('t', 'blue plum', 1)"
    assert ENDED in host.error(search)
    assert host.sql(search) == [3]
    assert host.sql(STATE) == [(2, 1)], "a search writes nothing"


IMMEDIATE = """SELECT sqlembed_index('t', 'body', '{"mode": "immediate"}')"""


@pytest.mark.parametrize("client", DOORS)
@pytest.mark.parametrize("fault", ["cannot start", "dies", "is stopped"])
def test_a_write_in_immediate_mode_succeeds_without_a_service(
    scene: Scene, client: str, fault: str
) -> None:
    host = scene.host(client, SQLEMBED_TIMEOUT="1")
    host.sql(TABLE)
    host.sql(IMMEDIATE)
    write(scene, host, "before")
    assert host.sql(STATE) == [(1, 0)]
    if fault == "cannot start":
        host.run("os.environ['FAKE_START'] = 'fail'")
        scene.kill()
    elif fault == "is stopped":
        scene.suspend()
    host.sql("BEGIN")
    for number in range(5):
        write(scene, host, f"die {number}" if fault == "dies" else f"text {number}")
    host.sql("COMMIT")
    assert host.sql("SELECT count(*) FROM t") == [6]
    if fault == "cannot start":
        host.run("del os.environ['FAKE_START']")
    elif fault == "is stopped":
        scene.resume()
    assert host.sql(STATE) == [(1, 5)], "they wait"
    host.sql("UPDATE t SET body = 'text ' || id")
    host.sql("SELECT sqlembed_flush()")
    assert host.sql(STATE) == [(6, 0)]
    assert host.sql("SELECT id FROM knn('t', 'text 6', 1)") == [6]


@pytest.mark.parametrize("client", DOORS)
def test_a_thousand_writes_do_not_wait_a_thousand_times(scene: Scene, client: str) -> None:
    host = scene.host(client, SQLEMBED_TIMEOUT="1")
    host.sql(TABLE)
    host.sql(IMMEDIATE)
    scene.suspend()
    took, outcome = host.run(
        'result = timed(lambda: sql("WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1'
        " FROM c LIMIT 20) INSERT INTO t(body) SELECT 'row ' || n FROM c\"))"
    )
    assert took < 10 and outcome == []
    scene.resume()
    assert host.sql(STATE) == [(0, 20)]
