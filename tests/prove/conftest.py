"""Fixtures: the tiny models, and what their references gave."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import built
import pytest
from cases import BY_NAME
from hosts.machine import missing
from tiny import Load, Tiny

from sqlembed.engine.model import Model


@pytest.fixture(scope="session")
def proofs() -> Path:
    """The directory of tiny models, built if need be."""
    if not built.READY.is_file():
        missing("an environment with torch and transformers (make .venv-references/.ready)")
    return built.directory()


@pytest.fixture
def tiny(request: pytest.FixtureRequest, proofs: Path) -> Tiny:
    """The tiny model that the test's parameter names."""
    return Tiny(BY_NAME[request.param], proofs / request.param)


@pytest.fixture
def load(tmp_path: Path) -> Iterator[Load]:
    """Load a tiny model into our engine, with other settings where any are given."""
    models: list[Model] = []

    def loaded(tiny: Tiny, *, tokenizer: bool = True, heads: bool = True, **changes: Any) -> Model:
        place = tiny.install(tmp_path / str(len(models)), tokenizer=tokenizer, heads=heads)
        models.append(Model(replace(tiny.manifest, **changes), place))
        return models[-1]

    yield loaded
    for model in models:
        model.close()
