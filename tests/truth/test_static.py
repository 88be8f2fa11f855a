"""The real GloVe: tokens, arithmetic, and texts found by it."""

import numpy as np
import pytest
from harness import Sql

from sqlembed.weights import receipt
from sqlembed.weights.manifest import find

pytestmark = pytest.mark.model

GLOVE = "glove-6b-50d"
WORDS = "king queen man woman prince throne monarch princess boy girl car table red london paris"


def test_king_minus_man_plus_woman_is_nearest_to_queen(real: Sql) -> None:
    real("CREATE TABLE words(id INTEGER PRIMARY KEY, word TEXT)")
    for word in WORDS.split():
        real("INSERT INTO words(word) VALUES (?)", word)
    real(f"""SELECT sqlembed_index('words', 'word', '{{"model": "{GLOVE}"}}')""")
    vector = "vec_add(vec_sub(embed('king', :m), embed('man', :m)), embed('woman', :m))"
    found = real(f"SELECT text FROM knn('words', {vector.replace(':m', repr(GLOVE))}, 4)")
    assert next(word for word in found if word not in ("king", "man", "woman")) == "queen"


def test_its_probes_are_met_closely(real: Sql) -> None:
    probes = find(GLOVE).probes
    assert len(probes) >= 4
    for probe in probes:
        (blob,) = real("SELECT embed(?, ?)", probe.text, GLOVE)
        assert probe.vector is not None
        reference = probe.vector / np.linalg.norm(probe.vector)
        assert np.frombuffer(blob, "<f4") @ reference > 0.9999


def test_tokens_are_stanfords(real: Sql) -> None:
    for text, tokens in (("I don't think it's O'Brien's", 8), ("The U.S. won 1,000 times...", 6)):
        assert real.one("SELECT token_count(?, ?)", text, GLOVE) == tokens


def test_rows_are_kept_in_16_bits() -> None:
    # 400,000 words of 50 numbers, and the tokenizer.
    assert receipt.gguf_path(GLOVE).stat().st_size < 400_000 * 50 * 2 + 10e6
