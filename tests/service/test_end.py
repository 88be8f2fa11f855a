"""The service ends by itself: because nobody asks, or because it is told to, while clients ask."""

import random
import time

import pytest
from service.raw import GREETING, asking, connected, everything
from service.scene import DOORS, Scene, until, vector


def test_it_ends_when_nobody_asks(scene: Scene) -> None:
    process = scene.start("--idle", "1")
    host = scene.host()
    assert host.embed("x") == vector("x")
    until(lambda: not scene.processes(), "its end")
    assert not scene.socket.exists()
    assert "nobody asked for 1 seconds" in scene.log.read_text()
    assert host.embed("x") == vector("x")
    assert scene.process() != process


@pytest.mark.parametrize("client", DOORS)
def test_no_call_is_lost_at_the_moment_of_an_end(scene: Scene, client: str) -> None:
    chance = random.Random(client)
    host = scene.host(client, FAKE_IDLE="0.1")
    host.run("import time")
    pauses = [0.09 + chance.random() / 25 for _ in range(12)]
    found = host.run(
        "result = []\n"
        f"for number, pause in enumerate({pauses}):\n"
        "    result += sql('SELECT embed(?)', f'text {number}')\n"
        "    time.sleep(pause)"
    )
    assert found == [vector(f"text {number}") for number in range(len(pauses))]
    ended = scene.log.read_text().count("nobody asked for 0.1 seconds")
    assert ended > 3, "the pauses are as long as its patience"


STOPS = 5


def served(scene: Scene, before: int) -> int:
    """How many of two clients' next two calls have come, after *before* texts."""
    texts = [text.partition(" ")[0] for text in scene.texts()[before:]]
    return sum(min(2, texts.count(name)) for name in ("one", "two"))


@pytest.mark.parametrize("client", DOORS)
def test_no_call_is_lost_while_services_are_stopped_one_after_another(
    scene: Scene, client: str
) -> None:
    hosts = {name: scene.host(client) for name in ("one", "two")}
    for name, host in hosts.items():
        host.tell(
            "result = []\nwhile not os.path.exists(os.environ['FAKE_DIRECTORY'] + '/enough'):\n"
            f"    result += sql('SELECT embed(?)', f'{name} {{len(result)}}')"
        )
    for _ in range(STOPS):
        before = len(scene.texts())
        until(
            lambda before=before: (
                all(host.goes_on() for host in hosts.values()) and served(scene, before) == 4
            ),
            "calls of both",
        )
        assert scene.serve("--stop").stdout == "ended\n"
    scene.touch("enough")
    for name, host in hosts.items():
        found = host.answer()
        wrong = [n for n, each in enumerate(found) if each != vector(f"{name} {n}")]
        assert len(found) > 2 * STOPS and not wrong


@pytest.mark.parametrize("client", DOORS)
def test_a_stop_lets_a_call_finish(scene: Scene, client: str) -> None:
    process = scene.start()
    host, other = scene.host(client), scene.host(client)
    assert other.embed("before") == vector("before")
    host.tell_sql("SELECT embed('wait:go words')")
    scene.begun("go")
    scene.host().run(f"os.kill({process}, signal.SIGTERM)")
    until(lambda: not scene.socket.exists(), "its place is free")
    # The next one starts while the old one finishes.
    assert scene.host(client).embed("new") == vector("new")
    for number in range(2):
        assert other.embed(f"after {number}") == vector(f"after {number}")
    assert sorted(scene.processes()) == sorted([process, scene.process()])
    scene.touch("go")
    assert host.answer() == [vector("wait:go words")]
    until(lambda: scene.processes() == [scene.process()], "the old one's end")
    assert host.embed("at last") == vector("at last")


@pytest.mark.parametrize("client", DOORS)
def test_a_stop_lets_an_aggregate_finish(scene: Scene, client: str) -> None:
    process = scene.start()
    host = scene.host(client)
    host.run(
        f"name = 'create_function' if DOOR == 'extension' else 'create_scalar_function'\n"
        "def stop(n):\n"
        "    if n == 600:\n"
        f"        os.kill(int(open({str(scene.socket) + '.lock'!r}).read()), signal.SIGTERM)\n"
        f"        while os.path.exists({str(scene.socket)!r}): pass\n"
        "    return 1\n"
        "order = ('stop', 1, stop) if DOOR == 'extension' else ('stop', stop, 1)\n"
        "getattr(db, name)(*order)"
    )
    found = host.sql(
        "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c LIMIT 1000)"
        " SELECT vec_distance_cosine(vec_mean(embed('w')), embed('w')) FROM c WHERE stop(n)"
    )
    assert found[0] == pytest.approx(0, abs=1e-6)
    until(lambda: process not in scene.processes(), "its end")


def test_it_goes_on_while_anybody_asks(scene: Scene) -> None:
    process = scene.start(FAKE_IDLE="0.8")
    limit = time.monotonic() + 1.7
    while time.monotonic() < limit:
        scene_connection = connected(scene.socket, GREETING + asking("x"))
        scene_connection.shutdown(1)
        assert vector("x") in everything(scene_connection)
    assert scene.processes() == [process]
