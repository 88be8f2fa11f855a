"""A machine of its own for each test, on which the first call of a program starts the service."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hosts.machine import Machine, missing

from sqlembed import extension


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    """Where no service runs yet. A test that makes no program start one fails."""
    if extension.path() is None:
        missing("the loadable extension")
    # A socket's path has room for 107 bytes, and pytest's directories are long.
    with tempfile.TemporaryDirectory(prefix="sqlembed-", dir="/tmp") as short:
        made = Machine(tmp_path, Path(short, "service.sock"))
        try:
            yield made
        finally:
            ended = made.run("sqlembed", "serve", "--stop")
        assert ended == "ended\n", "no service had been started"
