"""Measure by which arithmetic, and in batches of how many tokens, a model is fastest here."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np

from sqlembed import settings
from sqlembed.engine import computing
from sqlembed.engine.bert import Bert
from sqlembed.engine.bert_context import BertContext
from sqlembed.engine.computing import Way
from sqlembed.engine.llama import MOST_TEXTS, Context, TokenIds, Weights
from sqlembed.engine.pack import BATCH_TOKENS
from sqlembed.engine.scheduler import Scheduler
from sqlembed.engine.waiting import Room
from sqlembed.settings import Arithmetic
from sqlembed.weights import gguf_tensors
from sqlembed.weights.manifest import Manifest

TOKENS = (128, 256, 512)
"""Tokens a batch that are tried."""
TEXTS = 64
LENGTHS = (6, 60)
"""Tokens of a text, from and to: those of short messages."""
ROUNDS = 3
WORTH = 1.03
"""How much faster another way must be than what is usual: less is noise."""


class Speed(NamedTuple):
    """What was measured of one way."""

    way: Way
    texts_per_second: float
    """Of 33 tokens, at the median."""


def speeds(manifest: Manifest, path: Path) -> list[Speed]:
    """The speed of every way to compute the model at *path*, each measured in turn, three times."""
    seconds: dict[Way, list[float]] = {}
    with _contexts(manifest, path) as (contexts, vocabulary):
        texts = _texts(vocabulary)
        for _ in range(ROUNDS + 1):
            for arithmetic, own in contexts.items():
                for tokens in TOKENS:
                    taken = seconds.setdefault(Way(arithmetic, tokens), [])
                    taken.append(_time(own, tokens, texts))
    # The first round reads weights into memory.
    return [Speed(way, TEXTS / median(taken[1:])) for way, taken in seconds.items()]


def best(found: Sequence[Speed]) -> Way:
    """The fastest of *found*; what is usual, where nothing is clearly faster."""
    usual = next((each for each in found if each.way == Way()), None)
    usual = usual or next(each for each in found if each.way.batch_tokens == BATCH_TOKENS)
    fastest = max(found, key=lambda each: each.texts_per_second)
    worth = fastest.texts_per_second > WORTH * usual.texts_per_second
    return fastest.way if worth else usual.way


@contextmanager
def _contexts(
    manifest: Manifest, path: Path
) -> Iterator[tuple[dict[Arithmetic, Sequence[Context | BertContext]], int]]:
    """A context a thread of each arithmetic that can compute the model, and its vocabulary."""
    rank, room, count = manifest.pooling == "rank", max(TOKENS), settings.threads()
    causal = manifest.attention == "causal"
    weights = Weights(path)
    found: dict[Arithmetic, Sequence[Context | BertContext]] = {}
    try:
        found["llama.cpp"] = [
            Context(weights, room, causal=causal, rank=rank) for _ in range(count)
        ]
        if manifest.corpus is None and not computing.reason_against(manifest, path):
            bert = Bert(gguf_tensors.read(path))
            found["own"] = [BertContext(bert, room, rank=rank) for _ in range(count)]
        yield found, weights.tokens
    finally:
        for context in (each for contexts in found.values() for each in contexts):
            context.close()
        weights.close()


def _texts(vocabulary: int) -> list[TokenIds]:
    """Any tokens, as what they mean takes no time: the same at every measurement."""
    random = np.random.default_rng(1)
    low, high = LENGTHS
    return [
        random.integers(0, vocabulary, size, dtype=np.int32)
        for size in random.integers(low, high + 1, TEXTS)
    ]


def _time(
    contexts: Sequence[Context | BertContext], tokens: int, texts: Sequence[TokenIds]
) -> float:
    scheduler = Scheduler("calibration", contexts, room=Room(tokens, MOST_TEXTS))
    try:
        begun = time.perf_counter()
        scheduler.run(texts, len)
        return time.perf_counter() - begun
    finally:
        scheduler.close()
