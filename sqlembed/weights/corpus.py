"""A model that reads others of its texts first: its manifest's ``[corpus]``, and names with one.

``NAME@DIGEST`` is the model NAME in the light of one sample of texts.
"""

import re
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Literal, get_args

from sqlembed.errors import ModelError

Arithmetic = Literal["trained", "published"]
"""How the second stage reads the sample, on which its authors' own code disagrees.

``trained``, by the code that trained and measured it: the sample's vectors stand in no place, and
texts behind all of them. ``published``, by the code on the model hub: each stands in its own place,
and the embedding of a token's type is added to the sample once and to texts twice. (The one is
jxmorris12/cde on GitHub, commit 0ca7453, ``cde/model.py`` and ``cde/lib/nomic_bert``. The other is
``model.py`` of jxm/cde-small-v1 on the hub, of 2024: it sets a ``rotary_start_pos`` that the code
of nomic-ai/nomic-bert-2048, by which it computes, does not look at.)
"""
DIGEST = re.compile(r"[0-9a-f]{16}")
SEPARATOR = "@"


@dataclass(frozen=True)
class Corpus:
    """The table ``[corpus]``."""

    sample: int = 512
    """Texts of a sample; of fewer, some are taken several times."""
    arithmetic: Arithmetic = "trained"

    def __post_init__(self) -> None:
        """Refuse what cannot be.

        :raises ModelError: a key has an impossible value
        """
        whole = isinstance(self.sample, int) and not isinstance(self.sample, bool)
        if not whole or self.sample < 1:
            raise ModelError(f"[corpus] sample is a number from 1; got {self.sample!r}")
        if self.arithmetic not in get_args(Arithmetic):
            raise ModelError(
                f"[corpus] arithmetic is {' or '.join(get_args(Arithmetic))}; got"
                f" {self.arithmetic!r}"
            )


def corpus(entry: dict[str, Any]) -> Corpus:
    """Read the table ``[corpus]``."""
    return Corpus(**entry)


def digest(vectors: bytes) -> str:
    """What a sample is called, by what the first stage made of it."""
    return sha256(vectors).hexdigest()[:16]


def parts(name: str) -> tuple[str, str | None]:
    """A model's name, and the digest of a sample behind it; None where there is none."""
    base, at, sampled = name.rpartition(SEPARATOR)
    return (base, sampled) if at and DIGEST.fullmatch(sampled) else (name, None)
