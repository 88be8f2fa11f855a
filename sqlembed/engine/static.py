"""Static vectors: a text is the mean of what its words have in a table. No llama.cpp, no batches.

The table stays in the file, mapped into memory, and only rows that are used are read.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sqlembed.engine import probes
from sqlembed.engine.late import Tokens, join
from sqlembed.engine.metrics import ModelFigures
from sqlembed.engine.pooling import Vectors, unit
from sqlembed.engine.reader import Reader
from sqlembed.engine.table import Table, hashed
from sqlembed.engine.wordwise import Wordwise
from sqlembed.errors import InputError, ModelError
from sqlembed.weights.manifest import Manifest, Role

TO_BLAME = "Its weights or its manifest are wrong, so it is not used; `sqlembed doctor` says more"
UNFIT = ("start", "end", "dense", "reading", "template", "layer_norm")
"""Settings of transformers, which a manifest of a table cannot have."""
AT_ONCE = 256
"""Texts whose rows are in memory together."""
LEAST = 1e-12
"""Of a vector's length: words that cancel out give no direction."""


class StaticModel(Reader):
    """A table of vectors, for many threads at once."""

    def __init__(self, manifest: Manifest, path: Path) -> None:
        """Map the table at *path*, already verified, and try the manifest's probes.

        :raises ModelError: the table is not what the manifest says
        :raises ModelFileError: the file is damaged
        :raises ProbeError: it gives other vectors than the reference
        """
        super().__init__(manifest)
        unfit = [key for key in UNFIT if getattr(manifest, key)]
        if manifest.pooling != "mean" or unfit:
            raise ModelError(
                f"{manifest.name} is a table of static vectors, which are pooled by the mean and"
                f" by nothing else; its manifest has {', '.join(unfit) or manifest.pooling!r}"
            )
        self._table = Table(manifest, path)
        self._words = Wordwise(self._table.definition)
        self._figures = ModelFigures(manifest.name)
        probes.check(self, TO_BLAME)

    def embed(self, texts: Sequence[str], role: Role, width: int | None = None) -> Vectors:
        """The unit vector of each text.

        :returns: float32 of shape (n, dimension)
        :raises TextTooLongError: a text has more tokens than the model reads
        """
        if not texts:
            return np.empty((0, self.manifest.dimension), dtype=np.float32)
        prompted = self._prompted(texts, role)
        with self._figures.tokenization.time():
            encoded = self._words.encode(prompted)
        for text, ids in zip(texts, encoded, strict=True):
            if len(ids) > self.manifest.context:
                raise self.too_long(text, len(ids))
        with self._figures.inference.time():
            return self._means(prompted, encoded)

    def tokens(self, texts: Sequence[str], role: Role) -> list[Tokens]:
        """Each text's word vectors for late interaction; a long text chunk by chunk."""
        if not texts:
            return []
        parts = self.chunk(texts, role)
        flat = self._prompted([part.text for chunks in parts for part in chunks], role)
        encoded = self._words.encode(flat)
        read = iter(zip(flat, encoded, self._means(flat, encoded), strict=True))
        return [join([self._late(*next(read)) for _ in chunks]) for chunks in parts]

    def score(self, query: str, documents: Sequence[str]) -> list[float]:
        """Refuse: a table is no cross-encoder."""
        raise InputError(f"{self.manifest.name} gives vectors and scores no pairs")

    def count(self, texts: Sequence[str], role: Role = "document") -> list[int]:
        """Tokens of each text, unknown words included."""
        return [len(ids) for ids in self._words.encode(self._prompted(texts, role))]

    def waiting(self) -> dict[str, int]:
        """None ever wait: who asks computes."""
        return {"urgent": 0, "backlog": 0}

    def close(self) -> None:
        """Nothing: the file is unmapped when nobody has the table any more."""

    def _prompted(self, texts: Sequence[str], role: Role) -> list[str]:
        prompt = self.manifest.prompt(role)
        return [prompt + text for text in texts] if prompt else list(texts)

    def _means(self, texts: Sequence[str], encoded: Sequence[Sequence[int]]) -> Vectors:
        """The unit mean of each text's known words, or of its unknown ones if it has no other."""
        sums = np.concatenate(
            [
                self._table.sums(encoded[start : start + AT_ONCE])
                for start in range(0, len(encoded), AT_ONCE)
            ]
        )
        empty = np.flatnonzero(np.linalg.norm(sums, axis=1) < LEAST)
        for n in empty.tolist():
            sums[n] = self._unknown(texts[n]).sum(axis=0)
        return unit(sums)

    def _late(self, text: str, ids: Sequence[int], whole: Vectors) -> tuple[Vectors, Vectors]:
        rows = self._table.sums([[number] for number in ids])
        rows = rows[np.linalg.norm(rows, axis=1) >= LEAST]
        return unit(rows if len(rows) else self._unknown(text)), whole

    def _unknown(self, text: str) -> Vectors:
        """Vectors that stand for words of which the table has none, at least one."""
        return np.stack(
            [hashed(word, self.manifest.dimension) for word in self._words.split(text) or [""]]
        )
