"""A service of its own for a test, on a fake model, and programs that use it; all real processes."""

import ast
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from harness import FAKES, FakeModel, install_fake
from service import nursery

from sqlembed import extension

HERE = Path(__file__).parent
SYSTEM_PYTHON = "/usr/bin/python3"
"""Whose sqlite3 can load extensions."""
PATIENCE_SECONDS = 30.0
"""More than anything takes on a busy machine; a test that waits so long fails."""
DOORS = ("extension", "service")


def until(condition: Callable[[], Any], what: str, limit: float = PATIENCE_SECONDS) -> Any:
    """Wait until *condition* holds, and give what it gave."""
    end = time.monotonic() + limit
    while not (found := condition()):
        assert time.monotonic() < end, f"{what}: not within {limit} seconds"
        time.sleep(0.005)
    return found


def vector(text: str) -> bytes:
    """What the fake model makes of *text*."""
    model = FakeModel(SimpleNamespace(name="fake", dimension=64), Path())  # type: ignore[arg-type]
    made: bytes = model._vector(text).astype("<f4").tobytes()
    return made


class HostError(Exception):
    """What the host's program raised."""


class Forked:
    """A process that a nursery has forked for us; as much of ``subprocess.Popen`` as is needed."""

    def __init__(self, path: Path, environment: dict[str, str]) -> None:
        theirs, mine = os.pipe(), os.pipe()
        self.pid, self._connection = nursery.order(
            str(path), environment, [], [theirs[0], mine[1], 2]
        )
        os.close(theirs[0])
        os.close(mine[1])
        self.stdin, self.stdout = os.fdopen(theirs[1], "wb"), os.fdopen(mine[0], "rb")

    def kill(self) -> None:
        """End it at once."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    def wait(self) -> None:
        """Wait for its end."""
        until(lambda: not alive(self.pid), "its end")
        self._connection.close()


class Host:
    """A program that uses SQLite, driven line by line."""

    def __init__(self, door: str, environment: dict[str, str], nursery: Path) -> None:
        environment = environment | {"HOST_DOOR": door}
        self.process: Forked | subprocess.Popen[bytes]
        if door == "extension":
            self.process = subprocess.Popen(
                [SYSTEM_PYTHON, str(HERE / "host.py")],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=environment,
            )
        else:
            self.process = Forked(nursery, environment)
        self._read = b""
        self._ready = False

    def tell(self, program: str) -> None:
        """Have it run *program*, whose ``result`` is the answer."""
        if not self._ready:
            self._ready = True
            self.answer()
        assert self.process.stdin
        self.process.stdin.write(repr(program).encode() + b"\n")
        self.process.stdin.flush()

    def answer(self, limit: float = PATIENCE_SECONDS) -> Any:
        """What the last program gave."""
        assert self.process.stdout
        end = time.monotonic() + limit
        while b"\n" not in self._read:
            left = end - time.monotonic()
            assert left > 0 and select.select([self.process.stdout], [], [], left)[0], "it hangs"
            part = os.read(self.process.stdout.fileno(), 1 << 16)
            assert part, f"the host ended, with {self.process.wait()}"
            self._read += part
        line, self._read = self._read.split(b"\n", 1)
        kind, outcome = ast.literal_eval(line.decode())
        if kind == "error":
            raise HostError(outcome)
        return outcome

    def goes_on(self) -> bool:
        """Whether the last program runs yet; an error that has ended it is raised."""
        if not select.select([self.process.stdout], [], [], 0)[0]:
            return True
        self.answer()
        return False

    def run(self, program: str, limit: float = PATIENCE_SECONDS) -> Any:
        """Run *program* there, and give its ``result``."""
        self.tell(program)
        return self.answer(limit)

    def tell_sql(self, text: str, *bindings: Any) -> None:
        """Have it run SQL."""
        self.tell(f"result = sql(*{(text, *bindings)!r})")

    def sql(self, text: str, *bindings: Any) -> Any:
        """All rows; a single column's values as a list."""
        self.tell_sql(text, *bindings)
        return self.answer()

    def embed(self, text: str) -> bytes:
        """The vector that it is given for *text*."""
        (found,) = self.sql("SELECT embed(?)", text)
        assert isinstance(found, bytes)
        return found

    def error(self, text: str, *bindings: Any) -> str:
        """What SQL fails with."""
        found = self.run(f"result = error(lambda: sql(*{(text, *bindings)!r}))")
        return str(found)

    def failed(self) -> str:
        """What the SQL that it was told fails with."""
        try:
            found = self.answer()
        except HostError as error:
            return str(error)
        raise AssertionError(f"no error, but {found!r}")

    def end(self) -> None:
        """Kill it."""
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            assert stream
            with suppress(BrokenPipeError):
                stream.close()


class Nurseries:
    """The processes that services, and hosts with Python's client, are forked from."""

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="sqe", dir="/tmp"))
        self.services, self.hosts = self.directory / "services", self.directory / "hosts"
        # What processes of ours are known by.
        environment = {"FAKE_NURSERY": str(self.services), "OPENBLAS_NUM_THREADS": "1"}
        self._processes = [
            subprocess.Popen(
                [sys.executable, str(HERE / program), "nursery", str(path)],
                env=os.environ | environment,
                stdin=subprocess.PIPE,  # it ends with us, however we end
                stdout=subprocess.PIPE,
            )
            for program, path in (("fake_serve.py", self.services), ("host.py", self.hosts))
        ]
        for each in self._processes:
            assert each.stdout
            assert each.stdout.readline() == b"ready\n"

    def end(self) -> None:
        """Kill them; who was forked lives on."""
        for each in self._processes:
            each.kill()
            each.communicate()
        shutil.rmtree(self.directory)


