"""Memory that a model will take: a decoder's words count twice, and of answers few count."""

from pathlib import Path

import pytest
import tiny_decoder as tiny

from sqlembed.engine import memory
from sqlembed.engine.llama import MOST_TEXTS
from sqlembed.weights.manifest import parse

ROOM = 512
READING = {"reading": "yes_no", "template": "{query} {document}"}


def words_bytes(
    directory: Path, monkeypatch: pytest.MonkeyPatch, architecture: str, **keys: object
) -> float:
    """What the rule says for each word that the vocabulary has more."""
    sizes = []
    for count in (1000, 2000):
        monkeypatch.setattr(tiny, "PIECES", [f"w{number}" for number in range(count)])
        path = tiny.write(directory / "m.gguf", architecture, json_inside=False)
        found = parse(tiny.manifest("t", architecture, context=ROOM, **keys), "a test")
        sizes.append(memory.needed(found, path) - path.stat().st_size)
    return (sizes[1] - sizes[0]) / 1000 - memory.WORD_BYTES


def test_words_of_a_context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SQLEMBED_THREADS", "1")
    monkeypatch.setenv("SQLEMBED_ARITHMETIC", "llama.cpp")
    assert words_bytes(tmp_path, monkeypatch, "nomic-bert") == ROOM * 4
    assert words_bytes(tmp_path, monkeypatch, "qwen2") == ROOM * 4 * 2
    assert words_bytes(tmp_path, monkeypatch, "qwen3", **READING) == MOST_TEXTS * 4 * 2
