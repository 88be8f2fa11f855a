"""Many clients at once, and such as die, are silent, do not listen, or talk nonsense."""

import os
import random
import time
from collections.abc import Iterator

import pytest
from service.raw import GREETING, asking, connected, everything
from service.scene import DOORS, Scene, until, vector

CROWD = """
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
together = Barrier({clients})
def work(number):
    mine = connect()
    together.wait()
    return [sql("SELECT embed(?)", f"{name} {{number}} {{turn}}", on=mine)[0] for turn in range(8)]
with ThreadPoolExecutor({clients}) as threads:
    result = list(threads.map(work, range({clients})))
"""


def files(process: int) -> int:
    """How many files, and so connections, a process has open."""
    return len(os.listdir(f"/proc/{process}/fd"))


@pytest.fixture
def quiet(scene: Scene) -> Iterator[int]:
    """A running service, which has no more files open in the end than it had before."""
    process = scene.start()
    host = scene.host()
    host.embed("cache and model are open")
    host.end()
    until(lambda: not list(scene.connections()), "the host's end")
    before = files(process)
    yield process
    for host in scene.hosts:
        host.end()
    assert scene.process() == process, "it lives"
    until(lambda: files(process) <= before, "the end of every connection")


def test_fifty_clients_at_once_are_each_given_their_own_vectors(scene: Scene, quiet: int) -> None:
    hosts = {f"host{number}": scene.host(DOORS[number % 2]) for number in range(4)}
    for name, host in hosts.items():
        host.tell(CROWD.format(name=name, clients=13))
    for name, host in hosts.items():
        for number, found in enumerate(host.answer()):
            assert found == [vector(f"{name} {number} {turn}") for turn in range(8)]


@pytest.mark.parametrize("client", DOORS)
def test_a_client_that_is_killed_in_the_middle_of_a_call(
    scene: Scene, quiet: int, client: str
) -> None:
    other = scene.host(client)
    for number in range(5):
        host = scene.host(client)
        host.tell_sql(f"SELECT embed('wait:go{number} words')")
        scene.begun(f"go{number}")
        assert other.embed(f"meanwhile {number}") == vector(f"meanwhile {number}")
        host.end()
        until((scene.directory / f"go{number}.gone").exists, "that the engine hears of it")
        assert other.embed(f"after {number}") == vector(f"after {number}")


@pytest.mark.parametrize("client", DOORS)
def test_clients_that_are_killed_at_any_moment(scene: Scene, quiet: int, client: str) -> None:
    chance = random.Random(client)
    other = scene.host(client)
    for number in range(6):
        host = scene.host(client)
        host.run("sql('CREATE TABLE t(body)')")
        host.tell(
            'sql("WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c LIMIT 500)'
            f" INSERT INTO t SELECT 'row {number} ' || n FROM c\")\n"
            "sql(\"SELECT sqlembed_index('t', 'body')\")\n"
            "sql(\"SELECT vec_mean(embed('group ' || body)) FROM t\")"
        )
        time.sleep(chance.random() / 4)
        host.process.kill()
        assert other.embed(f"after {number}") == vector(f"after {number}")


def test_clients_that_say_nothing(scene: Scene, quiet: int) -> None:
    silent = [connected(scene.socket) for _ in range(30)]
    silent += [connected(scene.socket, GREETING[:3]) for _ in range(30)]
    silent += [connected(scene.socket, GREETING + asking("x")[:-1]) for _ in range(30)]
    assert scene.host().embed("x") == vector("x")
    for one in silent:
        one.close()


SAID = {
    "nothing": b"",
    "part of a greeting": GREETING[:3],
    "a greeting": GREETING,
    "part of a call": GREETING + asking("x")[:-1],
}


@pytest.mark.parametrize("said", SAID.values(), ids=SAID)
def test_a_client_that_says_nothing_keeps_no_service_from_ending(scene: Scene, said: bytes) -> None:
    for end in ("idle", "stop"):
        process = scene.start(**({"FAKE_IDLE": "0.2"} if end == "idle" else {}))
        silent = connected(scene.socket, said)
        if end == "stop":
            assert scene.serve("--stop").stdout == "ended\n"
        until(lambda process=process: process not in scene.processes(), "its end")
        everything(silent)


def test_a_client_that_does_not_listen(scene: Scene, quiet: int) -> None:
    deaf = connected(scene.socket, GREETING)
    deaf.setblocking(False)
    with pytest.raises(BlockingIOError):
        while True:
            deaf.send(asking("x"))
    assert scene.host().embed("y") == vector("y")
    deaf.close()


def test_clients_that_talk_nonsense(scene: Scene, quiet: int) -> None:
    chance = random.Random(1)
    host = scene.host()
    for number in range(200):
        nonsense = chance.randbytes(chance.choice((5, 20, 300)))
        sense = GREETING if number % 2 else b""
        if number % 4 > 1:  # a header with sense
            nonsense = len(nonsense).to_bytes(4, "little") + nonsense
        one = connected(scene.socket, sense + nonsense)
        one.shutdown(1)
        heard = everything(one)
        assert b"a fault in" not in heard, nonsense
        if number % 20 == 0:
            assert host.embed(f"after {number}") == vector(f"after {number}")
    assert "Traceback" not in scene.log.read_text()
