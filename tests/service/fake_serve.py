"""``sqlembed serve`` on a fake model, with faults to be had for the asking.

A text asks for a fault with its first word: ``sleep:SECONDS``, ``wait:NAME`` (until the file NAME is
in FAKE_DIRECTORY, or nobody waits for the answer; NAME.begun says that it waits, NAME.gone that it was
left), ``die`` (kill -9), ``die-once:NAME`` (if that file
is there; it is taken away), ``memory`` (MemoryError), ``hoard`` (memory until none is left), ``fault``.
FAKE_START asks for one of the start: ``fail``, ``never`` (it does not listen until the file ``go``
is there), ``kill``, ``vanish`` (it says that it started, and did not), ``fail-once:NAME``,
``kill-once:NAME``. FAKE_DIGEST and FAKE_PROTOCOL make it another version, FAKE_MEMORY leaves it so many
bytes more, FAKE_IDLE has it end after so many seconds, FAKE_ARGUMENTS are more of the command's.

Tests start services by the hundred: with the argument ``nursery`` and a socket's path this forks one
for each ``fake_start.py``.
"""

import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

# The real one loads llama.cpp.
stand_in = ModuleType("sqlembed.engine.model")
stand_in.Model = object  # type: ignore[attr-defined]
sys.modules["sqlembed.engine.model"] = stand_in
sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np  # noqa: E402
import nursery  # noqa: E402
import prometheus_client  # noqa: E402, F401  # now, for the nursery
from harness import FakeModel  # noqa: E402

import sqlembed.cli.serve  # noqa: E402, F401  # now, for the nursery
from sqlembed.cli import main as command  # noqa: E402
from sqlembed.engine import clients, library  # noqa: E402
from sqlembed.engine.interface import Engine  # noqa: E402
from sqlembed.service import conversation, link, server  # noqa: E402

PATIENCE_SECONDS = 60


def directory() -> Path:
    """Where the test and this speak by files."""
    return Path(os.environ["FAKE_DIRECTORY"])


def wait_for(name: str, stop: Callable[[], bool] = clients.never) -> None:
    limit = time.monotonic() + PATIENCE_SECONDS
    while not (directory() / name).exists() and time.monotonic() < limit and not stop():
        time.sleep(0.005)


def take_away(name: str) -> bool:
    try:
        (directory() / name).unlink()
    except FileNotFoundError:
        return False
    return True


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def note_process() -> None:
    """Tell the test whom to end."""
    if "FAKE_DIRECTORY" in os.environ:
        (directory() / "processes" / str(os.getpid())).touch()


class FaultyModel(FakeModel):
    """A fake that fails as it is told."""

    def embed(self, texts: Sequence[str], role: str) -> np.ndarray:
        with (directory() / "texts").open("a") as file:
            file.writelines(f"{text}\n" for text in texts)
        for text in texts:
            self.fault(*text.partition(" ")[0].partition(":"))
        return super().embed(texts, role)

    def fault(self, which: str, _: str, name: str) -> None:
        if which == "sleep":
            time.sleep(float(name))
        elif which == "wait":
            (directory() / f"{name}.begun").touch()
            wait_for(name, clients.gone.get())
            if clients.gone.get()():
                (directory() / f"{name}.gone").touch()
        elif which == "die" or (which == "die-once" and take_away(name)):
            kill()
        elif which == "memory":
            raise MemoryError
        elif which == "hoard":
            hoard = []
            while True:
                hoard.append(bytearray(1 << 20))
        elif which == "fault":
            raise RuntimeError("the fake model was told to fail")


def end_after(seconds: float) -> None:
    """Have servers end when they have idled for less than the command's whole seconds."""
    begin = server.Server.__init__

    def begun(
        self: server.Server, listener: socket.socket, engine: Engine, _: object, *rest: Any
    ) -> None:
        begin(self, listener, engine, seconds, *rest)

    server.Server.__init__ = begun  # type: ignore[method-assign]


def serve(arguments: Sequence[str]) -> None:
    """The command, after the faults that the environment asks for."""
    fault, _, name = os.environ.get("FAKE_START", "").partition(":")
    if fault == "fail" or (fault == "fail-once" and take_away(name)):
        sys.exit("the fake service was told not to start")
    elif fault == "never":
        wait_for("go")
    elif fault == "kill" or (fault == "kill-once" and take_away(name)):
        kill()
    elif fault == "vanish":
        sys.exit(0)
    link.START_COMMAND = (os.environ.get("SQLEMBED_COMMAND", ""), "serve")
    library.Model = FaultyModel  # type: ignore[misc]
    if "FAKE_DIGEST" in os.environ:
        conversation.digest = lambda: os.environ["FAKE_DIGEST"]
    if "FAKE_PROTOCOL" in os.environ:
        conversation.PROTOCOL = int(os.environ["FAKE_PROTOCOL"])
    if "FAKE_IDLE" in os.environ:
        server.TICK_SECONDS = 0.01
        end_after(float(os.environ["FAKE_IDLE"]))
    if "FAKE_MEMORY" in os.environ:  # more than is in use now
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + int(os.environ["FAKE_MEMORY"]),) * 2)
    command([*arguments, *os.environ.get("FAKE_ARGUMENTS", "").split()])


def noted(arguments: Sequence[str]) -> None:
    """The command, its processes known to the test."""
    note_process()
    os.register_at_fork(after_in_child=note_process)
    serve(arguments)


if __name__ == "__main__":
    if sys.argv[1] == "nursery":
        nursery.run(sys.argv[2], noted)
    else:
        noted(sys.argv[1:])
