"""An engine on tiny models of its own, in place of the fake one; ``sql`` runs it by every door."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from sqlembed.doors import apsw_door
from sqlembed.engine.local import LocalEngine


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty data directory, for ``tiny.install``."""
    monkeypatch.setenv("SQLEMBED_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("SQLEMBED_CACHE", str(tmp_path / "cache" / "cache.db"))
    monkeypatch.setenv("SQLEMBED_THREADS", "1")
    monkeypatch.setenv("SQLEMBED_MODEL", "tiny")
    monkeypatch.setattr(apsw_door, "_engine", None)
    (tmp_path / "data" / "models").mkdir(parents=True)
    return tmp_path / "data" / "models"


@pytest.fixture
def engine(models: Path) -> Iterator[LocalEngine]:
    """A real engine; models are installed before they are first asked for."""
    made = LocalEngine()
    yield made
    made.close()
