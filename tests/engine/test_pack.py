"""Batches hold every text once, within their bounds, equal lengths together."""

import hypothesis.strategies as st
from hypothesis import given

from sqlembed.engine.pack import pack

LENGTHS = st.lists(st.integers(1, 300), max_size=80)


@given(LENGTHS, st.integers(1, 300), st.integers(1, 20))
def test_each_text_is_in_one_batch_within_the_bounds(
    lengths: list[int], tokens: int, texts: int
) -> None:
    batches = pack(lengths, tokens, texts)
    assert sorted(position for batch in batches for position in batch) == list(range(len(lengths)))
    for batch in batches:
        assert 1 <= len(batch) <= texts
        assert len(batch) == 1 or sum(lengths[position] for position in batch) <= tokens


def test_equal_lengths_share_a_batch_and_the_longest_go_first() -> None:
    assert pack([3, 9, 3, 9, 3], 18, 10) == [[1, 3], [0, 2, 4]]


def test_nothing_needs_no_batch() -> None:
    assert pack([], 256, 10) == []
