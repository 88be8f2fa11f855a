"""The service is slow, stopped, out of memory, of another version, or has other settings."""

import socket
from collections.abc import Iterator

import pytest
from service.scene import DOORS, Host, Scene, until, vector

SHORT = {"SQLEMBED_TIMEOUT": "1"}
STOPPED = "has not stirred for 1 seconds (SQLEMBED_TIMEOUT)"
MOST_SECONDS = 8
"""More than a second, a slice and a busy machine; less than the 10 seconds of the default."""


def timed_embed(host: Host, text: str) -> tuple[float, str]:
    """How long an embed took, and its error."""
    took, outcome = host.run(f"result = timed(lambda: sql('SELECT embed(?)', {text!r}))")
    return took, str(outcome)


def test_who_waits_for_longer_than_the_timeout_is_kept_patient(scene: Scene) -> None:
    scene.start()
    hosts = [scene.host(client, SQLEMBED_TIMEOUT="2") for client in DOORS]
    for host in hosts:
        host.tell(f"result = timed(lambda: sql(\"SELECT embed('wait:{id(host)} words')\"))")
    for host in hosts:
        scene.begun(str(id(host)))
    with pytest.raises(AssertionError, match="it hangs"):
        hosts[0].answer(3.5)
    for host in hosts:
        scene.touch(str(id(host)))
        took, outcome = host.answer()
        assert took > 3 and outcome == [vector(f"wait:{id(host)} words")]


@pytest.mark.parametrize("client", DOORS)
@pytest.mark.parametrize("connected", [True, False])
def test_a_service_that_is_stopped(scene: Scene, client: str, connected: bool) -> None:
    process = scene.start()
    host = scene.host(client, **SHORT)
    if connected:
        host.embed("before")
    scene.suspend()
    took, message = timed_embed(host, "x")
    assert STOPPED in message and "sqlembed serve --stop" in message
    assert took < MOST_SECONDS
    scene.resume()
    assert host.embed("x") == vector("x")
    assert scene.process() == process


@pytest.mark.parametrize("client", DOORS)
def test_a_service_that_is_stopped_can_be_ended(scene: Scene, client: str) -> None:
    process = scene.start()
    host = scene.host(client, **SHORT)
    scene.suspend()
    assert STOPPED in host.error("SELECT embed('x')")
    assert scene.serve("--stop").stdout == "ended\n"
    assert host.embed("x") == vector("x")
    assert scene.process() != process


@pytest.mark.parametrize("client", DOORS)
def test_a_service_that_is_stopped_while_it_computes(scene: Scene, client: str) -> None:
    scene.start()
    host = scene.host(client, **SHORT)
    host.tell_sql("SELECT embed('wait:go words')")
    scene.begun("go")
    scene.suspend()
    assert STOPPED in host.failed()
    scene.touch("go")
    scene.resume()
    assert host.embed("other") == vector("other"), "not the answer that came too late"


@pytest.fixture
def crowd(scene: Scene) -> Iterator[list[socket.socket]]:
    """Programs that wait for a stopped service to take their connections; no more fit."""
    scene.start()
    scene.suspend()
    waiting: list[socket.socket] = []
    while True:
        one = socket.socket(socket.AF_UNIX)
        one.setblocking(False)
        waiting.append(one)
        if one.connect_ex(str(scene.socket)):
            break
    yield waiting
    for one in waiting:
        one.close()


@pytest.mark.parametrize("client", DOORS)
def test_a_stopped_service_that_takes_no_more_connections(
    scene: Scene, crowd: list[socket.socket], client: str
) -> None:
    host = scene.host(client, **SHORT)
    took, message = timed_embed(host, "x")
    assert "takes no connection" in message and took < MOST_SECONDS
    host.tell_sql("SELECT embed('y')")
    scene.resume()
    assert host.answer() == [vector("y")]


FAULTS = {
    "memory": "sqlembed's service ran out of memory",
    "hoard": "sqlembed's service ran out of memory",
    "fault": "a fault in sqlembed's service: RuntimeError: the fake model was told to fail",
}


@pytest.mark.parametrize("client", DOORS)
def test_a_call_that_fails_is_an_error_and_the_next_is_answered(scene: Scene, client: str) -> None:
    process = scene.start(FAKE_MEMORY=str(256 << 20))
    host, other = scene.host(client), scene.host(client)
    for turn in range(2):
        for fault, words in FAULTS.items():
            assert words in host.error(f"SELECT embed('{fault} {turn}')")
            for each in (host, other):
                text = f"{fault} {turn} {each is host}".replace(fault, fault.upper())
                assert each.embed(text) == vector(text)
    assert scene.process() == process, "the same as before"
    assert "MemoryError" in scene.log.read_text()


@pytest.mark.parametrize("client", DOORS)
@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ({"FAKE_DIGEST": 64 * "e"}, "functions eeeeeeee"),
        ({"FAKE_PROTOCOL": "7"}, "protocol 7"),
    ],
)
def test_a_service_of_another_version(
    scene: Scene, client: str, fault: dict[str, str], words: str
) -> None:
    scene.start(**fault)
    host = scene.host(client)
    for _ in range(2):
        message = host.error("SELECT embed('x')")
        assert words in message and "sqlembed serve --stop" in message
    assert scene.serve("--stop").stdout == "ended\n"
    assert host.embed("x") == vector("x")


@pytest.mark.parametrize("client", DOORS)
@pytest.mark.parametrize("name", ["SQLEMBED_DATA", "SQLEMBED_CACHE", "SQLEMBED_MODEL"])
def test_a_service_with_other_settings(shared: Scene, client: str, name: str) -> None:
    host = shared.host(client, **{name: "other"})
    for _ in range(2):
        message = host.error("SELECT embed('x')")
        assert f"{name}=other, and the service that runs uses" in message
    host.run(f"del os.environ[{name!r}]")
    assert host.embed("x") == vector("x")
    until(lambda: len(shared.processes()) == 1, "one service")
