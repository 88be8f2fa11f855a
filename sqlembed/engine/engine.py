"""The engine: models by name, the cache in front. SQL functions and a service call it."""

from collections.abc import Sequence
from threading import RLock
from typing import NamedTuple, Protocol

import numpy as np

from sqlembed import settings
from sqlembed.engine.cache import Cache, Kind
from sqlembed.engine.chunk import Chunk
from sqlembed.engine.front import Front
from sqlembed.engine.late import Tokens
from sqlembed.engine.late import score as late_score
from sqlembed.engine.model import Model
from sqlembed.engine.pooling import Vectors
from sqlembed.engine.space import Space
from sqlembed.errors import InputError
from sqlembed.weights import manifest, receipt
from sqlembed.weights.manifest import Manifest, Role

MOST_ORIGINS = 100_000
"""Vectors whose space is remembered, to tell one model's query from another's index."""


class ModelState(NamedTuple):
    """A row of ``sqlembed_models``."""

    name: str
    kind: str
    dimension: int
    context: int
    installed: bool
    loaded: bool
    used_for: str | None
    """What it does where no model is named: ``embed``, ``rerank`` or both."""
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


class Engine(Protocol):
    """What a door needs of an engine, in this process or behind a socket.

    *model* is a model's exact name, or None for the default.
    """

    cache: Cache

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

    def token_count(self, texts: Sequence[str], model: str | None) -> list[int]:
        """Tokens of each text as the model reads it."""

    def chunk(self, texts: Sequence[str], model: str | None) -> list[list[Chunk]]:
        """Each text in parts that the model reads whole."""

    def load(self, model: str) -> None:
        """Bring *model* into memory now."""

    def unload(self, model: str) -> bool:
        """Give *model*'s memory back; False if it was not loaded."""

    def models(self) -> list[ModelState]:
        """Every model known here."""

    def cache_state(self) -> list[CacheState]:
        """What the cache holds and how often it helped."""

    def cache_clear(self, model: str | None = None) -> int:
        """Forget what *model* made, or everything; the number of entries forgotten."""


