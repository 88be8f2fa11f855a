"""Score documents for a query, remembering scores, and the token vectors of texts seen lately."""

from collections.abc import Sequence

import numpy as np

from sqlembed.engine.cache import Cache
from sqlembed.engine.front import Front
from sqlembed.engine.late import Tokens, score
from sqlembed.engine.library import Library
from sqlembed.engine.model import Model
from sqlembed.engine.space import Space
from sqlembed.vectors import FLOAT_BYTES
from sqlembed.weights.manifest import Role


class Reranker:
    """Reranking with any model of a library, each score computed once."""

    def __init__(self, library: Library, cache: Cache) -> None:
        """Compute with *library*'s models and remember scores in *cache*."""
        self._library = library
        self._cache = cache
        self._scores: Front[float] = Front(size=lambda score: 8)
        self._tokens: Front[Tokens] = Front(size=lambda tokens: tokens.nbytes)
        self.asked: dict[str, list[int]] = {}
        """Hits and misses by model."""

    def rerank(self, query: str, documents: Sequence[str], model: str | None) -> list[float]:
        """The score of each document for *query*, high is better.

        A cross-encoder's own score, 0 to 1; with an embedder late interaction and
        cosine together, -1 to 1. Where no model is named, a cross-encoder
        that is installed and recommended is used, else the default embedder.
        """
        name = model or self._library.reranker()
        space = self._library.space(name)
        keys = {document: space.pair_key(query, document) for document in documents}
        scores = self._recall(space, list(keys.values()))
        missing = [document for document, key in keys.items() if key not in scores]
        if missing:
            computed = self._compute(name, query, missing)
            blobs = {
                keys[document]: np.float32(value).tobytes()
                for document, value in zip(missing, computed, strict=True)
            }
            scores |= self._learn(dict(self._cache.put(space, "score", blobs)))
        return [scores[keys[document]] for document in documents]

    def clear(self) -> None:
        """Forget what this process remembers."""
        self._scores.clear()
        self._tokens.clear()

    def _recall(self, space: Space, keys: list[bytes]) -> dict[bytes, float]:
        scores = {key: s for key in keys if (s := self._scores.get(key.hex())) is not None}
        unknown = [key for key in keys if key not in scores]
        if unknown:
            scores |= self._learn(self._cache.get(unknown, FLOAT_BYTES))
        counts = self.asked.setdefault(space.model, [0, 0])
        counts[0] += len(scores)
        counts[1] += len(keys) - len(scores)
        return scores

    def _learn(self, blobs: dict[bytes, bytes]) -> dict[bytes, float]:
        scores = {key: float(np.frombuffer(blob, "<f4")[0]) for key, blob in blobs.items()}
        for key, value in scores.items():
            self._scores.put(key.hex(), value)
        return scores

    def _compute(self, name: str, query: str, documents: Sequence[str]) -> list[float]:
        with self._library.use(name) as model:
            if model.manifest.kind == "reranker":
                return model.score(query, documents)
            asked = self._token_vectors(model, [query], "query")[0]
            found = self._token_vectors(model, documents, "document")
            return [score(asked, tokens) for tokens in found]

    def _token_vectors(self, model: Model, texts: Sequence[str], role: Role) -> list[Tokens]:
        prefix = f"{self._library.space(model.manifest.name).fingerprint} {role} "
        found: dict[str, Tokens] = {}
        for text in texts:
            if (known := self._tokens.get(prefix + text)) is not None:
                found[text] = known
        missing = [text for text in dict.fromkeys(texts) if text not in found]
        for text, tokens in zip(missing, model.tokens(missing, role), strict=True):
            found[text] = tokens
            self._tokens.put(prefix + text, tokens)
        return [found[text] for text in texts]
