"""A model of two stages: one reads a sample of texts, the other its vectors and then each text.

The arithmetic is that of Contextual Document Embeddings (https://arxiv.org/abs/2410.02525), as
jxmorris12/cde on GitHub has it (commit 0ca7453, ``cde/model.py`` and ``cde/lib/nomic_bert``):

- first stage: nomic-bert, the mean over a text's tokens, linear, GELU, linear; not of unit length;
- second stage: the sample's vectors, eight rows that are the same for all, and the sums of the
  text's embeddings are one sequence. The first norm is applied to all of it, every row sees every
  other, and the mean is of the text's own rows; then linear, ReLU, linear, and unit length;
- the sample's rows are not turned by positions, and what follows them is turned as if they were:
  the eight rows by 512 to 519, the text by 520 and on;
- no embedding of a token type is added to the sample's rows, nor to those eight.

In the last two points the hub's code differs: see ``weights/corpus.py``.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np

from sqlembed import settings
from sqlembed.engine import bert
from sqlembed.engine.bert import Bert
from sqlembed.engine.bert_context import BertContext
from sqlembed.engine.between import Between
from sqlembed.engine.late import Tokens, join
from sqlembed.engine.llama import Context, TokenIds, Weights, refuse_after_fork
from sqlembed.engine.llama_rows import MOST_TOGETHER, RowsContext
from sqlembed.engine.model import Model
from sqlembed.engine.pack import BATCH_TOKENS
from sqlembed.engine.placed import Placed
from sqlembed.engine.pooling import Vector, Vectors, mean
from sqlembed.engine.reader import Reader
from sqlembed.engine.scheduler import Holds, Scheduler
from sqlembed.engine.waiting import Room
from sqlembed.errors import InputError, ModelError
from sqlembed.weights import beside, gguf_tensors
from sqlembed.weights.corpus import Corpus
from sqlembed.weights.manifest import Manifest, Role
from sqlembed.weights.nomic_file import ARCHITECTURE
from sqlembed.weights.two_stage import SAMPLE

Result = TypeVar("Result")

AT_ONCE = 4
"""Short texts in a batch of llama.cpp's: the rows that fill the gap between a sample and its texts
are the same for all of it, and cost as much as a sample. Our own arithmetic needs none."""
SHORT = 64
"""Tokens of such a text."""
WORDS, TYPES = "token_embd.weight", "token_types.weight"
POSITIONS = f"{ARCHITECTURE}.context_length"


class Behind(NamedTuple):
    """A text that is read behind a sample."""

    before: Placed
    ids: TokenIds

    def __len__(self) -> int:
        """Rows of the sequence."""
        return len(self.before) + len(self.ids)


def rooms(corpus: Corpus, soft: int, context: int, *, own: bool) -> tuple[int, Room]:
    """Rows that a context of the second stage has room for; and the room of a batch.

    :param soft: rows between a sample and a text
    :param context: tokens that the model reads
    :param own: whether our own arithmetic computes it
    """
    before = corpus.sample + soft
    together = (1 if own else AT_ONCE) * (before + SHORT)
    gap = 0 if own or corpus.arithmetic == "published" else corpus.sample
    return max(together, before + context) + gap, Room(together, MOST_TOGETHER)


class TwoStage(Model):
    """The second stage in memory; the first only while it reads a sample."""

    def __init__(self, manifest: Manifest, path: Path) -> None:
        """Load the second stage at *path*, beside which the first stands.

        :raises ModelError: the weights are not what the manifest says
        """
        assert manifest.corpus is not None
        self._corpus: Corpus = manifest.corpus
        self._path = path
        self._between = Between(manifest, path)
        contents = gguf_tensors.read(path)
        self._check(manifest, contents.numbers)
        self._words = contents.tensors[WORDS]
        self._type: Vector = contents.tensors[TYPES].some(slice(0, 1))[0]
        super().__init__(manifest, path)

    def sample(self, texts: Sequence[str]) -> Vectors:
        """What the first stage makes of *texts*, which it reads whole, as documents.

        :param texts: as many as a sample has; of fewer, the first count several times
        :returns: float32 of shape (texts of a sample, dimension), not of unit length
        :raises InputError: there is none
        """
        if not texts:
            raise InputError(f"{self.manifest.name} needs a sample of texts, and got none")
        refuse_after_fork()
        encoded = self._tokens(texts[: self._corpus.sample], "document")
        with self._first() as contexts:
            scheduler = Scheduler(self.manifest.name, contexts)
            try:
                pooled = np.stack(scheduler.run(encoded, mean))
            finally:
                scheduler.close()
        made = self._between.of_first(pooled)
        return made[np.arange(self._corpus.sample) % len(made)]

    def after(self, manifest: Manifest, sample: Vectors | None) -> "AfterSample":
        """The model as it reads *sample* before each text.

        :param manifest: of this model after that sample
        :param sample: None if it is not known here
        """
        return AfterSample(self, manifest, sample)

    def embed(self, texts: Sequence[str], role: Role, width: int | None = None) -> Vectors:
        """No text has a vector by itself.

        :raises InputError: always
        """
        return self.after(self.manifest, None).embed(texts, role)

    def tokens(self, texts: Sequence[str], role: Role) -> list[Tokens]:
        """Likewise.

        :raises InputError: always
        """
        return self.after(self.manifest, None).tokens(texts, role)

    def read(
        self, sample: Vectors, texts: Sequence[str], role: Role, made: Callable[[Vectors], Result]
    ) -> list[Result]:
        """What *made* makes of the rows of each text's tokens.

        :raises TextTooLongError: a text has more tokens than the model reads
        """
        before = self._before(sample)
        behind = [Behind(before, ids) for ids in self._tokens(texts, role)]
        own = slice(len(before), None)
        refuse_after_fork()
        return self._scheduler.run(behind, lambda rows: made(rows[own]))

    def output(self, rows: Vectors) -> Vectors:
        """What the layers after the second stage make of *rows*, at unit length."""
        return self._between.output(rows)

    def placed(self, text: Behind) -> Placed:
        """The sequence that stands for *text*."""
        times = 2 if self._corpus.arithmetic == "published" else 1
        before, count = text.before, len(text.ids)
        positions = np.arange(len(before), len(before) + count, dtype=np.int32)
        rows = self._words.some(text.ids) + times * self._type
        return Placed(
            np.concatenate([before.rows, rows]), np.concatenate([before.positions, positions])
        )

    @contextmanager
    def _first(self) -> Iterator[Sequence[BertContext | Context]]:
        """Contexts of the first stage, which is in memory while the block runs."""
        path = beside.path(self._path, beside.FIRST)
        room, count = max(BATCH_TOKENS, self.manifest.context), settings.threads()
        contents = gguf_tensors.read(path)
        if self._own and not bert.reason_against(contents):
            own = Bert(contents)
            yield [BertContext(own, room) for _ in range(count)]
            return
        weights = Weights(path)
        contexts: list[Context] = []
        try:
            contexts += [Context(weights, room) for _ in range(count)]
            yield contexts
        finally:
            for context in contexts:
                context.close()
            weights.close()

    def _before(self, sample: Vectors) -> Placed:
        """What stands before each text."""
        rows = np.concatenate([sample, self._between.soft])
        positions = np.arange(len(rows), dtype=np.int32)
        if self._corpus.arithmetic == "published":
            return Placed(rows + self._type, positions)
        positions[: len(sample)] = 0
        return Placed(rows, positions)

    def _rooms(self, own: Bert | None, batch: int) -> tuple[int, Room]:
        self._own = own is not None
        soft = len(self._between.soft)
        return rooms(self._corpus, soft, self.manifest.context, own=self._own)

    def _context(self, own: Bert | None, room: int, words: Sequence[int]) -> Holds:
        if own is not None:
            return _Placing(self, BertContext(own, room))
        return _Placing(self, RowsContext(self._weights, room, self._type))

    def _check(self, manifest: Manifest, numbers: dict[str, float | int]) -> None:
        trained = numbers.get(SAMPLE)
        if trained != self._corpus.sample:
            raise ModelError(
                f"{manifest.name}: its weights were trained for samples of {trained} texts, its"
                f" manifest says {self._corpus.sample}"
            )
        needed = self._corpus.sample + len(self._between.soft) + manifest.context
        if numbers.get(POSITIONS, 0) < needed:
            raise ModelError(
                f"{manifest.name}: its weights have {numbers.get(POSITIONS, 0)} positions; a sample"
                f" and {manifest.context} tokens need {needed}"
            )


class _Placing:
    """Makes the rows of a text when it is computed: they are a megabyte and a half."""

    def __init__(self, model: TwoStage, context: BertContext | RowsContext) -> None:
        self._model = model
        self.context = context

    def use_threads(self, count: int) -> None:
        self.context.use_threads(count)

    def encode(self, texts: Sequence[Behind]) -> list[Vectors]:
        return self.context.compute([self._model.placed(text) for text in texts])

    def close(self) -> None:
        self.context.close()


class AfterSample(Reader):
    """A model of two stages that reads one sample before each text."""

    def __init__(self, model: TwoStage, manifest: Manifest, sample: Vectors | None) -> None:
        """Read *sample*; None if it is not known in this process."""
        super().__init__(manifest)
        self._model = model
        self._sample = sample

    def embed(self, texts: Sequence[str], role: Role, width: int | None = None) -> Vectors:
        """The unit vector of each text.

        :returns: float32 of shape (n, dimension)
        :raises InputError: there is no sample, or it is not known here
        """
        sample = self._known()
        if not texts:
            return np.empty((0, self.manifest.dimension), dtype=np.float32)
        return self._model.output(np.stack(self._model.read(sample, texts, role, mean)))

    def tokens(self, texts: Sequence[str], role: Role) -> list[Tokens]:
        """Each text's token vectors for late interaction; a long text chunk by chunk."""
        sample = self._known()
        parts = self.chunk(texts, role)
        flat = [part.text for chunks in parts for part in chunks]
        encoded = iter(self._model.read(sample, flat, role, self._late))
        return [join([next(encoded) for _ in chunks]) for chunks in parts]

    def score(self, query: str, documents: Sequence[str]) -> list[float]:
        """It scores no pairs.

        :raises InputError: always
        """
        raise InputError(f"{self.manifest.name} is an embedder: it gives vectors, and no scores")

    def count(self, texts: Sequence[str], role: Role = "document") -> list[int]:
        """Tokens of each text, its sample not counted."""
        return self._model.count(texts, role)

    def waiting(self) -> dict[str, int]:
        """Texts that wait to be computed by lane."""
        return self._model.waiting()

    def close(self) -> None:
        """End the model."""
        self._model.close()

    def _late(self, rows: Vectors) -> tuple[Vectors, Vector]:
        return self._model.output(rows), self._model.output(mean(rows)[None])[0]

    def _known(self) -> Vectors:
        if self._sample is not None:
            return self._sample
        name = self.manifest.name
        if self.manifest.sampled is None:
            raise InputError(
                f"{name} embeds a text in the light of a sample of others, and none is named: make"
                f""" an index with {{"model": "{name}"}}, whose own texts it then reads first; in"""
                " the column model of sqlembed_status is the name with that sample, for embed()"
            )
        raise InputError(
            f"the sample of {name} is not known in this process: it is kept with the index that was"
            " made with it; search that once, for example, and ask again"
        )