class LocalEngine:
    """The engine in this process."""

    def __init__(self, cache: Cache | None = None) -> None:
        """Use *cache*, or the user's own."""
        self.cache = cache or Cache(settings.cache_path(), settings.cache_bytes())
        self._default = settings.default_model()
        self._lock = RLock()
        self._manifests: dict[str, Manifest] = {}
        self._spaces: dict[str, Space] = {}
        self._models: dict[str, Model] = {}
        self._fronts: dict[tuple[str | None, Role], Front[bytes]] = {}
        self._scores: Front[bytes] = Front()
        self._tokens: Front[Tokens] = Front(size=lambda tokens: tokens.nbytes)
        self._origins: dict[int, Space] = {}
        self._asked: dict[tuple[str, str], list[int]] = {}

    def space(self, model: str | None = None) -> Space:
        """The embedding space of *model*; needs its receipt, not its weights."""
        name = model or self._default
        known = self._spaces.get(name)
        if known is None:
            known = Space.of(self._manifest(name), receipt.recorded(name))
            self._spaces[name] = known
        return known

    def front(self, model: str | None, role: Role) -> Front[bytes]:
        """The dictionary of vectors, as BLOBs, of *model* and *role*."""
        found = self._fronts.get((model, role))
        if found is None:
            front: Front[bytes] = Front()
            with self._lock:
                found = self._fronts.setdefault((model or self._default, role), front)
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
            space = self.space(model)
            computed = self._embedder(model).embed(missing, role)
            keys = [space.key(role, text) for text in missing]
            stored = self.cache.put(
                space, "embedding", dict(zip(keys, _blobs(computed), strict=True))
            )
            self._learn(
                model,
                role,
                {text: stored[key] for text, key in zip(missing, keys, strict=True)},
                vectors,
            )
        return [vectors[text] for text in texts]

    def recall(self, texts: Sequence[str], model: str | None, role: Role) -> dict[str, bytes]:
        """The vectors that are remembered; computes nothing."""
        front, space = self.front(model, role), self.space(model)
        vectors: dict[str, bytes] = {}
        unknown: dict[bytes, str] = {}
        for text in dict.fromkeys(texts):
            vector = front.get(text)
            if vector is None:
                unknown[space.key(role, text)] = text
            else:
                vectors[text] = vector
        if unknown:
            found = self.cache.get(unknown)
            self._count(space.model, "embedding", len(found), len(unknown) - len(found))
            self._learn(
                model, role, {unknown[key]: vector for key, vector in found.items()}, vectors
            )
        return vectors

    def origin(self, vector: bytes) -> Space | None:
        """The space of a vector that this process was given lately; None if that is not known."""
        return self._origins.get(hash(vector))

    def rerank(self, query: str, documents: Sequence[str], model: str | None) -> list[float]:
        """The score of each document for *query*, high is better.

        A cross-encoder's own score, 0 to 1; with an embedder late interaction and
        cosine together, -1 to 1. Where no model is named, a cross-encoder
        that is installed and recommended is used, else the default embedder.
        """
        name = model or self._reranker()
        space = self.space(name)
        keys = {space.pair_key(query, document): document for document in documents}
        scores = self._recall_scores(space, keys)
        missing = {key: document for key, document in keys.items() if key not in scores}
        if missing:
            computed = self._score(name, query, list(missing.values()))
            blobs = _blobs(np.array(computed, dtype=np.float32).reshape(-1, 1))
            stored = self.cache.put(space, "score", dict(zip(missing, blobs, strict=True)))
            for key, blob in stored.items():
                self._scores.put(key.hex(), blob)
                scores[key] = blob
        by_text = {keys[key]: float(np.frombuffer(blob, "<f4")[0]) for key, blob in scores.items()}
        return [by_text[document] for document in documents]

    def token_count(self, texts: Sequence[str], model: str | None) -> list[int]:
        """Tokens of each text as the model reads it: prompt, start and end tokens included."""
        return self._model(model or self._default).count(texts)

    def chunk(self, texts: Sequence[str], model: str | None) -> list[list[Chunk]]:
        """Each text in parts that the model reads whole; one part if it fits."""
        return self._embedder(model).chunk(texts) if texts else []

    def load(self, model: str) -> None:
        """Bring *model* into memory now, its file checked and its probes tried.

        :raises ModelError: the weights cannot be used; the message says why
        """
        self._model(model)

    def unload(self, model: str) -> bool:
        """Give *model*'s memory back, after what runs; False if it was not loaded."""
        manifest_ = self._manifest(model)
        with self._lock:
            loaded = self._models.pop(manifest_.name, None)
        if loaded is None:
            return False
        loaded.close()
        self._forget(manifest_.name)
        return True

    def _forget(self, name: str) -> None:
        """Read the model's manifest, receipt and vectors anew when they are needed next."""
        self._manifests.pop(name, None)
        self._spaces.pop(name, None)
        for (model, _), front in self._fronts.items():
            if (model or self._default) == name:
                front.clear()

    def models(self) -> list[ModelState]:
        """Every model that has a manifest here."""
        default, reranker = self._default, self._reranker()
        states = []
        for name, each in manifest.available().items():
            used_for = [
                what for what, it in (("embed", default), ("rerank", reranker)) if it == name
            ]
            installed = receipt.gguf_path(name).is_file()
            states.append(
                ModelState(
                    name, each.kind, each.dimension, each.context,
                    installed, name in self._models, " and ".join(used_for) or None,
                    each.licence, each.summary,
                )
            )  # fmt: skip
        return states

    def cache_state(self) -> list[CacheState]:
        """What the cache holds and how often it helped."""
        held = {(row.model, row.kind): (row.entries, row.bytes) for row in self.cache.holdings()}
        asked = {key: list(counts) for key, counts in self._asked.items()}
        for (model, _), front in list(self._fronts.items()):
            if model is not None:
                asked.setdefault((model, "embedding"), [0, 0])[0] += front.hits
        return [
            CacheState(
                model, kind, *held.get((model, kind), (0, 0)), *asked.get((model, kind), (0, 0))
            )
            for model, kind in sorted({*held, *asked})
        ]

    def cache_clear(self, model: str | None = None) -> int:
        """Forget what *model* made, or everything; the number of entries forgotten."""
        if model is not None:
            self._manifest(model)
        for front in (*self._fronts.values(), self._scores):
            front.clear()
        self._tokens.clear()
        return self.cache.clear(model)

    def close(self) -> None:
        """Unload every model and close the cache."""
        for name in list(self._models):
            self.unload(name)
        self.cache.close()

    def _manifest(self, name: str) -> Manifest:
        known = self._manifests.get(name)
        if known is None:
            known = self._manifests[name] = manifest.find(name)
        return known

    def _model(self, name: str) -> Model:
        loaded = self._models.get(name)
        if loaded is None:
            with self._lock:
                loaded = self._models.get(name)
                if loaded is None:
                    manifest_ = self._manifest(name)
                    path, sha256 = receipt.verified(name)
                    self._spaces[name] = Space.of(manifest_, sha256)
                    loaded = self._models[name] = Model(manifest_, path)
        return loaded

    def _embedder(self, model: str | None) -> Model:
        name = model or self._default
        kind = self._manifest(name).kind
        if kind != "embedder":
            raise InputError(
                f"{name} is a {kind}: it scores pairs and gives no vectors;"
                f" embed with {self._default}"
            )
        return self._model(name)

    def _reranker(self) -> str:
        for name, each in manifest.available().items():
            if each.kind == "reranker" and each.recommended and receipt.gguf_path(name).is_file():
                return name
        return self._default

    def _score(self, name: str, query: str, documents: Sequence[str]) -> list[float]:
        model = self._model(name)
        if model.manifest.kind == "reranker":
            return model.score(query, documents)
        asked = self._token_vectors(model, [query], "query")[0]
        found = self._token_vectors(model, documents, "document")
        return [late_score(asked, tokens) for tokens in found]

    def _token_vectors(self, model: Model, texts: Sequence[str], role: Role) -> list[Tokens]:
        prefix = f"{self.space(model.manifest.name).fingerprint} {role} "
        found: dict[str, Tokens] = {}
        for text in texts:
            if (known := self._tokens.get(prefix + text)) is not None:
                found[text] = known
        missing = [text for text in dict.fromkeys(texts) if text not in found]
        for text, tokens in zip(missing, model.tokens(missing, role), strict=True):
            found[text] = tokens
            self._tokens.put(prefix + text, tokens)
        return [found[text] for text in texts]

    def _recall_scores(self, space: Space, keys: dict[bytes, str]) -> dict[bytes, bytes]:
        scores = {key: blob for key in keys if (blob := self._scores.get(key.hex())) is not None}
        unknown = [key for key in keys if key not in scores]
        if unknown:
            scores |= self.cache.get(unknown)
        self._count(space.model, "score", len(scores), len(keys) - len(scores))
        return scores

    def _learn(
        self, model: str | None, role: Role, new: dict[str, bytes], vectors: dict[str, bytes]
    ) -> None:
        front, space = self.front(model, role), self.space(model)
        if len(self._origins) > MOST_ORIGINS:
            self._origins.clear()
        for text, vector in new.items():
            front.put(text, vector)
            self._origins[hash(vector)] = space
        vectors.update(new)

    def _count(self, model: str, kind: Kind, hits: int, misses: int) -> None:
        counts = self._asked.setdefault((model, kind), [0, 0])
        counts[0] += hits
        counts[1] += misses


def _blobs(vectors: Vectors) -> list[bytes]:
    rows = np.ascontiguousarray(vectors, dtype="<f4")
    return [row.tobytes() for row in rows]
