"""A program that is forked to be killed, and what its end tells."""

import ctypes
import os
import random
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from crash import phases, roles
from crash.world import World

Role = Callable[[roles.Actor], None]

PATIENCE_SECONDS = 120.0
"""After which a program that was told to end hangs."""
PR_SET_PDEATHSIG = 1


class WrongError(Exception):
    """A program ended as it must not, or found what must not be."""


class Program:
    """A forked program; it dies with this one."""

    def __init__(self, here: World, name: str, work: Role, seed: str, slot: int) -> None:
        """Start *work*."""
        self.name, self.slot = name, slot
        self.phase = phases.Phase(f"{here.directory}/phases", slot)
        self.errors = Path(here.directory, f"{name.replace(' ', '_')}.err")
        parent = os.getpid()
        self.process = os.fork()
        if self.process:
            return
        code = 1
        try:
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() == parent:
                file = os.open(self.errors, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
                os.dup2(file, 1)
                os.dup2(file, 2)
                random.seed(seed)
                work(roles.Actor(here, seed, slot))
                code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def kill(self) -> str | None:
        """Kill it; what it was doing, or None if it had ended by itself."""
        with suppress(ProcessLookupError):
            os.kill(self.process, signal.SIGKILL)
        code = self.wait()
        return self.phase.now() if code == -signal.SIGKILL else None

    def wait(self) -> int:
        """Wait for its end: 0, or minus SIGKILL; anything else is a failure."""
        until = time.monotonic() + PATIENCE_SECONDS
        pause = 0.0005
        while True:
            process, status = os.waitpid(self.process, os.WNOHANG)
            if process:
                break
            if time.monotonic() > until:
                os.kill(self.process, signal.SIGKILL)
                os.waitpid(self.process, 0)
                raise WrongError(f"{self.name} hangs, {self.phase.now()}")
            time.sleep(pause)
            pause = min(2 * pause, 0.01)
        code = os.waitstatus_to_exitcode(status)
        if code not in (0, -signal.SIGKILL):
            raise WrongError(f"{self.name}: {self.errors.read_text()}")
        return code

    def begun(self) -> None:
        """Wait until it does something."""
        until = time.monotonic() + PATIENCE_SECONDS
        while self.phase.now() == "starting":
            if os.waitid(os.P_PID, self.process, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                return
            if time.monotonic() > until:
                raise WrongError(f"{self.name} does not begin")
            time.sleep(0.0005)


def until_it_answers(path: Path, program: Program) -> None:
    """Wait until the service that *program* is answers at *path*."""
    until = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < until:
        with socket.socket(socket.AF_UNIX) as probe, suppress(OSError):
            probe.connect(str(path))
            return
        if os.waitid(os.P_PID, program.process, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            program.wait()
        time.sleep(0.005)
    raise WrongError("the service does not answer")
