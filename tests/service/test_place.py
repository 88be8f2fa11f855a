"""The socket's path: what may lie there, whose it is, and who serves there when many start at once."""

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from service.scene import DOORS, SYSTEM_PYTHON, Scene, until, vector

from sqlembed.errors import ServiceError
from sqlembed.service.address import prepare

NOBODY = 65534
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")


def stale(path: Path) -> None:
    """A socket's file that nobody listens at."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))


def dangling(path: Path) -> None:
    path.symlink_to(path.with_name("nowhere"))


@pytest.mark.parametrize("client", DOORS)
def test_a_file_that_a_killed_service_left_is_replaced(scene: Scene, client: str) -> None:
    host = scene.host(client)
    stale(scene.socket)
    assert host.embed("x") == vector("x")
    scene.kill()
    Path(f"{scene.socket}.lock").write_text("no number")
    assert host.embed("y") == vector("y")


@pytest.mark.parametrize("client", DOORS)
@pytest.mark.parametrize("make", [Path.mkdir, Path.touch, dangling])
def test_what_is_no_socket_is_left_alone(scene: Scene, client: str, make: object) -> None:
    host = scene.host(client)
    make(scene.socket)  # type: ignore[operator]
    before = scene.socket.lstat().st_ino
    for _ in range(2):
        message = host.error("SELECT embed('x')")
        assert f"{scene.socket} is no socket; remove it" in message
    assert scene.socket.lstat().st_ino == before
    shutil.rmtree(scene.socket) if scene.socket.is_dir() else scene.socket.unlink()
    assert host.embed("x") == vector("x")


@pytest.mark.parametrize("client", DOORS)
def test_directories_are_made_and_the_socket_is_the_users_alone(scene: Scene, client: str) -> None:
    path = scene.directory / "some" / "where" / "s"
    host = scene.host(client, SQLEMBED_SOCKET=str(path))
    assert host.embed("x") == vector("x")
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("client", DOORS)
def test_a_path_that_no_socket_can_have(scene: Scene, client: str) -> None:
    for path, words in (
        ("/tmp/" + 110 * "x", "has 115 bytes, and a socket's has at most 107"),
        (str(scene.command / "s"), str(scene.command)),  # below a file
    ):
        host = scene.host(client, SQLEMBED_SOCKET=path)
        assert words in host.error("SELECT embed('x')")


@pytest.mark.parametrize("client", DOORS)
@pytest.mark.parametrize("what", ["lock", "log"])
def test_a_lock_or_a_log_that_cannot_be_written(scene: Scene, client: str, what: str) -> None:
    path = Path(f"{scene.socket}.lock" if what == "lock" else scene.log)
    path.mkdir()
    host = scene.host(client)
    message = host.error("SELECT embed('x')")
    assert "cannot be started" in message and str(path) in message
    path.rmdir()
    assert host.embed("x") == vector("x")


@pytest.mark.parametrize("client", DOORS)
@pytest.mark.parametrize("what", ["socket", "lock", "both"])
def test_a_file_that_is_removed_under_a_service(scene: Scene, client: str, what: str) -> None:
    scene.environment["FAKE_IDLE"] = "60"  # and a look at the place a hundred times a second
    scene.start()
    old = scene.host(client)
    assert old.embed("before") == vector("before")
    if what != "lock":
        scene.socket.unlink()
    if what != "socket":
        Path(f"{scene.socket}.lock").unlink()
        scene.start()  # it finds no lock
    new = scene.host(client)
    for host in (new, old, new):
        assert host.embed(f"after {host is new}") == vector(f"after {host is new}")
    until(lambda: len(scene.processes()) == 1, "the end of the one whose place was taken")
    assert old.embed("at the end") == vector("at the end")


@AS_ROOT
@pytest.mark.parametrize("client", DOORS)
def test_a_directory_of_another_user(scene: Scene, client: str) -> None:
    place = scene.directory / "place"
    place.mkdir(mode=0o755)
    os.chown(place, NOBODY, NOBODY)
    host = scene.host(client, SQLEMBED_SOCKET=str(place / "s"))
    message = host.error("SELECT embed('x')")
    assert f"{place} belongs to user {NOBODY}, and this is user 0" in message
    os.chown(place, 0, 0)
    assert host.embed("x") == vector("x")


@pytest.fixture
def nobody() -> Iterator[None]:
    """Be another user, without any rights."""
    os.seteuid(NOBODY)
    yield
    os.seteuid(0)


@AS_ROOT
@pytest.mark.parametrize("mode", [0o755, 0o1777])
def test_a_directory_of_roots(scene: Scene, request: pytest.FixtureRequest, mode: int) -> None:
    scene.directory.chmod(0o755)
    place = scene.directory / "place"
    place.mkdir()
    place.chmod(mode)
    request.getfixturevalue("nobody")
    if mode & 0o002:  # others may have put their own socket there
        with pytest.raises(ServiceError, match="belongs to user 0, and this is user 65534"):
            prepare(place / "s")
    else:
        prepare(place / "s")


LISTEN = """
import socket, sys
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen()
print("listens", flush=True)
while True:
    connection, _ = listener.accept()
    connection.settimeout(2)
    print(len(connection.recv(1)), flush=True)
