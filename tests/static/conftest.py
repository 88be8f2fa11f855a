"""An engine on small tables of its own, in place of the fake models; ``sql`` runs it by every door."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import tables

from sqlembed.doors import apsw_door
from sqlembed.engine.local import LocalEngine


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data directory with the table ``words``, the default model."""
    monkeypatch.setenv("SQLEMBED_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("SQLEMBED_CACHE", str(tmp_path / "cache" / "cache.db"))
    monkeypatch.setenv("SQLEMBED_MODEL", "words")
    monkeypatch.setattr(apsw_door, "_engine", None)
    tables.install("words", tables.glove_text(tmp_path / "words.txt"))
    return tmp_path / "data" / "models"


@pytest.fixture
def engine(models: Path) -> Iterator[LocalEngine]:
    """A real engine; tables are installed before they are first asked for."""
    made = LocalEngine()
    yield made
    made.close()
