"""Manifests: ours are whole, the user's own win, and a wrong one says what is wrong."""

from pathlib import Path

import numpy as np
import pytest

from sqlembed import resources, settings
from sqlembed.errors import ModelError, NotFoundError
from sqlembed.weights import manifest

MINIMAL = """
name = "mine"
summary = "s"
kind = "embedder"
architecture = "bert"
dimension = 4
context = 8
pooling = "mean"
licence = "MIT"
homepage = "none"
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SQLEMBED_DATA", str(tmp_path))
    (tmp_path / "models").mkdir()
    return tmp_path / "models"


OURS = sorted(path.stem for path in resources.directory("models").glob("*.toml"))


def test_the_default_model_is_ours() -> None:
    assert settings.DEFAULT_MODEL in OURS


@pytest.mark.parametrize("name", OURS)
def test_our_manifest_is_whole(own: Path, name: str) -> None:
    found = manifest.find(name)
    assert found.name == name
    assert found.source is not None or found.hub is not None
    if found.source is None:
        # Weights that nobody here has seen: no probes, and never chosen by itself.
        assert not found.probes and not found.recommended
        return
    assert all(len(sha256) == 64 for sha256 in found.source.sha256.values())
    if found.kind == "generator":  # what it writes is compared by tests, and has no vector
        assert not found.probes
        return
    assert len(found.probes) >= 4
    for probe in found.probes:
        if found.kind == "embedder":
            assert probe.vector is not None
            assert probe.vector.shape == (found.dimension,)
            assert np.linalg.norm(probe.vector) == pytest.approx(1, abs=1e-3)
        else:
            assert probe.document is not None
            assert probe.score is not None
            assert 0 <= probe.score <= 1
    roles = {probe.role for probe in found.probes}
    assert roles == ({"query", "document"} if found.prompts else {"document"}) or (
        found.kind == "reranker"
    )


def test_e5_has_its_prompts(own: Path) -> None:
    found = manifest.find("multilingual-e5-small")
    assert (found.prompt("query"), found.prompt("document")) == ("query: ", "passage: ")


def test_the_judge_is_for_tests_only(own: Path) -> None:
    found = manifest.find("judge-nli")
    assert (found.licence, found.recommended) == ("unstated", False)


def test_the_users_own_manifest_wins(own: Path) -> None:
    (own / "all-MiniLM-L6-v2.toml").write_text(MINIMAL, encoding="utf-8")
    assert manifest.find("all-MiniLM-L6-v2").dimension == 4
    assert manifest.available()["all-MiniLM-L6-v2"].dimension == 4


@pytest.mark.parametrize(
    "name", ["", "minilm", "all-minilm", "../models/judge-nli", "judge-nli.toml"]
)
def test_an_unknown_name_lists_the_known(own: Path, name: str) -> None:
    with pytest.raises(NotFoundError, match=r"the models are .*all-MiniLM-L6-v2, .*judge-nli"):
        manifest.find(name)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (MINIMAL + "colour = 1", "colour.*the keys are aliases, architecture"),
        (MINIMAL.replace("dimension = 4", ""), "dimension"),
        ("name = ", "is not TOML"),
    ],
)
def test_a_wrong_manifest_says_what_is_wrong(text: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        manifest.parse(text, "mine.toml")


def test_a_prompt_for_each_task(own: Path) -> None:
    found = manifest.find("nomic-embed-text-v1.5")
    assert found.prompt("query") == "search_query: "
    assert found.prompts["clustering"] == "clustering: "


def test_a_head_for_each_width_and_two_for_all(own: Path) -> None:
    stella = manifest.find("stella_en_1.5B_v5")
    assert [head.outputs for head in stella.heads] == [1024]
    narrow = manifest.find("stella_en_1.5B_v5:256")
    assert [head.outputs for head in narrow.heads] == [256] and not narrow.is_cut
    gemma = manifest.find("embeddinggemma-300M:256")
    assert [head.outputs for head in gemma.heads] == [3072, 768] and gemma.is_cut


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ('whole = "x"', "unexpected key 'whole'"),
        ('attention = "both"', "attention is bidirectional or causal"),
        ('[[dense]]\npath = "d"\nin = 4\nout = 5', "gives 5 floats; dimension is 4"),
        ('[[dense]]\npath = "d"\nin = 4\nout = 4\nactivation = "relu"', "identity or tanh"),
        ('[[dense]]\npath = "d"\nin = 0\nout = 4', "numbers from 1"),
        ('[[dense]]\npath = "d"\nin = 4\nout = 4\nwidth = 3', "width is what its head gives"),
    ],
)
def test_a_wrong_stack_says_what_is_wrong(lines: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        manifest.parse(MINIMAL + lines, "mine.toml")