class Scene:
    """A directory with a socket, models, and what is needed to start services and hosts there."""

    def __init__(self, nurseries: Nurseries) -> None:
        """Start nothing yet."""
        # A socket's path has room for 107 bytes; pytest's directories are longer.
        self.directory = Path(tempfile.mkdtemp(prefix="sqe", dir="/tmp"))
        self.socket = self.directory / "s"
        self.log = self.directory / "log"
        self.command = self.directory / "serve.sh"
        (self.directory / "processes").mkdir()
        start = f"{SYSTEM_PYTHON} -IS {HERE}/fake_start.py"
        self.command.write_text(f'#!/bin/sh\nexec {start} "$@"\n')
        self.command.chmod(0o755)
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("SQLEMBED_") and not name.startswith("PYTEST")
        }
        self.environment = inherited | {
            "SQLEMBED_SOCKET": str(self.socket),
            "SQLEMBED_LOG": str(self.log),
            "SQLEMBED_DATA": str(self.directory / "data"),
            "SQLEMBED_CACHE": str(self.directory / "cache.db"),
            "SQLEMBED_MODEL": "fake",
            "SQLEMBED_COMMAND": str(self.command),
            "HOST_LIBRARY": str(extension.path()).removesuffix(".so"),
            "FAKE_DIRECTORY": str(self.directory),
            "FAKE_NURSERY": str(nurseries.services),
        }
        self._nursery = nurseries.hosts
        self.hosts: list[Host] = []
        with patch.dict(os.environ, self.environment):
            for name, kind, dimension, query in FAKES:
                if kind == "embedder":
                    install_fake(name, kind, dimension, query)

    def host(self, door: str = "extension", **environment: str) -> Host:
        """Start a program that uses SQLite."""
        made = Host(door, self.environment | environment, self._nursery)
        self.hosts.append(made)
        return made

    def serve(self, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        """Run the ``sqlembed serve`` of the scene to its end; what it starts goes on."""
        return subprocess.run(
            [str(self.command), "serve", *arguments],
            env=self.environment | environment,
            capture_output=True,
            text=True,
            timeout=90,
        )

    def start(self, *arguments: str, **environment: str) -> int:
        """Start the service; its process id."""
        done = self.serve(*arguments, **environment)
        assert done.returncode == 0, done.stderr
        return self.process()

    def process(self) -> int:
        """The service's process, as its lock says."""
        return int(Path(f"{self.socket}.lock").read_text())

    def kill(self) -> None:
        """Kill the service, and see it gone."""
        process = self.process()
        os.kill(process, signal.SIGKILL)
        until(lambda: not alive(process), "its end")

    def suspend(self) -> None:
        """Stop the service as a debugger does, and see it stopped."""
        os.kill(self.process(), signal.SIGSTOP)
        until(lambda: state(self.process()) == "T", "its rest")

    def resume(self) -> None:
        """Have the service go on."""
        os.kill(self.process(), signal.SIGCONT)

    def begun(self, name: str) -> None:
        """Wait until the model waits for the file *name*."""
        until((self.directory / f"{name}.begun").exists, f"the model at {name}")

    def connections(self) -> list[str]:
        """The connected sockets of the service, as the system lists them."""
        lines = Path("/proc/net/unix").read_text().splitlines()
        return [line for line in lines if line.endswith(f" {self.socket}") and " 0001 03 " in line]

    def touch(self, name: str) -> None:
        """Make the file *name*: what waits for it goes on."""
        (self.directory / name).touch()

    def texts(self) -> list[str]:
        """What models were asked for, in their order."""
        path = self.directory / "texts"
        return path.read_text().splitlines() if path.exists() else []

    def processes(self) -> list[int]:
        """The processes of this scene's services that live."""
        mine = f"FAKE_NURSERY={self.environment['FAKE_NURSERY']}".encode()
        found = [int(path.name) for path in (self.directory / "processes").iterdir()]
        return [each for each in found if alive(each) and mine in environment_of(each)]

    def end(self) -> None:
        """End every process, and remove the directory."""
        for host in self.hosts:
            host.end()
        # Again: one may have been starting another just now.
        for _ in range(100):
            if not (left := self.processes()):
                break
            for process in left:
                try:
                    os.kill(process, signal.SIGKILL)
                except ProcessLookupError:
                    continue
                until(lambda process=process: not alive(process), "its end")  # type: ignore[misc]
        shutil.rmtree(self.directory, ignore_errors=True)


def environment_of(process: int) -> list[bytes]:
    """The environment that a process was started with."""
    try:
        return Path(f"/proc/{process}/environ").read_bytes().split(b"\0")
    except OSError:
        return []


def state(process: int) -> str:
    """A process's state as the system's letter for it; Z where there is none."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return "Z"


def alive(process: int) -> bool:
    """Whether a process runs; a zombie does not."""
    return state(process) != "Z"
