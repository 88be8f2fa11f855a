"""How much memory models take, and which of them make room for another."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from sqlembed import settings
from sqlembed.engine import bert, computing
from sqlembed.engine.chunk import WITHOUT_OVERLAP, Chunk, Chunking
from sqlembed.engine.generation import Generation, GenerationOptions
from sqlembed.engine.late import Tokens
from sqlembed.engine.llama import MOST_TEXTS
from sqlembed.engine.pack import BATCH_TOKENS
from sqlembed.engine.pooling import Vectors
from sqlembed.errors import BusyError, ModelError
from sqlembed.weights import gguf_header
from sqlembed.weights.manifest import STATIC, Manifest, Role

FLOAT_BYTES = 4
HALF_BYTES = 2
"""Of a number of a key or a value, which are kept as f16."""
GENERATOR_BYTES = 100 << 20
"""What else a generator takes: what is computed at once, and the vocabulary once more, as grammars
need it."""
WORD_BYTES = 1750
"""A word of the vocabulary, in llama.cpp and in the tokenizer together."""
STATIC_WORD_BYTES = 500
"""A word of a table of static vectors, in the tokenizer."""
SOFT_ROWS = 8
"""Between a sample and a text, of a model of two stages."""
ROW_FLOATS = 32
"""Floats that a context holds for each token and dimension while it computes."""


def needed(manifest: Manifest, path: Path) -> int:
    """The bytes of memory that the model at *path* takes once it is loaded.

    Where llama.cpp computes: the file, something for each word of the vocabulary, and for each
    context and token of its room a float for each word (llama.cpp reserves them) and 32 for each
    dimension. Our own arithmetic needs no room for words, and keeps 16 bits a weight. Measured as
    resident memory with two contexts, ours and llama.cpp's: all-MiniLM-L6-v2 took 93 and 141 MB,
    and the rule says 105 and 188; multilingual-e5-small, of 250,000 words, 536 and 1,027 MB, and
    546 and 1,594; judge-nli 105 and 229 MB, and 173 and 320.
    A decoder takes the float for each word twice: one of 100,000 words and a room of 2,048 tokens
    took 1,686 MB with one context, and the rule says 1,833.
    A table of static vectors has no context, and its words are in a tokenizer only. Of a model of
    two stages the first is in memory only while it reads a sample, and counts always.
    """
    counts = gguf_header.counts(path)
    # Imported when needed: these write files too, which takes a package of its own.
    if manifest.architecture == STATIC:
        from sqlembed.weights.static_table import WORDS

        return path.stat().st_size + counts.get(WORDS, 0) * STATIC_WORD_BYTES
    words = counts.get(gguf_header.VOCABULARY, 0)
    if manifest.kind == "generator":
        return path.stat().st_size + words * WORD_BYTES + _kept(manifest, counts)
    width = counts.get(f"{manifest.architecture}.embedding_length", 0)
    room = max(BATCH_TOKENS, manifest.context)
    own, stages = computing.own_contents(manifest, path), 1
    if manifest.corpus is not None:
        from sqlembed.engine.two_stage import rooms

        room, _ = rooms(manifest.corpus, SOFT_ROWS, manifest.context, own=own is not None)
        stages = 2  # of the same size
    if own:
        weights, context = bert.bytes_needed(own, room)
        return stages * weights + words * WORD_BYTES + settings.threads() * context
    # An encoder's are reserved only, a decoder's are computed: it takes them twice.
    copies = 1 if counts.get(f"{manifest.architecture}.attention.causal") == 0 else 2
    read = MOST_TEXTS if manifest.reading else room
    context = (read * copies * words + room * ROW_FLOATS * width) * FLOAT_BYTES
    return stages * path.stat().st_size + words * WORD_BYTES + settings.threads() * context


def _kept(manifest: Manifest, counts: dict[str, int]) -> int:
    """The bytes of a generator's context: a key and a value of each token, head and layer."""

    def count(key: str, otherwise: int = 0) -> int:
        return counts.get(f"{manifest.architecture}.{key}", otherwise)

    width = count("embedding_length")
    heads = count("attention.head_count", 1)
    shared = count("attention.head_count_kv", heads)
    head = width // max(heads, 1)
    of_key, of_value = count("attention.key_length", head), count("attention.value_length", head)
    token = count("block_count") * shared * (of_key + of_value) * HALF_BYTES
    return manifest.context * token + GENERATOR_BYTES


