"""What a door needs of an engine, whether it runs in this process or behind a socket.

Imports nothing heavy: whoever only asks what functions there are (the build of the
loadable extension does) needs neither SQLite nor llama.cpp.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from sqlembed.engine.chunk import AS_USUAL, Chunk, Chunking
from sqlembed.engine.front import Front
from sqlembed.engine.generation import Generation, GenerationOptions
from sqlembed.engine.space import Space
from sqlembed.weights.manifest import Role


class Span(NamedTuple):
    """A word of a text, as FTS5 sees it, and where it stands, in characters."""

    token: str
    start: int
    stop: int


class ModelState(NamedTuple):
    """A row of ``sqlembed_models``."""

    name: str
    kind: str
    dimension: int
    context: int
    installed: bool
    loaded: bool
    bytes: int | None
    """Of memory that it takes now; None if it is not loaded."""
    used_for: str | None
    """What it does where no model is named: ``embed``, ``rerank``, both, or ``generate``."""
    widths: str | None
    """A JSON array of the dimensions that its vectors may have, as ``NAME:WIDTH``; None if one."""
    proof: str
    """By what it is known to give its reference's results here."""
    licence: str
    summary: str


class CacheState(NamedTuple):
    """A row of ``sqlembed_cache``: what the file holds, and what this process asked of it."""

    model: str
    kind: str
    entries: int
    bytes: int
    hits: int
    misses: int


class CacheFile(NamedTuple):
    """The cache's database file, as ``sqlembed_cache`` shows it in each row."""

    most_bytes: int
    path: str
    problem: str | None
    """Why it could not be used the last time it was tried."""


class Metric(NamedTuple):
    """A row of ``sqlembed_metrics``."""

    name: str
    labels: str | None
    """A JSON object; None where there are none."""
    value: float


class Engine(Protocol):
    """What a door needs of an engine, in this process or behind a socket.

    *model* is a model's exact name, or None for the default.
    """

    def space(self, model: str | None = None) -> Space:
        """The embedding space of *model*; needs its receipt, not its weights."""

    def front(self, model: str | None, role: Role) -> Front[bytes]:
        """The dictionary of vectors, as BLOBs, of *model* and *role*."""

    def embed(self, texts: Sequence[str], model: str | None, role: Role) -> list[bytes]:
        """The vector of each text: little-endian float32, unit length."""

    def recall(self, texts: Sequence[str], model: str | None, role: Role) -> dict[str, bytes]:
        """The vectors that are remembered; computes nothing."""

    def origin(self, vector: bytes) -> Space | None:
        """The space of a vector that this process was given lately; None if that is not known."""

    def rerank(self, query: str, documents: Sequence[str], model: str | None) -> list[float]:
        """The score of each document for *query*, high is better."""

    def reranker(self, embedder: str) -> str:
        """What reranks what *embedder* found: a cross-encoder if one is in use, else itself."""

    def is_embedder(self, model: str) -> bool:
        """Whether *model* gives vectors, and reranks by these."""

    def fitting(self, tokens: int) -> str:
        """The installed embedder for texts of so many *tokens*; the default if none is."""

    def words(self, texts: Sequence[str], tokenizer: str) -> list[list[str]]:
        """The words of each text, as FTS5 with this tokenizer sees them."""

    def word_spans(self, text: str, tokenizer: str) -> list[Span]:
        """The words of a text likewise, and where they stand."""

    def token_count(self, texts: Sequence[str], model: str | None) -> list[int]:
        """Tokens of each text as the model reads it."""

    def chunk(
        self,
        texts: Sequence[str],
        model: str | None,
        chunking: Chunking = AS_USUAL,
        role: Role = "document",
    ) -> list[list[Chunk]]:
        """Each text in parts that the model reads whole."""

    def generate(self, prompt: str, options: GenerationOptions) -> Generation:
        """An answer to *prompt*, written by a generator."""

    def sample_size(self, model: str | None) -> int:
        """How many texts *model* wants to read before any other; 0 for one that needs none.

        Of ``NAME@DIGEST`` as well, which has read them.
        """

    def sample(self, texts: Sequence[str], model: str | None) -> tuple[str, bytes]:
        """Have *model* read *texts* as a sample: its name after that, and what it made of them."""

    def knows_sample(self, model: str) -> bool:
        """Whether *model* can embed here, without being given what it made of its sample."""

    def learn_sample(self, model: str, made: bytes) -> None:
        """Give *model*, ``NAME@DIGEST``, what it once made of its sample."""

    def load(self, model: str) -> None:
        """Bring *model* into memory now."""

    def unload(self, model: str) -> bool:
        """Give *model*'s memory back; False if it was not loaded."""

    def models(self) -> list[ModelState]:
        """Every model known here."""

    def cache_state(self) -> list[CacheState]:
        """What the cache holds and how often it helped."""

    def cache_file(self) -> CacheFile:
        """Where the cache is, its bound, and what is wrong with it."""

    def metrics(self) -> list[Metric]:
        """What was done, and how long it took."""

    def cache_clear(self, model: str | None = None) -> int:
        """Forget what *model* made, or everything; the number of entries forgotten."""
