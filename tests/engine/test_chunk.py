"""Chunks fit, leave nothing out, overlap, and move little after an edit."""

import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import hypothesis.strategies as st
import pytest
import regex
from hypothesis import assume, example, given, settings

from sqlembed.engine.chunk import Chunk, chunk
from sqlembed.engine.local import LocalEngine

ROOT = Path(__file__).parents[2]
LICENCE = (ROOT / "LICENSE-APACHE").read_text()
MANUAL = "\n\n".join(path.read_text() for path in sorted((ROOT / "docs").glob("*.md")))
FAMILY = "\U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466"
SECONDS = 20
"""What takes seconds here takes hours if the time grows with the square of the length."""


def words(texts: Sequence[str]) -> list[int]:
    """A count like a model's: words of at most 8 letters, and two added tokens."""
    return [2 + sum(1 + len(word) // 8 for word in text.split()) for text in texts]


def letters(texts: Sequence[str]) -> list[int]:
    """A count in which every character costs, white space too."""
    return [2 + len(text) for text in texts]


def cut(text: str, size: int, overlap: int = 0, count: Callable[..., list[int]] = words) -> list[Chunk]:  # fmt: skip
    """The chunks of *text*, which are what chunks must be."""
    (chunks,) = chunk([text], size, count, overlap)
    assert chunks[0].start == 0 and chunks[-1].stop == len(text)
    for part in chunks:
        assert text[part.start : part.stop] == part.text
        assert part.tokens == count([part.text])[0] <= size
    for before, after in pairwise(chunks):
        assert before.start < after.start <= before.stop < after.stop
        assert count([text[after.start : before.stop]])[0] - count([""])[0] <= overlap
    return chunks


def texts_of(chunks: list[Chunk]) -> list[str]:
    return [part.text for part in chunks]


@settings(deadline=None)
@given(
    st.text(st.sampled_from("ab .\n#`\u0301é😀\u200d。"), max_size=300),
    st.integers(4, 30),
    st.integers(0, 14),
    st.sampled_from([words, letters]),
)
@example("x" * 5000, 10, 3, words)
@example("a " * 3000, 10, 4, words)
@example("e" + "\u0301" * 3000, 10, 4, letters)
def test_chunks_fit_and_together_are_the_text(
    text: str, size: int, overlap: int, count: Callable[..., list[int]]
) -> None:
    cut(text, size, min(overlap, (size - 1) // 2), count)


@settings(deadline=None)
@given(
    st.text(st.sampled_from("ab 。\u0301\u200d😀🇩🇪👨क्ष가\u1100\r\n"), max_size=200),
    st.integers(14, 40),
)
@example("aaaa\raaa aaaa", 14)
def test_no_grapheme_is_cut(text: str, size: int) -> None:
    ends = [match.end() for match in regex.finditer(r"\X", text)]
    assume(max((b - a for a, b in pairwise([0, *ends])), default=0) <= min(size - 2, 32))
    chunks = cut(text, size, 3, letters)
    assert {place for part in chunks for place in (part.start, part.stop)} <= {0, *ends}


def test_a_text_that_fits_is_one_chunk_and_is_counted_once() -> None:
    asked: list[Sequence[str]] = []

    def count(texts: Sequence[str]) -> list[int]:
        asked.append(texts)
        return words(texts)

    (only,), (empty,), (_again,) = chunk(["one two three", "", "one two three"], 5, count, 2)
    assert only == Chunk("one two three", 0, 13, 5)
    assert empty == Chunk("", 0, 0, 2)
    assert asked == [["one two three", ""]]


def test_a_paragraph_or_sentence_ends_a_chunk_where_it_can() -> None:
    text = "One two three four. Five six seven eight. Nine ten.\n\nEleven twelve thirteen."
    assert cut(text, 9)[0].text == "One two three four. "
    assert cut(text, 13)[0].text == text.split("Eleven")[0]


def test_the_end_of_a_chunk_is_repeated_from_the_beginning_of_a_sentence() -> None:
    text = "One two three four. Five six seven. Eight nine ten. Eleven twelve. Thirteen."
    first, second, *_ = cut(text, 13, 5)
    assert first.text == "One two three four. Five six seven. Eight nine ten. "
    assert second.text.startswith("Eight nine ten. Eleven")
    assert cut(text, 13, 2)[1].text.startswith("nine ten. Eleven")
    assert cut(text, 13, 0)[1].text.startswith("Eleven")


def test_a_chunk_begins_at_a_heading_and_repeats_nothing_there() -> None:
    text = "Before it. Some words. More words.\n\n# Heading\n\nAfter it. Some words. More words.\n"
    assert texts_of(cut(text, 14, 4)) == [text[: text.index("#")], text[text.index("#") :]]


def test_a_higher_heading_goes_before_a_later_lower_one() -> None:
    text = "# One\n\na a a a\n\n# Two\n\nb b\n\n## Deeper\n\nc c c c c c c c c c c c\n"
    assert cut(text, 16)[0].text == "# One\n\na a a a\n\n"
    assert cut(text.replace("# Two", "### Two"), 16)[0].text.endswith("b b\n\n")


def test_a_fenced_block_that_fits_is_whole() -> None:
    block = "```sh\n# no heading\na b c\n\nd. E f g\n```\n\n"
    text = "Before it stand words, and more of these.\n\n" + block + "After it. And more. And more."
    for size in range(17, 40):
        assert any(block in part.text for part in cut(text, size, 4)), size
    assert not any(block in part.text for part in cut(text, 12, 4))


@pytest.mark.parametrize("text", [LICENCE, MANUAL, " ".join(LICENCE.split())])
def test_an_edit_near_the_beginning_changes_few_chunks(text: str) -> None:
    known = set(texts_of(cut(text, 100, 10)))
    assert len(known) > 20
    spaces = [match.end() for match in regex.finditer(" ", text, endpos=len(text) // 8)]
    places = spaces[:: len(spaces) // 8]
    changed = []
    for place in places:
        for edited in (
            text[:place] + "added " + text[place:],
            text[:place] + "A sentence is added. And another. " * 3 + text[place:],
            text[:place] + text[place + 60 :],
        ):
            changed.append(len(set(texts_of(cut(edited, 100, 10))) - known))
    assert sum(changed) / len(changed) < 5
    assert max(changed) < len(known) / 2


LONG = {
    "x": "x" * 1_000_000,
    "letters and marks": "abc+de/fghijkl0123" * 55_000,
    "Chinese": "的一是不了人我在有他这为之大来以个中上们" * 16_000,
    "Chinese in sentences": "的一是不了人。我在有他！这为之大来，以个中上们" * 15_000,
    "Thai": "ภาษาไทยไม่มีช่องว่างระหว่างคำ" * 11_000,
    "Hebrew": "בראשית ברא אלהים את השמים ואת הארץ. " * 15_000,
    "Arabic with its marks": "بِسْمِ اللَّهِ الرَّحْمَٰنِ الرَّحِيمِ۞" * 12_000,
    "families": FAMILY * 40_000,
    "flags": "🇩🇪" * 120_000,
    "one grapheme": "e" + "\u0301" * 500_000,
    "ligatures that are 18 letters": "\ufdfa" * 300_000,
    "white space": " " * 500_000 + "\n" * 500_000,
    "headings": "# \n" * 200_000,
    "underlines": "a\n---\n\n" * 100_000,
    "fences": "```\n" * 200_000,
    "fences that do not close": "````a\ntext\n```\n" * 60_000,
    "full stops": "." * 1_000_000,
    "a book": LICENCE * 45,
}


@pytest.mark.parametrize("text", LONG.values(), ids=LONG)
@pytest.mark.parametrize("count", [words, letters])
def test_a_megabyte_takes_seconds(text: str, count: Callable[..., list[int]]) -> None:
    began = time.process_time()
    assert len(cut(text, 256, 25, count)) > 1
    assert time.process_time() - began < SECONDS


@pytest.mark.model
@pytest.mark.parametrize("model", ["all-MiniLM-L6-v2", "multilingual-e5-small"])
@pytest.mark.parametrize("text", LONG.values(), ids=LONG)
def test_a_megabyte_takes_seconds_with_a_real_tokenizer(
    real_engine: LocalEngine, text: str, model: str
) -> None:
    real_engine.load(model)
    began = time.monotonic()
    (chunks,) = real_engine.chunk([text], model)
    assert time.monotonic() - began < 60
    context = 256 if model == "all-MiniLM-L6-v2" else 512
    assert max(part.tokens for part in chunks) <= context
    assert all(a.start < b.start <= a.stop < b.stop for a, b in pairwise(chunks))
    assert [part.tokens for part in chunks[:50]] == real_engine.token_count(
        texts_of(chunks[:50]), model
    )
    ends = {match.end() for match in regex.finditer(r"\X", text[:3000])}
    if text is not LONG["one grapheme"]:
        assert {part.stop for part in chunks if part.stop < 2900} <= ends


def test_graphemes_are_looked_up_only_where_a_word_is_cut() -> None:
    program = """
import sys
from sqlembed.engine.chunk import chunk
count = lambda texts: [len(text.split()) + len(text) // 50 for text in texts]
chunk(["word " * 1000], 50, count)
assert "regex" not in sys.modules
chunk(["é" * 10000], 50, count)
assert "regex" in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True)
