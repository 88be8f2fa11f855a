"""``sqlembed cache`` and ``sqlembed doctor``."""

import json
import os
import tempfile

import pytest

from sqlembed import __version__, settings
from sqlembed.engine import library
from sqlembed.engine.model import Model
from sqlembed.errors import ProbeError
from sqlembed.service.daemon import Place
from sqlembed.weights import receipt

REAL_DATA = settings.data_directory()


def test_what_the_cache_holds(run, indexed):
    held = json.loads(run("cache", "--json").stdout)
    assert held["path"].endswith("cache.db")
    assert held["holdings"] == [{"model": "fake", "kind": "embedding", "entries": 4, "bytes": 1024}]
    assert "cleared" not in held
    lines = run("cache").stdout.splitlines()
    assert lines[:2] == ["model\tkind\tentries\tbytes", "fake\tembedding\t4\t1024"]
    assert lines[2] == f"{held['path']}, at most 1,074 MB"


def test_clear_everything(run, indexed):
    assert run("cache", "--clear").stdout.startswith("4 entries forgotten\n")
    assert json.loads(run("cache", "--json").stdout)["holdings"] == []


def test_clear_one_model(run, indexed):
    assert json.loads(run("cache", "--clear", "other", "--json").stdout)["cleared"] == 0
    assert json.loads(run("cache", "--json", "--clear", "fake").stdout)["cleared"] == 4


def test_clear_of_an_unknown_model(run):
    assert run.failure("cache", "--clear", "nope").startswith("no model is called 'nope'")


def test_a_cache_that_cannot_be_used(run, tmp_path, monkeypatch):
    monkeypatch.setenv("SQLEMBED_CACHE", str(tmp_path))
    assert run.failure("cache").startswith(f"the cache cannot be used: {tmp_path}")


def test_doctor_finds_nothing_wrong(run):
    facts = json.loads(run("doctor", "--json").stdout)
    assert facts["sqlembed"] == __version__
    assert facts["problems"] == []
    assert facts["model"].startswith("fake, 64 dimensions")
    assert facts["rerank"] == "fake, late interaction"
    for name in ("python", "sqlite", "sqlite-vec", "llama-cpp-python", "tokenizers", "threads"):
        assert facts[name]
    result = run("doctor")
    assert result.exit_code == 0
    assert result.stdout.endswith("nothing is wrong\n")


def test_doctor_sees_the_service(run, monkeypatch):
    with tempfile.TemporaryDirectory(prefix="sqe", dir="/tmp") as short:
        monkeypatch.setenv("SQLEMBED_SOCKET", f"{short}/s")
        assert f"none runs at {short}/s" in run("doctor").stdout
        place = Place(settings.socket_path())
        listener = place.take()
        assert f"process {os.getpid()} at {short}/s" in run("doctor").stdout
        listener.close()
        assert "does not answer; end it: sqlembed serve --stop" in run("doctor").stdout
        place.leave()


def test_doctor_misses_the_model(run):
    receipt.gguf_path("fake").unlink()
    result = run("doctor")
    assert result.exit_code == 1
    assert "sqlembed pull fake" in result.stdout
    (problem,) = json.loads(run("doctor", "--json").stdout)["problems"]
    assert "get it with: sqlembed pull fake" in problem


def test_doctor_sees_a_damaged_model(run):
    receipt.gguf_path("fake").write_bytes(b"GGUF" + b"ekaf")
    assert "is altered" in run("doctor").stdout


def test_doctor_sees_wrong_probes(run, monkeypatch):
    def off(*_: object) -> None:
        raise ProbeError("fake gives other results than its reference")

    monkeypatch.setattr("sqlembed.engine.library.Model", off)
    assert "wrong: fake gives other results" in run("doctor").stdout


def test_doctor_sees_a_model_that_nobody_knows(run, monkeypatch):
    monkeypatch.setenv("SQLEMBED_MODEL", "nope")
    assert "wrong: no model is called 'nope'" in run("doctor").stdout


def test_doctor_sees_a_cache_that_cannot_be_used(run, tmp_path, monkeypatch):
    monkeypatch.setenv("SQLEMBED_CACHE", str(tmp_path))
    result = run("doctor")
    assert result.exit_code == 1
    assert "wrong: the cache cannot be used" in result.stdout


def test_doctor_with_a_cache_in_memory(run, monkeypatch):
    monkeypatch.setenv("SQLEMBED_CACHE", ":memory:")
    assert json.loads(run("doctor", "--json").stdout)["cache"].startswith(":memory:, 0 entries")


@pytest.mark.model
def test_doctor_on_the_real_model(run, monkeypatch):
    # The fixture's fake model is not used: the engine is given the real class again.
    monkeypatch.setattr(library, "Model", Model)
    monkeypatch.setenv("SQLEMBED_DATA", str(REAL_DATA))
    monkeypatch.delenv("SQLEMBED_MODEL")
    facts = json.loads(run("doctor", "--json").stdout)
    assert facts["problems"] == []
    assert facts["model"] == "all-MiniLM-L6-v2, 384 dimensions, f16, hash right, probes right"


@pytest.mark.model
def test_doctor_says_who_computes_a_table_and_an_alias(run, monkeypatch):
    monkeypatch.setenv("SQLEMBED_DATA", str(REAL_DATA))
    monkeypatch.setenv("SQLEMBED_MODEL", "glove-6b-50d")
    facts = json.loads(run("doctor", "--json").stdout)
    assert facts["problems"] == []
    assert facts["computed"] == "by looking its words up in a table"
