"""Late interaction in bytes: near to that in floats, the same from the file, and nothing else."""

import numpy as np
import pytest

from sqlembed.engine.late import LATE_SHARE, Tokens, is_intact, join, score
from sqlembed.engine.pooling import Vectors, unit

DIMENSION = 384


def rows(count: int, seed: int) -> Vectors:
    """Unit vectors; two components are far larger than the others, as with real models."""
    drawn = np.random.default_rng(seed).normal(size=(count, DIMENSION))
    drawn[:, :2] *= 6
    return unit(drawn.astype(np.float32))


def text(count: int, seed: int, chunks: int = 1) -> Tokens:
    return join([(rows(count, seed + n), rows(1, seed + 50 + n)[0]) for n in range(chunks)])


def test_bytes_are_near_to_floats() -> None:
    for seed in range(20):
        query, document = rows(8, seed), rows(30, seed + 100)
        late = (query @ document.T).max(axis=1).mean()
        exact = LATE_SHARE * late + (1 - LATE_SHARE) * float(query[0] @ document[0])
        coded = score(join([(query, query[0])]), join([(document, document[0])]))
        assert coded == pytest.approx(exact, abs=0.003)


def test_a_text_is_itself() -> None:
    assert score(text(9, 1), text(9, 1)) == pytest.approx(1, abs=1e-6)


def test_the_best_chunk_and_every_token_count() -> None:
    other, wanted = (rows(5, 1), rows(1, 2)[0]), (rows(5, 3), rows(1, 4)[0])
    assert score(join([wanted]), join([other, wanted])) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("chunks", [1, 3])
def test_the_file_gives_back_what_was_stored(chunks: int) -> None:
    tokens = text(7, 5, chunks)
    value = tokens.to_bytes()
    assert len(value) == 8 + chunks * 8 * DIMENSION and is_intact(value, DIMENSION)
    read = Tokens.from_bytes(value, DIMENSION)
    assert read.whole.shape == (chunks, DIMENSION) and read.each.shape == (7 * chunks, DIMENSION)
    assert score(text(4, 9), read) == score(text(4, 9), tokens)


def test_whatever_is_damaged_is_not_intact() -> None:
    value = text(2, 5).to_bytes()
    assert not any(is_intact(value[:length], DIMENSION) for length in range(len(value)))
    assert not is_intact(value + bytes(DIMENSION), DIMENSION)
    for place in range(len(value)):
        flipped = bytearray(value)
        flipped[place] ^= 0x10
        assert not is_intact(bytes(flipped), DIMENSION)


def test_another_width_is_not_intact() -> None:
    assert not is_intact(text(2, 5).to_bytes(), DIMENSION - 1)
