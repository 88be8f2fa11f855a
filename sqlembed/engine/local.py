"""The engine in this process: the cache in front of the models."""

import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from threading import Lock
from weakref import WeakMethod

import numpy as np

from sqlembed import settings
from sqlembed.engine import metrics, words
from sqlembed.engine.cache import Cache
from sqlembed.engine.chunk import AS_USUAL, WITHOUT_OVERLAP, Chunk, Chunking
from sqlembed.engine.front import Front
from sqlembed.engine.generation import Generation, GenerationOptions
from sqlembed.engine.interface import CacheFile, CacheState, Metric, ModelState, Span
from sqlembed.engine.library import Library
from sqlembed.engine.memory import Budget
from sqlembed.engine.pooling import Vectors, cut
from sqlembed.engine.rerank import Reranker
from sqlembed.engine.space import Space
from sqlembed.vectors import FLOAT_BYTES
from sqlembed.weights.manifest import ROLES, Role

MOST_ORIGINS = 100_000
"""Vectors whose space is remembered, to tell one model's query from another's index."""


class LocalEngine:
    """See :class:`sqlembed.engine.interface.Engine`; every method is safe from any thread."""

    def __init__(self, cache: Cache | None = None) -> None:
        """Use *cache*, or the user's own."""
        self.cache = cache or Cache(settings.cache_path(), settings.cache_bytes())
        self.library = Library(
            settings.default_model(),
            budget=Budget(settings.memory_bytes()),
            unloaded=self._clear_fronts,  # its next vectors may be of other weights
        )
        self._reranker = Reranker(self.library, self.cache)
        self._lock = Lock()
        self._fronts: dict[tuple[str | None, Role], Front[bytes]] = {}
        self._origins: dict[int, Space] = {}
        self._asked: dict[str, list[int]] = {}
        metrics.watch(self)
        os.register_at_fork(after_in_child=_weakly(self._after_fork))

    def space(self, model: str | None = None) -> Space:
        """The embedding space of *model*; needs its receipt, not its weights."""
        return self.library.space(self._name(model))

    def front(self, model: str | None, role: Role) -> Front[bytes]:
        """The dictionary of vectors, as BLOBs, of *model* and *role*."""
        found = self._fronts.get((model, role))
        if found is None:
            self.library.manifest(self._name(model)).prompt(role)  # what is unknown gets none
            with self._lock:
                found = self._fronts.setdefault((self._name(model), role), Front())
                self._fronts[(model, role)] = found
        return found

    def embed(self, texts: Sequence[str], model: str | None, role: Role) -> list[bytes]:
        """The vector of each text: little-endian float32, unit length.

        Texts seen before cost a look-up, repeats among *texts* nothing more.

        :raises TextTooLongError: a text has more tokens than the model reads
        :raises ModelMissingError: the model's weights are not on this machine
        """
        vectors = self.recall(texts, model, role)
        missing = [text for text in dict.fromkeys(texts) if text not in vectors]
        if missing:
            computed = np.ascontiguousarray(self._compute(missing, model, role), dtype="<f4")
            space = self.space(model)
            keys = {self._key(space, role, text): text for text in missing}
            blobs = {key: row.tobytes() for key, row in zip(keys, computed, strict=True)}
            stored = self.cache.put(space, "embedding", blobs)
            vectors |= self._learn(keys, stored, model, role)
        return [vectors[text] for text in texts]

    def recall(self, texts: Sequence[str], model: str | None, role: Role) -> dict[str, bytes]:
        """The vectors that are remembered; computes nothing."""
        front, space = self.front(model, role), self.space(model)
        vectors: dict[str, bytes] = {}
        unknown: dict[bytes, str] = {}
        for text in dict.fromkeys(texts):
            vector = front.get(text)
            if vector is None:
                unknown[self._key(space, role, text)] = text
            else:
                vectors[text] = vector
        if unknown:
            found = self.cache.get(unknown, space.dimension * FLOAT_BYTES)
            counts = self._asked.setdefault(space.model, [0, 0])
            counts[0] += len(found)
            counts[1] += len(unknown) - len(found)
            vectors |= self._learn(unknown, found, model, role)
        return vectors

    def origin(self, vector: bytes) -> Space | None:
        """The space of a vector that this process was given lately; None if that is not known."""
        return self._origins.get(hash(vector))

    def rerank(self, query: str, documents: Sequence[str], model: str | None) -> list[float]:
        """The score of each document for *query*, high is better."""
        found = self.library.manifest(model or self.library.reranker())
        # Of a width the whole model ranks: its tokens' vectors are of no other.
        found = self.library.manifest(found.whole or found.name)
        name = found.name
        if found.server and found.kind == "embedder":
            return self._cosines(query, documents, name)
        return self._reranker.rerank(query, documents, name)

    def reranker(self, embedder: str) -> str:
        """What reranks what *embedder* found: a cross-encoder if one is in use, else itself."""
        chosen = self.library.reranker()
        return chosen if self.library.manifest(chosen).kind == "reranker" else embedder

    def is_embedder(self, model: str) -> bool:
        """Whether *model* gives vectors, and reranks by these."""
        return self.library.manifest(model).kind == "embedder"

    def fitting(self, tokens: int) -> str:
        """The installed embedder for texts of so many *tokens*; the default if none is."""
        return self.library.fitting(tokens)

    def words(self, texts: Sequence[str], tokenizer: str) -> list[list[str]]:
        """The words of each text, as FTS5 with this tokenizer sees them."""
        return words.tokens(texts, tokenizer)

    def word_spans(self, text: str, tokenizer: str) -> list[Span]:
        """The words of a text likewise, and where they stand."""
        return words.spans(text, tokenizer)

    def token_count(self, texts: Sequence[str], model: str | None) -> list[int]:
        """Tokens of each text as the model reads it: prompt, start and end tokens included."""
        with self.library.hold(self._name(model)) as loaded:
            return loaded.count(texts)

    def generate(self, prompt: str, options: GenerationOptions) -> Generation:
        """An answer to *prompt*.

        :raises TextTooLongError: the prompt leaves no room for an answer
        :raises ModelMissingError: no generator is on this machine
        """
        seconds = math.inf if options.seconds is None else options.seconds
        until = time.monotonic() + seconds
        with self.library.generator(options.model) as model:
            return model.generate(prompt, options, until)

    def chunk(
        self,
        texts: Sequence[str],
        model: str | None,
        chunking: Chunking = AS_USUAL,
        role: Role = "document",
    ) -> list[list[Chunk]]:
        """Each text in parts that the model reads whole; one part if it fits.

        :raises OptionError: the model cannot be given parts of that size
        """
        if not texts:
            return []
        with self.library.embedder(self._name(model)) as loaded:
            return loaded.chunk(texts, role, chunking)

    def sample_size(self, model: str | None) -> int:
        """How many texts *model* wants to read before any other; 0 for one that needs none."""
        found = self.library.manifest(self._name(model))
        return found.corpus.sample if found.corpus else 0

    def sample(self, texts: Sequence[str], model: str | None) -> tuple[str, bytes]:
        """Have *model* read *texts* as a sample: its name after that, and what it made of them.

        :raises InputError: there are no texts
        """
        name, made = self.library.sample(self._name(model), texts)
        return name, made.astype("<f4").tobytes()

    def knows_sample(self, model: str) -> bool:
        """Whether *model* can embed here, without being given what it made of its sample."""
        found = self.library.manifest(model)
        return found.sampled is None or self.library.samples.get(found.name) is not None

    def learn_sample(self, model: str, made: bytes) -> None:
        """Give *model*, ``NAME@DIGEST``, what it once made of its sample.

        :raises SpaceError: it is of another sample, or damaged
        """
        self.library.samples.learn(self.library.manifest(model), made)

    def load(self, model: str) -> None:
        """Bring *model* into memory now, its file checked and its probes tried.

        :raises ModelError: the weights cannot be used; the message says why
        """
        with self.library.hold(model):
            pass

    def unload(self, model: str) -> bool:
        """Give *model*'s memory back, after what runs; False if it was not loaded."""
        return self.library.unload(model)

    def expire(self, seconds: float) -> list[str]:
        """Unload the models that nobody used for *seconds*; their names."""
        return self.library.expire(seconds)

    def models(self) -> list[ModelState]:
        """Every model known here."""
        return self.library.states()

    def cache_state(self) -> list[CacheState]:
        """What the cache holds and how often it helped."""
        asked = self.lookups()
        held = {(row.model, row.kind): (row.entries, row.bytes) for row in self.cache.holdings()}
        return [
            CacheState(*key, *held.get(key, (0, 0)), *asked.get(key, (0, 0)))
            for key in sorted({*held, *asked})
        ]

    def lookups(self) -> dict[tuple[str, str], tuple[int, int]]:
        """Hits and misses of this process by model and kind."""
        asked: dict[tuple[str, str], tuple[int, int]] = {}
        for model, (hits, misses) in list(self._asked.items()):
            asked[model, "embedding"] = (hits, misses)
        for key, (hits, misses) in list(self._reranker.asked.items()):
            asked[key] = (hits, misses)
        for (owner, _), front in list(self._fronts.items()):
            if owner is not None:
                hits, misses = asked.get((owner, "embedding"), (0, 0))
                asked[owner, "embedding"] = (hits + front.hits, misses)
        return asked

    def memory(self) -> dict[str, int]:
        """The bytes that each loaded model takes."""
        return self.library.memory()

    def queues(self) -> dict[tuple[str, str], int]:
        """Texts that wait by model and lane."""
        return self.library.queues()

    def metrics(self) -> list[Metric]:
        """What this process did, and how long it took."""
        return metrics.samples()

    def cache_file(self) -> CacheFile:
        """Where the cache is, its bound, and what is wrong with it."""
        return CacheFile(self.cache.most_bytes, self.cache.path, self.cache.problem)

    def cache_clear(self, model: str | None = None) -> int:
        """Forget what *model* made, or everything; the number of entries forgotten."""
        if model is not None:
            model = self._name(model)
        self._clear_fronts(model)
        self._reranker.clear()
        return self.cache.clear(model)

    def close(self) -> None:
        """Unload every model and close the cache."""
        for name in self.library.loaded():
            self.unload(name)
        self.cache.close()

    def _key(self, space: Space, role: Role, text: str) -> bytes:
        if role in ROLES:
            return space.key(role, text)
        return space.task_key(self.library.manifest(space.model).prompt(role), text)

    def _compute(self, texts: Sequence[str], model: str | None, role: Role) -> Vectors:
        """The vector of each text, which nobody remembers.

        Of a width it is the beginning of the whole one, which is remembered as well: so another
        width needs no model.
        """
        found = self.library.manifest(self._name(model))
        if found.is_cut:
            whole = np.frombuffer(b"".join(self.embed(texts, found.whole, role)), "<f4")
            return cut(whole.reshape(len(texts), -1), found.dimension, normed=found.layer_norm)
        with self.library.embedder(found.name) as loaded:
            if found.whole is None:
                return loaded.embed(texts, role)
            return loaded.embed(texts, role, found.dimension)

    def _cosines(self, query: str, documents: Sequence[str], model: str) -> list[float]:
        """The best cosine of each document's chunks, where a server gives no tokens' vectors."""
        if not documents:
            return []
        asked = [part.text for part in self.chunk([query], model, WITHOUT_OVERLAP, "query")[0]]
        parts = self.chunk(documents, model, WITHOUT_OVERLAP)
        flat = [part.text for chunks in parts for part in chunks]
        sides = (self.embed(asked, model, "query"), self.embed(flat, model, "document"))
        left, right = (np.frombuffer(b"".join(v), "<f4").reshape(len(v), -1) for v in sides)
        best = iter((right @ left.T).max(axis=1))
        return [float(max(next(best) for _ in chunks)) for chunks in parts]

    def _after_fork(self) -> None:
        self._lock = Lock()
        self.library.after_fork()
        self.cache.after_fork()

    def _name(self, model: str | None) -> str:
        return self.library.manifest(model or self.library.default).name

    def _clear_fronts(self, model: str | None) -> None:
        for (owner, _), front in list(self._fronts.items()):
            name = self._name(owner)
            if model in (None, name, self.library.manifest(name).base):
                front.clear()

    def _learn(
        self,
        texts: Mapping[bytes, str],
        vectors: Mapping[bytes, bytes],
        model: str | None,
        role: Role,
    ) -> dict[str, bytes]:
        """Put *vectors*, by key, in front; the same by text."""
        front, space = self.front(model, role), self.space(model)
        if len(self._origins) > MOST_ORIGINS:
            self._origins.clear()
        learned = {texts[key]: vector for key, vector in vectors.items()}
        for text, vector in learned.items():
            front.put(text, vector)
            self._origins[hash(vector)] = space
        return learned


def _weakly(method: Callable[[], None]) -> Callable[[], None]:
    """*method* without keeping its engine alive: a fork's hooks are never removed."""
    reference = WeakMethod(method)

    def call() -> None:
        if (alive := reference()) is not None:
            alive()

    return call
