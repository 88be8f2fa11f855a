"""The first facts of a GGUF, read quickly; damage gives fewer of them and no error."""

from pathlib import Path

import pytest

from sqlembed.engine.llama import Weights
from sqlembed.engine.memory import needed
from sqlembed.weights import gguf_header, manifest, receipt

NAMES = ("all-MiniLM-L6-v2", "multilingual-e5-small", "judge-nli")


@pytest.mark.model
@pytest.mark.parametrize("name", NAMES)
def test_it_says_what_llama_cpp_says(name: str) -> None:
    path = receipt.gguf_path(name)
    found = gguf_header.counts(path)
    weights = Weights(path)
    assert found[gguf_header.VOCABULARY] == weights.tokens
    assert found["bert.embedding_length"] == weights.dimension
    weights.close()


@pytest.mark.model
def test_a_file_that_is_cut_gives_what_was_read(tmp_path: Path) -> None:
    data = receipt.gguf_path("all-MiniLM-L6-v2").read_bytes()[:2000]
    path = tmp_path / "cut.gguf"
    for length in range(len(data)):
        path.write_bytes(data[:length])
        assert gguf_header.counts(path).get("bert.embedding_length", 384) == 384


@pytest.mark.parametrize("data", [b"", b"GGUF", b"\xff" * 500, b"GGUF" + b"\x7f" * 500])
def test_what_is_no_gguf_gives_nothing(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "no.gguf"
    path.write_bytes(data)
    assert gguf_header.counts(path) == {}


@pytest.mark.model
@pytest.mark.parametrize(("arithmetic", "size"), [("llama.cpp", 144e6), ("own", 102e6)])
def test_the_memory_of_the_default_model(
    arithmetic: str, size: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SQLEMBED_THREADS", "1")
    monkeypatch.setenv("SQLEMBED_ARITHMETIC", arithmetic)
    name = NAMES[0]
    assert needed(manifest.find(name), receipt.gguf_path(name)) == pytest.approx(size, rel=0.02)
