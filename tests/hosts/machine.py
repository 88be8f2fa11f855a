"""Programs that load the extension, where no service runs before the first of them asks."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import pytest

from sqlembed import extension

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples" / "hosts"
TIMEOUT_SECONDS = 120
KEPT = ("SQLEMBED_DATA", "SQLEMBED_THREADS")
"""Settings of whoever runs the tests that hold in them, too."""
PROBES = {
    "perl": ["-MDBD::SQLite", "-e", "1"],
    "/usr/bin/python3": ["-c", "import sqlite3; sqlite3.Connection.enable_load_extension"],
}
"""What a program must be able to run before it is a host."""


class Machine:
    """Runs programs in a directory, with a socket, a cache and a log of their own."""

    def __init__(self, directory: Path, socket: Path) -> None:
        """Run nothing yet."""
        self.directory = directory
        self.extension = str(extension.path())
        own, hosts = Path(sys.executable).parent, ROOT / ".venv-hosts" / "bin"
        kept = {
            name: value
            for name, value in os.environ.items()
            if name in KEPT or not name.startswith("SQLEMBED_")
        }
        self.environment = kept | {
            "PATH": os.pathsep.join([str(own), str(hosts), os.environ["PATH"]]),
            "SQLEMBED_SOCKET": str(socket),
            "SQLEMBED_CACHE": str(directory / "cache.db"),
            "SQLEMBED_LOG": str(directory / "service.log"),
        }

    def need(self, *programs: str) -> None:
        """Skip the test where one of these is not installed, or cannot load extensions."""
        for program in programs:
            if not shutil.which(program, path=self.environment["PATH"]):
                missing(program)
            probe = [program, *PROBES.get(program, [])]
            if len(probe) > 1 and subprocess.run(probe, capture_output=True).returncode:
                missing(f"what {program} needs for `{' '.join(probe[1:])}`")

    def run(self, *command: str, stdin: str = "") -> str:
        """What *command* prints; it must not fail, nor complain."""
        done = subprocess.run(
            command,
            input=stdin,
            cwd=self.directory,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
        )
        assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
        return done.stdout

    def lines(self, *command: str, stdin: str = "") -> list[str]:
        """The lines that *command* prints, without spaces at their ends."""
        return [line.rstrip() for line in self.run(*command, stdin=stdin).splitlines()]

    def shell(self, script: str, *, load: bool) -> list[str]:
        """What the stock shell prints for *script*, on app.db."""
        self.need("sqlite3")
        loading = ["-cmd", f".load {self.extension}"] if load else []
        return self.lines("sqlite3", "-batch", *loading, "app.db", stdin=script)


def missing(what: str) -> NoReturn:
    """Skip the test; in CI, where nothing may be missing, fail it."""
    reason = f"{what} is missing; `make test`, as root on Debian, installs it"
    if os.environ.get("CI", "") not in ("", "0", "false"):
        pytest.fail(reason)
    pytest.skip(reason)
