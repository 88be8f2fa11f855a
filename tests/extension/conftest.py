"""Fixtures: the extension built to be watched, and a service for its hosts."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from doors_harness import serving
from extension import compiled

from sqlembed.engine.local import LocalEngine


@pytest.fixture(scope="session")
def sanitized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The extension under AddressSanitizer and UndefinedBehaviorSanitizer."""
    return compiled.compiled(tmp_path_factory.mktemp("sanitized"), *compiled.SANITIZED)


@pytest.fixture
def service(engine: LocalEngine, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The socket of a service on fake models, where hosts find it."""
    with serving(engine) as socket:
        monkeypatch.setenv("SQLEMBED_SOCKET", str(socket))
        monkeypatch.setenv("SQLEMBED_TIMEOUT", "60")  # a busy machine is not a stopped service
        yield socket