class Resident(Protocol):
    """A model of any kind that is loaded."""

    manifest: Manifest

    def count(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text as the model reads it."""

    def waiting(self) -> dict[str, int]:
        """Texts that wait by lane."""

    def close(self) -> None:
        """End it."""


class AnyGenerator(Resident, Protocol):
    """A model that writes."""

    def generate(self, prompt: str, options: GenerationOptions, until: float) -> Generation:
        """An answer, or what there is of it *until* time is over."""


class AnyModel(Resident, Protocol):
    """A model that reads, here or on a server."""

    def embed(self, texts: Sequence[str], role: Role, width: int | None = None) -> Vectors:
        """The unit vector of each text; *width* where the model has a head for each."""

    def tokens(self, texts: Sequence[str], role: Role) -> list[Tokens]:
        """Each text's token vectors for late interaction."""

    def score(self, query: str, documents: Sequence[str]) -> list[float]:
        """A cross-encoder's score of each document."""

    def chunk(
        self, texts: Sequence[str], role: Role = "document", chunking: Chunking = WITHOUT_OVERLAP
    ) -> list[list[Chunk]]:
        """Each text in parts that the model reads whole."""

    def count(self, texts: Sequence[str], role: Role = "document") -> list[int]:
        """Tokens of each text as the model reads it."""


class AnyTwoStage(Resident, Protocol):
    """A model that reads others of its texts first."""

    def sample(self, texts: Sequence[str]) -> Vectors:
        """What it makes of them."""

    def after(self, manifest: Manifest, sample: Vectors | None) -> AnyModel:
        """The model that reads *sample* before each text; None if it is not known."""


@dataclass(eq=False)
class Loaded:
    """A model in memory."""

    name: str
    model: Resident
    bytes: int
    used: float
    """When it was used last, by the monotonic clock."""
    users: int = 0


class Budget:
    """How much memory all models together may take.

    A budget that was set is kept whatever happens. One that was not is our guess, so it
    never forbids a model that is alone: a small machine can still use its only one.
    """

    def __init__(self, most_bytes: int | None) -> None:
        """Allow *most_bytes*; None for half of the machine's memory."""
        self.strict = most_bytes is not None
        self.most_bytes = settings.half_of_memory() if most_bytes is None else most_bytes

    def check(self, name: str, size: int) -> None:
        """Refuse a model that can never be loaded.

        :raises ModelError: it is larger than the whole budget
        """
        if self.strict and size > self.most_bytes:
            raise ModelError(
                f"{name} takes {_megabytes(size)} of memory, and all models together may take"
                f" {_megabytes(self.most_bytes)} (SQLEMBED_MEMORY={self.most_bytes}): raise that,"
                " use a smaller model, or lower SQLEMBED_THREADS, as each thread takes its part"
            )

    def could_hold(self, size: int, loaded: Collection[Loaded]) -> bool:
        """Whether *size* more bytes fit once idle models are unloaded."""
        used = sum(each.bytes for each in loaded if each.users)
        return used + size <= self.most_bytes or not (used or self.strict)

    def victims(self, size: int, loaded: Collection[Loaded]) -> list[Loaded]:
        """The idle models to unload so that *size* more bytes fit, least recently used first."""
        excess = sum(each.bytes for each in loaded) + size - self.most_bytes
        chosen: list[Loaded] = []
        for each in sorted(loaded, key=lambda each: each.used):
            if excess > 0 and not each.users:
                chosen.append(each)
                excess -= each.bytes
        return chosen

    def refusal(
        self, name: str, size: int, loaded: Collection[Loaded], seconds: float
    ) -> BusyError:
        """The error for a model that does not fit since the others are in use."""
        held = ", ".join(f"{each.name} {_megabytes(each.bytes)}" for each in loaded)
        return BusyError(
            f"{name} takes {_megabytes(size)} of memory, and there is no room: models may take"
            f" {_megabytes(self.most_bytes)} together, {held} are loaded, and those in use stayed"
            f" so for {seconds:g} seconds; try again later, or raise SQLEMBED_MEMORY (bytes)"
        )


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.0f} MB"
