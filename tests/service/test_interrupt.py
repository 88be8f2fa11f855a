"""A host does not want to wait any more: its statement ends soon, and the connection is of use."""

import apsw
import pytest
from service.scene import DOORS, Scene, vector

SOON = 5
"""Seconds; on a machine at leisure it takes a twentieth of one."""
WAYS = """
def limited(when, text):
    db.set_progress_handler(when, 100)
    try:
        return timed(lambda: sql(text))
    finally:
        db.set_progress_handler(None, 100)
def interrupted(when, text):
    def wait():
        while not when(): time.sleep(0.01)
        db.interrupt()
    threading.Thread(target=wait).start()
    return timed(lambda: sql(text))
def begun(name):
    return lambda: os.path.exists(os.environ["FAKE_DIRECTORY"] + f"/{name}.begun")
def soon():
    end = time.monotonic() + 0.2
    return lambda: time.monotonic() > end
"""
HOW = ("interrupted", "limited")


@pytest.mark.parametrize("client", DOORS)
@pytest.mark.parametrize("how", HOW)
def test_a_call_that_waits_is_ended(scene: Scene, client: str, how: str) -> None:
    host = scene.host(client)
    host.run(WAYS)
    for number in range(3):
        text = f"wait:go{number} words"
        took, outcome = host.run(f"result = {how}(begun('go{number}'), \"SELECT embed('{text}')\")")
        assert took < SOON and "interrupted" in str(outcome).lower()
        assert host.embed(f"after {number}") == vector(f"after {number}")
        scene.touch(f"go{number}")
        assert host.embed(text) == vector(text)
    assert len(scene.processes()) == 1


@pytest.mark.parametrize("client", DOORS)
@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("greeted", [True, False])
def test_a_wait_for_a_stopped_service_is_ended(
    scene: Scene, client: str, how: str, greeted: bool
) -> None:
    scene.start()
    host = scene.host(client)
    host.run(WAYS)
    if greeted:
        host.embed("before")
    scene.suspend()
    took, outcome = host.run(f"result = {how}(soon(), \"SELECT embed('x')\")")
    assert took < SOON and "interrupted" in str(outcome).lower()
    scene.resume()
    assert host.embed("x") == vector("x")


@pytest.mark.parametrize("client", DOORS)
@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("work", ["flush", "index"])
def test_a_plan_that_waits_is_ended_and_leaves_no_half(
    scene: Scene, client: str, how: str, work: str
) -> None:
    host = scene.host(client)
    host.run(WAYS)
    host.sql("CREATE TABLE t(id INTEGER PRIMARY KEY, body)")
    host.sql("INSERT INTO t(body) VALUES ('one'), ('wait:go two')")
    flush = "SELECT sqlembed_flush('t')"
    index = "SELECT sqlembed_index('t', 'body', '{\"backlog\": \"%s\"}')"
    if work == "flush":
        host.sql(index % "later")
    text = flush if work == "flush" else index % "now"
    took, outcome = host.run(f"result = {how}(begun('go'), {text!r})")
    assert took < SOON and "interrupted" in str(outcome).lower()
    assert host.sql("SELECT indexed + waiting FROM sqlembed_status") == [2]
    host.sql("BEGIN")  # none is open
    host.sql("INSERT INTO t(body) VALUES ('three')")
    host.sql("COMMIT")
    scene.touch("go")
    host.sql(flush)
    assert host.sql("SELECT indexed, waiting FROM sqlembed_status") == [(3, 0)]


@pytest.mark.parametrize("client", DOORS)
def test_an_interrupt_undoes_the_transaction_or_leaves_it(scene: Scene, client: str) -> None:
    host = scene.host(client)
    host.run(WAYS)
    host.sql("CREATE TABLE t(id INTEGER PRIMARY KEY, body)")
    for number in range(3):
        host.sql("BEGIN")
        host.sql("INSERT INTO t(body) VALUES ('first')")
        text = f"INSERT INTO t(body) SELECT embed('wait:go{number} words')"
        took, _ = host.run(f"result = interrupted(begun('go{number}'), {text!r})")
        assert took < SOON
        open_still = host.run(
            "result = db.in_transaction if hasattr(db, 'in_transaction') else not db.getautocommit()"
        )
        # SQLite rolls everything back where a statement that writes is interrupted.
        if open_still:
            host.sql("COMMIT")
        assert host.sql("SELECT count(*) FROM t WHERE body != 'first'") == [0]
        scene.touch(f"go{number}")


@pytest.mark.parametrize("client", DOORS)
@pytest.mark.parametrize("how", HOW)
def test_a_wait_for_another_that_writes_is_ended(scene: Scene, client: str, how: str) -> None:
    path = str(scene.directory / "app.db")
    host = scene.host(client, HOST_DATABASE=path)
    host.run(WAYS)
    host.sql("CREATE TABLE t(id INTEGER PRIMARY KEY, body)")
    host.sql("INSERT INTO t(body) VALUES ('one')")
    host.sql("SELECT sqlembed_index('t', 'body', '{\"backlog\": \"later\"}')")
    host.sql("PRAGMA busy_timeout = 0")
    other = apsw.Connection(path)
    other.execute("BEGIN IMMEDIATE")
    took, outcome = host.run(f"result = {how}(soon(), 'SELECT sqlembed_flush()')")
    assert took < SOON and "interrupted" in str(outcome).lower()
    other.execute("ROLLBACK")
    assert host.sql("SELECT sqlembed_flush()") == [1]
    other.close()