"""


@AS_ROOT
@pytest.mark.parametrize("client", DOORS)
def test_a_service_of_another_user_hears_nothing(scene: Scene, client: str) -> None:
    scene.directory.chmod(0o777)
    stranger = subprocess.Popen(
        [SYSTEM_PYTHON, "-c", LISTEN, str(scene.socket)],
        user=NOBODY,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert stranger.stdout and stranger.stdout.readline() == "listens\n"
    try:
        message = scene.host(client).error("SELECT embed('a secret')")
        assert f"is run by user {NOBODY}, and this is user 0" in message
        assert stranger.stdout.readline() == "0\n", "it was told something"
    finally:
        stranger.kill()
        stranger.communicate()


ASK = """
import socket, sys
connection = socket.socket(socket.AF_UNIX)
connection.settimeout(20)
connection.connect(sys.argv[1])
sys.stdout.buffer.write(connection.recv(1000))
"""


@AS_ROOT
def test_a_client_of_another_user_is_refused(scene: Scene) -> None:
    scene.start()
    ask = [SYSTEM_PYTHON, "-c", ASK, str(scene.socket)]
    assert b"Permission" in subprocess.run(ask, user=NOBODY, capture_output=True).stderr
    scene.directory.chmod(0o755)
    scene.socket.chmod(0o666)
    told = subprocess.run(ask, user=NOBODY, capture_output=True)
    assert b"this service is of user 0, and the program of user 65534" in told.stdout, told.stderr
    assert scene.host().embed("x") == vector("x")


def test_ten_that_start_at_once_make_one_service(scene: Scene) -> None:
    for _ in range(3):
        with ThreadPoolExecutor(10) as threads:
            ends = list(threads.map(lambda _: scene.serve(), range(10)))
        assert [(end.returncode, end.stderr) for end in ends] == 10 * [(0, "")]
        until(lambda: len(scene.processes()) == 1, "the end of those that came too late")
        assert scene.processes() == [scene.process()]
        scene.kill()


def test_ten_programs_that_ask_at_once_make_one_service(scene: Scene) -> None:
    hosts = [scene.host(DOORS[number % 5 == 0]) for number in range(10)]
    for host in hosts:
        assert host.run("result = 1") == 1
    for turn in range(3):
        for number, host in enumerate(hosts):
            host.tell_sql("SELECT embed(?)", f"{turn} {number}")
        for number, host in enumerate(hosts):
            assert host.answer() == [vector(f"{turn} {number}")]
        until(lambda: len(scene.processes()) == 1, "the end of those that came too late")
        scene.kill()


def test_a_second_start_and_a_second_stop_say_so(scene: Scene) -> None:
    assert scene.serve("--stop").stdout == "no service runs\n"
    assert scene.serve().stdout == ""
    assert scene.serve().stdout == f"a service runs already at {scene.socket}\n"
    Path(f"{scene.socket}.lock").write_text("")
    refused = scene.serve("--stop")
    assert "does not say which process serves" in refused.stderr
    Path(f"{scene.socket}.lock").write_text(str(scene.processes()[0]))
    assert scene.serve("--stop").stdout == "ended\n"
    assert scene.serve("--stop").stdout == "no service runs\n"
