"""A model for the crash tests: fast, deterministic, a little slow at random, deadly on one word."""

import os
import random
import signal
import sys
import time
from collections.abc import Callable, Sequence
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from types import ModuleType

if "sqlembed.engine.model" not in sys.modules:  # the real one loads llama.cpp
    stand_in = ModuleType("sqlembed.engine.model")
    stand_in.Model = object  # type: ignore[attr-defined]
    sys.modules["sqlembed.engine.model"] = stand_in
    sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
from crash.world import VOCABULARY
from harness import FAKES, FakeModel

from sqlembed.engine import library

DEADLY = "deadly"
"""A text with this word ends the process, as kill -9 does."""
SLOWEST_SECONDS = 0.15
"""That a call may take, so that a kill may come while a model runs, or others change and store what it
works on."""
SLOW_CALLS = 0.1
"""The share of calls that may take so long; the others take a tenth of that at most."""


@lru_cache(maxsize=100_000)
def word_vector(model: str, dimension: int, word: str) -> np.ndarray:
    """What a word adds to a text's vector."""
    seed = blake2b(f"{model} {word}".encode(), digest_size=8).digest()
    return np.random.default_rng(int.from_bytes(seed)).normal(size=dimension)


def text_vector(model: str, dimension: int, text: str) -> np.ndarray:
    """What a model of that name makes of *text*; as ``FakeModel`` does, but words are remembered."""
    total = np.sum([word_vector(model, dimension, word) for word in text.split() or [""]], axis=0)
    return np.asarray(total / np.linalg.norm(total), dtype=np.float32)


class CrashModel(FakeModel):
    """Tells when it runs, and dies as it is told."""

    began: Callable[[], None] = staticmethod(lambda: None)
    """Called before it computes."""

    def embed(self, texts: Sequence[str], role: str) -> np.ndarray:
        CrashModel.began()
        if any(DEADLY in text.split() for text in texts):
            os.kill(os.getpid(), signal.SIGKILL)
        slowest = SLOWEST_SECONDS if random.random() < SLOW_CALLS else SLOWEST_SECONDS / 10
        time.sleep(random.random() * slowest)
        made: np.ndarray = super().embed(texts, role)
        FakeModel.texts.clear()
        return made

    def _vector(self, text: str) -> np.ndarray:
        return text_vector(self.manifest.name, self.manifest.dimension, text)


def use() -> None:
    """Have every engine that this process makes use it."""
    library.Model = CrashModel  # type: ignore[misc]


def prepare() -> None:
    """Load what is else loaded late, once for all processes that are forked."""
    import prometheus_client  # noqa: F401
    import rapidfuzz
    import rapidfuzz.process  # noqa: F401
    import regex  # noqa: F401

    for name, kind, dimension, _ in FAKES:
        for word in VOCABULARY if kind == "embedder" else ():
            word_vector(name, dimension, word)
