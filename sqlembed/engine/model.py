"""One loaded model: prompt, tokens, batches, pooling, heads; checked against its reference."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from sqlembed import settings
from sqlembed.engine import computing, fitting, probes
from sqlembed.engine.bert import Bert
from sqlembed.engine.bert_context import BertContext
from sqlembed.engine.chunk import chunk
from sqlembed.engine.ends import ended
from sqlembed.engine.heads import Heads
from sqlembed.engine.late import Tokens, join
from sqlembed.engine.llama import MOST_TEXTS, Context, TokenIds, Weights, refuse_after_fork
from sqlembed.engine.metrics import ModelFigures
from sqlembed.engine.pack import BATCH_TOKENS
from sqlembed.engine.pooling import POOLINGS, Vectors, unit
from sqlembed.engine.reader import Reader
from sqlembed.engine.scheduler import Holds, Scheduler
from sqlembed.engine.template import Templated, answers
from sqlembed.engine.tokenize import Tokenizer, tokenizer_of
from sqlembed.engine.waiting import Room
from sqlembed.errors import InputError
from sqlembed.weights import beside
from sqlembed.weights.manifest import Manifest, Role

Result = TypeVar("Result")

TO_BLAME = (
    "Its weights, its manifest or this build of llama.cpp are wrong, so it is not used;"
    " `sqlembed doctor` says more"
)


class Model(Reader):
    """A model in memory, for many threads at once."""

    def __init__(self, manifest: Manifest, path: Path) -> None:
        """Load the weights at *path*, already verified, and try the manifest's probes.

        :raises ModelError: the weights are not what the manifest says
        :raises ProbeError: they load, but give other vectors than the reference
        """
        super().__init__(manifest)
        own, batch = computing.own_bert(manifest, path), computing.way(manifest.name).batch_tokens
        self._weights = Weights(path, own.shape if own else None)
        try:
            fitting.check(manifest, self._weights)
            self._heads = Heads(manifest, path)
            tokenizer = tokenizer_of(self._weights, beside.path(path, beside.TOKENIZER))
            self._tokenizer: Tokenizer = ended(tokenizer, manifest)
            words: list[int] = []
            if manifest.template is not None:
                self._tokenizer = Templated(self._tokenizer, manifest.template)
            if manifest.reading is not None:
                words = answers(self._tokenizer, manifest)
            most, room = self._rooms(own, batch)
            self._contexts = [self._context(own, most, words) for _ in range(settings.threads())]
        except BaseException:
            self._weights.close()
            raise
        self._figures = ModelFigures(manifest.name)
        self._scheduler = Scheduler(manifest.name, self._contexts, room=room)
        try:
            probes.check(self, TO_BLAME)
        except BaseException:
            self.close()
            raise

    def embed(self, texts: Sequence[str], role: Role, width: int | None = None) -> Vectors:
        """The unit vector of each text.

        :param width: the dimension wanted, of a model with a head for each
        :returns: float32 of shape (n, dimension)
        :raises TextTooLongError: a text has more tokens than the model reads
        """
        if not texts:
            return np.empty((0, width or self.manifest.dimension), dtype=np.float32)
        pooled = self._run(self._tokens(texts, role), self._pool)
        return unit(self._heads.apply(np.stack(pooled), width))

    def tokens(self, texts: Sequence[str], role: Role) -> list[Tokens]:
        """Each text's token vectors for late interaction; a long text chunk by chunk."""
        parts = self.chunk(texts, role)
        flat = [part.text for chunks in parts for part in chunks]
        if not texts:
            return []
        encoded = iter(self._run(self._tokens(flat, role), self._late))
        return [join([next(encoded) for _ in chunks]) for chunks in parts]

    def score(self, query: str, documents: Sequence[str]) -> list[float]:
        """A cross-encoder's score of each document, 0 to 1; a long document's best part counts."""
        room = self.manifest.context - len(self._tokenizer.encode_pairs([(query, "")])[0])
        if room < 1:
            raise self.too_long(query, self.manifest.context - room)
        parts = chunk(documents, room, self._plain_counts)
        pairs = [(query, part.text) for chunks in parts for part in chunks]
        with self._figures.tokenization.time():
            encoded = self._tokenizer.encode_pairs(pairs)
        scored = iter(self._run(encoded, self._relevance))
        return [max(next(scored) for _ in chunks) for chunks in parts]

    def count(self, texts: Sequence[str], role: Role = "document") -> list[int]:
        """Tokens of each text as the model reads it: prompt, start and end tokens included."""
        prompt = self.manifest.prompt(role)
        return [len(ids) for ids in self._tokenizer.encode([prompt + text for text in texts])]

    def waiting(self) -> dict[str, int]:
        """Texts that wait to be computed by lane, ``urgent`` and ``backlog``."""
        return self._scheduler.waiting()

    def metadata(self, key: str) -> str | None:
        """What its GGUF says under *key*; None where it says nothing."""
        return self._weights.metadata(key)

    def close(self) -> None:
        """Wait for what runs, then give the memory back."""
        self._scheduler.close()
        for context in self._contexts:
            context.close()
        self._weights.close()

    def _plain_counts(self, texts: Sequence[str]) -> list[int]:
        added = len(self._tokenizer.encode([""])[0])
        return [len(ids) - added for ids in self._tokenizer.encode(texts)]

    def _tokens(self, texts: Sequence[str], role: Role) -> list[TokenIds]:
        prompt = self.manifest.prompt(role)
        with self._figures.tokenization.time():
            encoded = self._tokenizer.encode([prompt + text for text in texts])
        for text, ids in zip(texts, encoded, strict=True):
            if len(ids) > self.manifest.context:
                raise self.too_long(text, len(ids))
            if not len(ids):
                raise InputError(
                    f"{self.manifest.name} makes no token of the text {text[:50]!r}, nor does it"
                    " add a start or end token, so there is nothing to embed; leave such texts out"
                )
        return encoded

    def _pool(self, rows: Vectors) -> Vectors:
        pool = POOLINGS.get(self.manifest.pooling)
        if pool is None:
            raise InputError(
                f"{self.manifest.name} gives a vector for each token and none for a text, so that"
                " it can rerank and not embed"
            )
        return pool(rows)

    def _late(self, rows: Vectors) -> tuple[Vectors, Vectors | None]:
        """Unit vectors of a text's tokens, and its own, where it has one."""
        whole = None
        if self.manifest.pooling in POOLINGS:
            whole = unit(self._heads.apply(self._pool(rows)))
        return unit(self._heads.apply(rows)), whole

    def _relevance(self, rows: Vectors) -> float:
        """The score that the labels, words or heads of a pair stand for."""
        if self.manifest.pooling in POOLINGS and self.manifest.reading is None:
            rows = self._heads.apply(self._pool(rows))[None]
        row = rows[0].astype(np.float64)
        if len(row) == 1:
            return float(1 / (1 + np.exp(-row[0])))
        exponents = np.exp(row - row.max())
        return float(exponents[self.manifest.positive] / exponents.sum())

    def _run(self, texts: Sequence[TokenIds], read: Callable[[Vectors], Result]) -> list[Result]:
        refuse_after_fork()
        return self._scheduler.run(texts, read)

    def _rooms(self, own: Bert | None, batch: int) -> tuple[int, Room]:
        """Tokens that a context has room for; and the room of a batch of several texts."""
        return max(BATCH_TOKENS, batch, self.manifest.context), Room(batch, MOST_TEXTS)

    def _context(self, own: Bert | None, room: int, words: Sequence[int]) -> Holds:
        rank = self.manifest.pooling == "rank"
        if own is not None:
            return BertContext(own, room, rank=rank)
        causal = self.manifest.attention == "causal"
        return Context(self._weights, room, causal=causal, rank=rank, words=words)
