"""How the two legs become one list: what search() is to do, written down for measuring."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

CANDIDATES = 50
"""Of each leg."""
RERANKED = 20
CODE_WEIGHT = 3
"""A number or code is asked for on purpose; the words around it are not."""
LATE_WEIGHT = 0.03


@dataclass(frozen=True)
class Candidate:
    """What the legs say of a text."""

    cosine: float
    bm25: float
    """High is better; 0 where no word matches."""
    share: float
    """The share of the query's information that the text's words have, 0 to 1."""


def phrases(query: str) -> dict[str, int]:
    """The pieces between spaces, as phrases of FTS5, and how often each counts."""
    pieces = dict.fromkeys(query.lower().split())
    return {
        '"{}"'.format(piece.replace('"', '""')): CODE_WEIGHT if is_code(piece) else 1
        for piece in pieces
        if any(letter.isalnum() for letter in piece)
    }


def is_code(piece: str) -> bool:
    """Whether *piece* looks like a number, a price or a code: two digits or more."""
    return sum(letter.isdigit() for letter in piece) >= 2


def match(query: str) -> str:
    """*query* for FTS5's MATCH: any of its pieces; FTS5's bm25() counts a repeated one again."""
    return " OR ".join(phrase for phrase, times in phrases(query).items() for _ in range(times))


def information(having: int, texts: int) -> float:
    """What a phrase says that *having* of so many *texts* have, as FTS5's bm25() weighs it."""
    return max(1e-6, math.log((texts - having + 0.5) / (having + 0.5)))


def fused(candidates: Mapping[int, Candidate], spread: float) -> dict[int, float]:
    """The score of each candidate: how it stands out in meaning, and in words.

    :param spread: standard deviation of the query's cosine with the texts of the index
    """
    meaning = shares({n: each.cosine / spread for n, each in candidates.items()})
    standing = shares({n: each.bm25 / 2 for n, each in candidates.items() if each.bm25 > 0})
    return {
        n: meaning[n] + (each.share**2 + standing.get(n, 0.0)) / 2 for n, each in candidates.items()
    }


def shares(logits: Mapping[int, float]) -> dict[int, float]:
    """Softmax: positive numbers that are 1 together."""
    most = max(logits.values(), default=0.0)
    powers = {n: math.exp(value - most) for n, value in logits.items()}
    total = sum(powers.values())
    return {n: power / total for n, power in powers.items()}


def reranked(scores: Mapping[int, float], late: Mapping[int, float], spread: float) -> list[int]:
    """The texts of *late* (the best of *scores*) by both, then the others as they were."""
    first = {n: scores[n] + LATE_WEIGHT * value / spread for n, value in late.items()}
    return [*by_score(first), *(n for n in by_score(scores) if n not in first)]


def by_score(scores: Mapping[int, float]) -> list[int]:
    """The keys of *scores*, the highest first."""
    return sorted(scores, key=lambda n: -scores[n])
