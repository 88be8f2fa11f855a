"""The service is killed: while nobody asks, while it computes, while it starts, at any moment."""

import os
import random
import signal
import time
from pathlib import Path

import pytest
from service.scene import DOORS, Host, Scene, until, vector

from sqlembed.service import server

ROUNDS = 4
ENDED = "sqlembed's service ended"
STARTED_AND_GONE = ("started and is gone again", "no sqlembed service answers")


@pytest.mark.parametrize("client", DOORS)
def test_killed_while_nobody_asks(scene: Scene, client: str) -> None:
    host = scene.host(client)
    for number in range(ROUNDS):
        assert host.embed(f"before {number}") == vector(f"before {number}")
        scene.kill()
        assert host.embed(f"after {number}") == vector(f"after {number}")


@pytest.mark.parametrize("client", DOORS)
def test_killed_while_it_computes_and_asked_once_more(scene: Scene, client: str) -> None:
    host = scene.host(client)
    host.embed("an answer before")
    for number in range(ROUNDS):
        scene.touch(f"now{number}")
        text = f"die-once:now{number} words"
        assert host.embed(text) == vector(text)
    assert len(scene.texts()) == 1 + 2 * ROUNDS


@pytest.mark.parametrize("client", DOORS)
def test_a_text_that_kills_it_each_time_is_an_error(scene: Scene, client: str) -> None:
    host = scene.host(client)
    for number in range(2):
        assert ENDED in host.error(f"SELECT embed('die {number}')")
        assert host.embed(f"fine {number}") == vector(f"fine {number}")
    assert scene.texts() == ["die 0", "die 0", "fine 0", "die 1", "die 1", "fine 1"]


@pytest.mark.parametrize("client", DOORS)
def test_killed_between_request_and_answer(scene: Scene, client: str) -> None:
    scene.start()
    host = scene.host(client)
    host.tell_sql("SELECT embed('wait:go words')")
    scene.begun("go")
    scene.kill()
    scene.touch("go")
    assert host.answer() == [vector("wait:go words")]


@pytest.mark.parametrize("client", DOORS)
def test_killed_while_it_has_said_that_it_works(scene: Scene, client: str) -> None:
    scene.start()
    host = scene.host(client)
    host.tell_sql("SELECT embed('wait:go words')")
    scene.begun("go")
    time.sleep(2.5 * server.TICK_SECONDS)
    scene.kill()
    assert ENDED in host.failed(), "what takes long is not begun again"
    assert scene.texts() == ["wait:go words"]


@pytest.mark.parametrize("client", DOORS)
def test_killed_at_any_moment(scene: Scene, client: str) -> None:
    chance = random.Random(client)
    scene.start()
    host = scene.host(client)
    right = wrong = 0
    for number in range(6):
        moment = chance.random() / 20
        host.tell(
            "result = [timed(lambda: sql('SELECT embed(?)', f'"
            f"round {number} " + "{i}')) for i in range(60)]"
        )
        time.sleep(moment)
        scene.kill()
        for i, (took, outcome) in enumerate(host.answer()):
            assert took < 10
            if isinstance(outcome, str):
                assert ENDED in outcome or "link to sqlembed" in outcome
                wrong += 1
            else:
                assert outcome == [vector(f"round {number} {i}")]
                right += 1
        assert host.embed("still") == vector("still")
    assert right + wrong == 360 and wrong <= 6, "a death is one error at most"


@pytest.mark.parametrize("client", DOORS)
def test_killed_between_the_parts_of_an_aggregate(scene: Scene, client: str) -> None:
    host = scene.host(client)
    host.run(f"""
import signal
db.execute("CREATE TABLE v(n INTEGER PRIMARY KEY, vector)")
db.execute("WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c LIMIT 1000)"
           " INSERT INTO v SELECT n, embed('w') FROM c")
def kill(n):
    if n == 600:
        os.kill(int(open({str(scene.socket)!r} + ".lock").read()), signal.SIGKILL)
    return 1
getattr(db, "create_function", None) and db.create_function("killed", 1, kill)
getattr(db, "create_scalar_function", None) and db.create_scalar_function("killed", kill, 1)
""")
    query = "SELECT vec_mean(vector) FROM v WHERE killed(n)"
    error = host.error(query)
    assert "run the statement again" in error or ENDED in error
    found = host.sql("SELECT vec_distance_cosine(vec_mean(vector), embed('w')) FROM v")
    assert found[0] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("client", DOORS)
@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("fail", ["cannot be started", "told not to start"]),
        ("kill", ["cannot be started"]),
        ("vanish", STARTED_AND_GONE),
    ],
)
def test_a_start_that_fails(scene: Scene, client: str, fault: str, words: list[str]) -> None:
    host = scene.host(client, FAKE_START=fault)
    for _ in range(3):
        message = host.error("SELECT embed('x')")
        assert any(each in message for each in words), message
    host.run("del os.environ['FAKE_START']")
    assert host.embed("x") == vector("x")


@pytest.mark.parametrize("client", DOORS)
@pytest.mark.parametrize("fault", ["fail-once:once", "kill-once:once"])
def test_a_start_that_fails_once(scene: Scene, client: str, fault: str) -> None:
    host = scene.host(client, FAKE_START=fault)
    scene.touch("once")
    assert "cannot be started" in host.error("SELECT embed('x')")
    assert host.embed("x") == vector("x")


def starting(scene: Scene) -> list[int]:
    """Processes of a service that does not answer yet."""
    return until(scene.processes, "a start")  # type: ignore[no-any-return]


@pytest.mark.parametrize("client", DOORS)
def test_killed_while_it_starts(scene: Scene, client: str) -> None:
    host = scene.host(client, FAKE_START="never")
    for _ in range(3):
        host.tell_sql("SELECT embed('x')")
        for process in starting(scene):
            os.kill(process, signal.SIGKILL)
        assert "cannot be started" in host.failed()
    host.run("del os.environ['FAKE_START']")
    assert host.embed("x") == vector("x")


@pytest.mark.parametrize("client", DOORS)
def test_a_start_that_never_listens_can_be_interrupted(scene: Scene, client: str) -> None:
    host = scene.host(client, FAKE_START="never")
    program = "later(0.3, db.interrupt); result = timed(lambda: sql(\"SELECT embed('x')\"))"
    took, outcome = host.run(program)
    assert took < 5 and "interrupted" in outcome.lower()
    scene.touch("go")
    assert host.embed("x") == vector("x")


def test_a_start_that_takes_its_time_is_waited_for(scene: Scene) -> None:
    hosts = [scene.host(client, FAKE_START="never") for client in DOORS]
    for host in hosts:
        host.tell_sql("SELECT embed('x')")
    starting(scene)
    scene.touch("go")
    for host in hosts:
        assert host.answer() == [vector("x")]


def test_the_command_is_missing_or_is_no_program(scene: Scene, tmp_path: Path) -> None:
    host: Host = scene.host()
    plain = tmp_path / "plain"
    plain.write_text("no program")
    for path in (tmp_path / "nothing", tmp_path, plain):
        host.run(f"os.environ['SQLEMBED_COMMAND'] = {str(path)!r}")
        message = host.error("SELECT embed('x')")
        assert "cannot be started" in message and "SQLEMBED_COMMAND" in message
    host.run(f"os.environ['SQLEMBED_COMMAND'] = {str(scene.command)!r}")
    assert host.embed("x") == vector("x")
