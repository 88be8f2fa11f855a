"""Pieces between spaces, remembered, give the tokens of the whole text."""

import json
from pathlib import Path

import pytest
import tables
from hypothesis import given
from hypothesis import strategies as st

from sqlembed.engine import wordwise
from sqlembed.engine.tokenize import ReferenceTokenizer
from sqlembed.engine.wordwise import Wordwise, separable
from sqlembed.weights.word_level import tokenizer

WORDS = tokenizer(tables.WORDS)
TEXTS = st.text(
    st.sampled_from("kingdoamnt's.u’“…-1:30 \u00a0\t\n\u0301\x1c\u2028👑é한"), max_size=40
)


def pieces(directory: Path) -> str:
    return (tables.model2vec(directory) / "tokenizer.json").read_text(encoding="utf-8")


@given(TEXTS)
def test_whole_words(text: str) -> None:
    (whole,) = ReferenceTokenizer(WORDS, 0).encode([text], bare=True)
    made = Wordwise(WORDS)
    assert made._separable
    assert made.encode([text]) == made.encode([text]) == [whole.tolist()]


def test_word_pieces(tmp_path: Path) -> None:
    definition = pieces(tmp_path)
    made, plain = Wordwise(definition), ReferenceTokenizer(definition, 0)
    assert made._separable
    for text in (
        "the foxy[PAD]fox \x1c foxs!",
        "fo\x1cx",
        "a\x00b [UNK] [CLS]fox",
        "",
        "  ",
        "한국 漢字 fox\u2028s",
    ):
        assert made.encode([text]) == [plain.encode([text], bare=True)[0].tolist()]


def test_what_looks_beyond_spaces_is_not_cut_there(tmp_path: Path) -> None:
    definition = json.loads(pieces(tmp_path))
    assert separable(definition)
    for change in (
        {"pre_tokenizer": {"type": "Metaspace", "replacement": "_", "prepend_scheme": "first"}},
        {"pre_tokenizer": None},
        {"normalizer": {"type": "Prepend", "prepend": "_"}},
        {"normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "_"}},
        {"added_tokens": [{"content": "a b", "lstrip": False, "rstrip": False}]},
        {"added_tokens": [{"content": "ab", "lstrip": True, "rstrip": False}]},
        {"model": {"type": "Unigram"}},
    ):
        assert not separable(definition | change)


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wordwise, "MOST_CHARACTERS", 20)
    made = Wordwise(WORDS)
    for _ in range(3):
        for word in tables.WORDS:
            assert len(made.encode([f"{word} king"])[0]) >= 2
    assert sum(map(len, made._known)) <= 20
