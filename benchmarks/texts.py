"""The texts of every benchmark: real SMS, each once, in an order fixed by a seed."""

import random
import sys
from pathlib import Path

from report import tell

from sqlembed import settings
from sqlembed.cli.pull import install
from sqlembed.weights import receipt

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT / "examples"))

SEED = 1
LONGEST = 500
"""Characters: every side reads such a text whole, so that all do the same work."""


def model() -> Path:
    """The default model's weights, installed if they are not there yet."""
    name = settings.default_model()
    if not receipt.gguf_path(name).is_file():
        tell(install(name))
    return receipt.gguf_path(name)


def messages() -> list[str]:
    """About 4,500 different SMS."""
    import datasets

    found = sorted({text for text in datasets.sms() if len(text) <= LONGEST})
    random.Random(SEED).shuffle(found)
    return found
