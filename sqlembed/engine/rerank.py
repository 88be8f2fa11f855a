"""Score documents for a query, remembering scores, and documents' token vectors.

Of queries, token vectors are remembered in this process only: asked again, the same
documents have their scores, and others cost one more run of a short text.
"""

from collections.abc import Sequence

import numpy as np

from sqlembed.engine.cache import Cache, Kind
from sqlembed.engine.front import Front
from sqlembed.engine.late import Tokens, is_intact, score
from sqlembed.engine.library import Library
from sqlembed.engine.memory import AnyModel
from sqlembed.engine.space import Space
from sqlembed.vectors import FLOAT_BYTES


class Reranker:
    """Reranking with any model of a library, each score computed once."""

    def __init__(self, library: Library, cache: Cache) -> None:
        """Compute with *library*'s models and remember scores in *cache*."""
        self._library = library
        self._cache = cache
        self._scores: Front[float] = Front(size=lambda score: 8)
        self._tokens: Front[Tokens] = Front(size=lambda tokens: tokens.nbytes)
        self.asked: dict[tuple[str, Kind], list[int]] = {}
        """Hits and misses by model and kind."""

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
        self._count(space, "score", len(scores), len(keys))
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
            asked = self._query(model, query)
            found = self._documents(model, documents)
            return [score(asked, found[document]) for document in documents]

    def _query(self, model: AnyModel, query: str) -> Tokens:
        key = self._library.space(model.manifest.name).key("query", query).hex()
        tokens = self._tokens.get(key)
        if tokens is None:
            (tokens,) = model.tokens([query], "query")
            self._tokens.put(key, tokens)
        return tokens

    def _documents(self, model: AnyModel, texts: Sequence[str]) -> dict[str, Tokens]:
        space = self._library.space(model.manifest.name)
        keys = {text: space.tokens_key(text) for text in texts}
        found = self._recall_tokens(space, keys)
        missing = [text for text in keys if text not in found]
        if missing:
            computed = dict(zip(missing, model.tokens(missing, "document"), strict=True))
            blobs = {keys[text]: tokens.to_bytes() for text, tokens in computed.items()}
            stored = self._cache.put(space, "tokens", blobs)
            for text in missing:
                if is_intact(first := stored[keys[text]], space.dimension):
                    computed[text] = Tokens.from_bytes(first, space.dimension)
            found |= self._learn_tokens(keys, computed)
        return found

    def _recall_tokens(self, space: Space, keys: dict[str, bytes]) -> dict[str, Tokens]:
        found = {
            text: tokens
            for text, key in keys.items()
            if (tokens := self._tokens.get(key.hex())) is not None
        }
        unknown = {key: text for text, key in keys.items() if text not in found}
        if unknown:
            blobs = self._cache.get(unknown, lambda value: is_intact(value, space.dimension))
            read = {
                unknown[key]: Tokens.from_bytes(blob, space.dimension)
                for key, blob in blobs.items()
            }
            found |= self._learn_tokens(keys, read)
        self._count(space, "tokens", len(found), len(keys))
        return found

    def _learn_tokens(self, keys: dict[str, bytes], found: dict[str, Tokens]) -> dict[str, Tokens]:
        for text, tokens in found.items():
            self._tokens.put(keys[text].hex(), tokens)
        return found

    def _count(self, space: Space, kind: Kind, found: int, asked: int) -> None:
        counts = self.asked.setdefault((space.model, kind), [0, 0])
        counts[0] += found
        counts[1] += asked - found
