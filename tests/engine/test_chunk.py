"""Chunks fit, follow each other without a gap, and end where a reader would end them."""

from collections.abc import Sequence

import hypothesis.strategies as st
from hypothesis import example, given

from sqlembed.engine.chunk import chunk


def words(texts: Sequence[str]) -> list[int]:
    """A count like a model's: words of at most 8 letters, and two added tokens."""
    return [2 + sum(1 + len(word) // 8 for word in text.split()) for text in texts]


@given(st.text(st.sampled_from("ab .\n\u0301é😀\u200d"), max_size=300), st.integers(4, 30))
@example("x" * 5000, 10)
@example("a " * 3000, 10)
def test_chunks_fit_and_together_are_the_text(text: str, most: int) -> None:
    chunks = chunk(text, most, words)
    assert "".join(part.text for part in chunks) == text
    assert chunks[0].start == 0 and chunks[-1].stop == len(text)
    for part in chunks:
        assert text[part.start : part.stop] == part.text
        assert words([part.text])[0] <= most


def test_a_text_that_fits_is_one_chunk() -> None:
    (only,) = chunk("one two three", 5, words)
    assert (only.text, only.start, only.stop) == ("one two three", 0, 13)


def test_a_paragraph_or_sentence_ends_a_chunk_where_it_can() -> None:
    text = "One two three four. Five six seven eight. Nine ten.\n\nEleven twelve thirteen."
    assert chunk(text, 9, words)[0].text == "One two three four. "
    assert chunk(text, 13, words)[0].text == text.split("Eleven")[0]


def test_a_megabyte_without_a_space_is_cut() -> None:
    parts = chunk("x" * 1_000_000, 256, words)
    assert sum(len(part.text) for part in parts) == 1_000_000
