"""What tests share: SQL that gives rows or the error, and a fake model for logic."""

from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

import apsw
import numpy as np
import pytest

from sqlembed.engine.chunk import WITHOUT_OVERLAP, Chunk, Chunking, chunk
from sqlembed.engine.late import Tokens, join
from sqlembed.engine.local import LocalEngine
from sqlembed.errors import ModelError, TextTooLongError
from sqlembed.weights import receipt
from sqlembed.weights.manifest import Manifest

FAKE_MANIFEST = """
name = "{name}"
summary = "For tests"
kind = "{kind}"
architecture = "none"
dimension = {dimension}
context = 16
pooling = "mean"
licence = "none"
homepage = "none"
prompts = {{ query = "{query}", document = "" }}
"""
FAKES = (
    ("fake", "embedder", 64, ""),
    ("other", "embedder", 64, "ask: "),
    ("wide", "embedder", 128, ""),
    ("judge", "reranker", 1, ""),
)
FAILING = "unembeddable"
"""A text with this word makes the fake model fail."""


class FakeModel:
    """A bag of hashed words: the same words give the same vector, and calls are counted."""

    texts: list[str] = []  # noqa: RUF012  # shared on purpose: what any fake was asked for

    def __init__(self, manifest: Manifest, path: Path) -> None:
        self.manifest = manifest

    def embed(self, texts: Sequence[str], role: str) -> np.ndarray:
        if any(tokens > self.manifest.context for tokens in self.count(texts, role)):
            raise TextTooLongError("the fake model got a text of too many words")
        FakeModel.texts += texts
        prompt = self.manifest.prompt(role)
        return np.array([self._vector(prompt + text) for text in texts], dtype=np.float32)

    def tokens(self, texts: Sequence[str], role: str) -> list[Tokens]:
        FakeModel.texts += texts
        words = [text.split() or [""] for text in texts]
        return [
            join([(np.array([self._vector(word) for word in each]), self._vector(" ".join(each)))])
            for each in words
        ]

    def score(self, query: str, documents: Sequence[str]) -> list[float]:
        if len(query.split()) > self.manifest.context:
            raise TextTooLongError("the fake model got a query of too many words")
        FakeModel.texts += documents
        asked = set(query.split())
        return [len(asked & set(document.split())) / len(asked) for document in documents]

    def chunk(
        self, texts: Sequence[str], role: str = "document", chunking: Chunking = WITHOUT_OVERLAP
    ) -> list[list[Chunk]]:
        size, overlap = chunking.resolved(self.manifest.name, self.manifest.context, self.count)
        return chunk(texts, size, self.count, overlap)

    def count(self, texts: Sequence[str], role: str = "document") -> list[int]:
        return [len(text.split()) + 2 for text in texts]

    def waiting(self) -> dict[str, int]:
        return {"urgent": 0, "backlog": 0}

    def close(self) -> None: ...

    def _vector(self, text: str) -> np.ndarray:
        if FAILING in text:
            raise ModelError("the fake model was told to fail")
        return word_vector(self.manifest.name, text, self.manifest.dimension)


def word_vector(model: str, text: str, dimension: int) -> np.ndarray:
    """The unit vector of a bag of hashed words."""
    total = np.zeros(dimension)
    for word in text.split() or [""]:
        seed = blake2b(f"{model} {word}".encode(), digest_size=8).digest()
        total += np.random.default_rng(int.from_bytes(seed)).normal(size=total.shape)
    return (total / np.linalg.norm(total)).astype(np.float32)


def install_fake(name: str, kind: str = "embedder", dimension: int = 64, query: str = "") -> None:
    """Put a fake model's manifest, file and receipt where models are looked for."""
    path = receipt.gguf_path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    text = FAKE_MANIFEST.format(name=name, kind=kind, dimension=dimension, query=query)
    path.with_suffix(".toml").write_text(text)
    path.write_bytes(b"GGUF" + name.encode())
    receipt.write_receipt(name, receipt.make_receipt(path, "gguf", "tests"))


SMALL_BLOCKS = {
    "blocks.SMALL": 0,
    "blocks.TAIL": 3,
    "blocks.CHECKED": 2,
    "blocks.LEAST_DEAD": 0,
    "knn.EXACT_SHARE": 0,
    "knn.FEW_KEYS": 0,
    "scan.LEAST_LIKELY": 2,
}
"""What makes a small index be kept and searched as one of a million rows."""


def small_blocks(patch: pytest.MonkeyPatch) -> None:
    """Keep and search indexes as large ones are."""
    for name, value in SMALL_BLOCKS.items():
        patch.setattr(f"sqlembed.index.{name}", value)


class Sql:
    """Run SQL and get rows, or the error as a text: what a test compares."""

    def __init__(self, db: apsw.Connection, engine: LocalEngine | None = None) -> None:
        self.db = db
        self.db_path = db.filename
        self.engine = engine

    @property
    def in_transaction(self) -> bool:
        """Whether the connection has a transaction open."""
        return self.db.in_transaction

    def __call__(self, sql: str, *bindings: Any) -> Any:
        """All rows; a single column's values as a list."""
        rows = self.db.execute(sql, bindings or None).fetchall()
        return [row[0] for row in rows] if rows and len(rows[0]) == 1 else rows

    def one(self, sql: str, *bindings: Any) -> Any:
        """The only value of the only row."""
        (value,) = self(sql, *bindings)
        return value

    def error(self, sql: str, *bindings: Any) -> str:
        """The error's class and message; no error fails the test."""
        with pytest.raises(Exception) as caught:  # the test compares it
            self(sql, *bindings)
        return f"{type(caught.value).__name__}: {caught.value}"

    def close(self) -> None:
        """Close the connection."""
        self.db.close(force=True)
