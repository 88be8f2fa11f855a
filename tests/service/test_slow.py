"""The service is slow, stopped, out of memory, of another version, or has other settings."""

import socket
from collections.abc import Iterator

import pytest
from service.scene import DOORS, Host, Scene, until, vector

SHORT = {"SQLEMBED_TIMEOUT": "1"}
STOPPED = "has not stirred for 1 seconds (SQLEMBED_TIMEOUT)"
MOST_SECONDS = 8
"""More than a second, a slice and a busy machine; less than the 10 seconds of the default."""


def fail_together(hosts: list[Host], words: str) -> None:
    """Have all embed at once; each fails with these *words* soon after a second."""
    for number, host in enumerate(hosts):
        host.tell(f"result = timed(lambda: sql(\"SELECT embed('x{number}')\"))")
    for host in hosts:
        took, outcome = host.answer()
        assert words in outcome and took < MOST_SECONDS


def succeed_together(hosts: list[Host]) -> None:
    """Have all embed at once; each is given its vector."""
    for number, host in enumerate(hosts):
        host.tell_sql(f"SELECT embed('x{number}')")
    for number, host in enumerate(hosts):
        assert host.answer() == [vector(f"x{number}")]


def test_who_waits_for_longer_than_the_timeout_is_kept_patient(scene: Scene) -> None:
    scene.start()
    hosts = [scene.host(client, SQLEMBED_TIMEOUT="3") for client in DOORS]
    for host in hosts:
        host.tell(f"result = timed(lambda: sql(\"SELECT embed('wait:{id(host)} words')\"))")
    for host in hosts:
        scene.begun(str(id(host)))
    with pytest.raises(AssertionError, match="it hangs"):
        hosts[0].answer(4.2)
    for host in hosts:
        scene.touch(str(id(host)))
        took, outcome = host.answer()
        assert took > 4 and outcome == [vector(f"wait:{id(host)} words")]


@pytest.fixture
def hosts(scene: Scene) -> list[Host]:
    """Two of each door, that wait for a second; one of the two is connected already."""
    scene.start()
    made = [scene.host(client, **SHORT) for client in (*DOORS, *DOORS)]
    succeed_together(made[::2])
    return made


def test_a_service_that_is_stopped(scene: Scene, hosts: list[Host]) -> None:
    process = scene.process()
    scene.suspend()
    fail_together(hosts, STOPPED)
    scene.resume()
    succeed_together(hosts)
    assert scene.process() == process


def test_a_service_that_is_stopped_can_be_ended(scene: Scene, hosts: list[Host]) -> None:
    process = scene.process()
    scene.suspend()
    fail_together(hosts, "sqlembed serve --stop")
    assert scene.serve("--stop").stdout == "ended\n"
    succeed_together(hosts)
    assert scene.process() != process


def test_a_service_that_is_stopped_while_it_computes(scene: Scene, hosts: list[Host]) -> None:
    for number, host in enumerate(hosts):
        host.tell_sql(f"SELECT embed('wait:go{number} words')")
        scene.begun(f"go{number}")
    scene.suspend()
    for number, host in enumerate(hosts):
        assert STOPPED in host.failed()
        scene.touch(f"go{number}")
    scene.resume()
    succeed_together(hosts)  # not the answers that came too late


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


def test_a_stopped_service_that_takes_no_more_connections(
    scene: Scene, crowd: list[socket.socket]
) -> None:
    hosts = [scene.host(client, **SHORT) for client in DOORS]
    fail_together(hosts, "takes no connection; is it stopped?")
    for host in hosts:
        host.run("os.environ['SQLEMBED_TIMEOUT'] = '20'")
    for number, host in enumerate(hosts):
        host.tell_sql(f"SELECT embed('y{number}')")
    scene.resume()
    for number, host in enumerate(hosts):
        assert host.answer() == [vector(f"y{number}")]


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
