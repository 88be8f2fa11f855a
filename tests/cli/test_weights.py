"""``sqlembed pull``, ``models`` and ``convert``."""

import json
from pathlib import Path

import pytest
import tiny_bert

from sqlembed.cli import convert as convert_verb
from sqlembed.cli import pull as pull_verb
from sqlembed.errors import ModelError
from sqlembed.weights import receipt
from sqlembed.weights.convert import convert


def test_models(run):
    found = {row["name"]: row for row in json.loads(run("models", "--json").stdout)}
    assert found["fake"]["used_for"] == "embed and rerank"
    assert found["fake"]["installed"] == 1
    assert found["all-MiniLM-L6-v2"]["installed"] == 0
    lines = run("models").stdout.splitlines()
    assert lines[0].startswith("name\tkind\tdimension")
    assert len(lines) == len(found) + 1


def test_pull_of_what_is_installed(run):
    result = run("pull", "fake", "other")
    assert result.exit_code == 0
    first, second = result.stdout.splitlines()
    assert first.startswith("fake: already installed (")
    assert second.startswith("other: already installed (")


def test_pull_of_an_unknown_model_gets_nothing(run, monkeypatch):
    monkeypatch.setattr(pull_verb, "pull", lambda *_, **__: pytest.fail("it was pulled"))
    assert "no model is called 'nope'" in run.failure("pull", "fake", "nope")


def test_pull_reports_progress_and_what_it_installed(run, monkeypatch, fake_data: Path):
    def pulled(name, *, file, hub, file_type, progress):
        assert (file, hub, file_type) == (None, True, "q8_0")
        for done in (0, 50, 100):
            progress("downloading", done, 100)
        return receipt.gguf_path(name)

    monkeypatch.setattr(pull_verb, "pull", pulled)
    result = run("pull", "fake", "--hub", "--type", "q8_0")
    assert result.stdout.startswith("fake: installed (")
    assert result.stderr == ""


def test_pull_that_fails(run, monkeypatch):
    def offline(*_: object, **__: object) -> None:
        raise ModelError("the package registry\ncannot be reached")

    monkeypatch.setattr(pull_verb, "pull", offline)
    assert run.failure("pull", "fake") == "the package registry cannot be reached"


def test_pull_from_a_file(run, tmp_path):
    absent = tmp_path / "absent.gguf"
    assert run.failure("pull", "fake", "--file", str(absent)) == f"{absent} does not exist"
    assert run("pull", "fake", "other", "--file", str(absent)).exit_code == 2
    assert "both given" in run.failure("pull", "fake", "--hub", "--file", str(absent))


def test_pull_refuses_what_is_no_gguf(run, tmp_path):
    path = tmp_path / "weights.gguf"
    path.write_bytes(b"nonsense")
    assert "is not a GGUF" in run.failure("pull", "fake", "--file", str(path))


def test_convert(run, tmp_path, monkeypatch):
    def converted(source: Path, target: Path, file_type: str, *, requantize: bool) -> None:
        assert (source, file_type, requantize) == (tmp_path, "q4_0", False)
        target.write_bytes(b"GGUF")

    monkeypatch.setattr(convert_verb, "convert", converted)
    out = tmp_path / "out.gguf"
    result = run("convert", str(tmp_path), str(out), "--type", "q4_0")
    assert result.stdout.startswith(f"{out}: 0 MB, q4_0, in ")


def test_convert_of_a_gguf(run, tmp_path):
    whole, small = tmp_path / "whole.gguf", tmp_path / "small.gguf"
    convert(tiny_bert.write_directory(tmp_path / "source"), whole, "f32")
    result = run("convert", str(whole), str(small), "--type", "q4_k_m")
    assert result.stdout.startswith(f"{small}: 0 MB, q4_k_m, in ")
    again = ("convert", str(small), str(whole), "--type", "q4_0")
    assert "is quantized already (q" in run.failure(*again)
    assert run(*again, "--requantize").exit_code == 0


def test_convert_of_what_cannot_be(run, tmp_path):
    out = str(tmp_path / "out.gguf")
    assert "must hold" in run.failure("convert", str(tmp_path), out)
    assert "does not exist" in run.failure("convert", str(tmp_path / "absent"), out)
    assert run("convert", str(tmp_path), str(tmp_path / "out.bin")).exit_code == 2
    assert run("convert", str(tmp_path), str(tmp_path / "no" / "out.gguf")).exit_code == 2
    assert run("convert", str(tmp_path), out, "--type", "f8").exit_code == 2
    assert not Path(out).exists()
