"""``sqlembed doctor --tune`` measures both arithmetics, and what was fastest is used from then on."""

import json
from pathlib import Path

import pytest

from sqlembed import settings
from sqlembed.engine import calibration, computing
from sqlembed.engine.calibration import Speed
from sqlembed.engine.computing import Way

MODEL = "all-MiniLM-L6-v2"
REAL_DATA = settings.data_directory()


@pytest.fixture
def installed(run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data directory of its own with the default model."""
    models = tmp_path / "own" / "models"
    models.mkdir(parents=True)
    for suffix in ("gguf", "json"):
        (models / f"{MODEL}.{suffix}").symlink_to(REAL_DATA / "models" / f"{MODEL}.{suffix}")
    monkeypatch.setenv("SQLEMBED_DATA", str(models.parent))
    monkeypatch.setenv("SQLEMBED_MODEL", MODEL)
    return models.parent


@pytest.mark.model
def test_what_is_fastest_is_kept(run, installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "TEXTS", 8)
    monkeypatch.setattr(calibration, "ROUNDS", 1)
    assert computing.way(MODEL) == Way()
    rows = json.loads(run("doctor", "--tune", "--json").stdout)
    ways = {(row["arithmetic"], row["batch_tokens"]) for row in rows}
    assert ways >= {("llama.cpp", 128), ("llama.cpp", 256), ("llama.cpp", 512)}
    (kept,) = [row for row in rows if row["kept"]]
    assert computing.way(MODEL) == Way(kept["arithmetic"], kept["batch_tokens"])


@pytest.mark.model
def test_what_was_kept_is_used_until_something_changes(
    run, installed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    computing.keep(MODEL, Way("llama.cpp", 512))
    said = json.loads(run("doctor", "--json").stdout)["computed"]
    assert said == "by llama.cpp, 512 tokens a batch, as that was chosen"
    monkeypatch.setenv("SQLEMBED_ARITHMETIC", "own")
    assert computing.way(MODEL) == Way("own", 512)
    monkeypatch.delenv("SQLEMBED_ARITHMETIC")
    assert computing.way(MODEL) == Way("llama.cpp", 512)
    monkeypatch.setattr(settings, "threads", lambda: 99)
    assert computing.way(MODEL) == Way()


@pytest.mark.model
@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"all-MiniLM-L6-v2": {"for": 1}}', '{"all-MiniLM-L6-v2": 3}']
)
def test_a_damaged_file_is_as_none(installed: Path, text: str) -> None:
    (installed / "computing.json").write_text(text)
    assert computing.way(MODEL) == Way()
    computing.keep(MODEL, Way("own", 128))
    assert computing.way(MODEL) == Way("own", 128)


def test_noise_changes_nothing() -> None:
    usual, other = Way("own", 256), Way("llama.cpp", 128)
    assert calibration.best([Speed(other, 102), Speed(usual, 100)]) == usual
    assert calibration.best([Speed(other, 104), Speed(usual, 100)]) == other
    without = [Speed(Way("llama.cpp", tokens), speed) for tokens, speed in ((128, 101), (256, 100))]
    assert calibration.best(without) == Way("llama.cpp", 256)


def test_nothing_installed_is_said(run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SQLEMBED_DATA", str(tmp_path / "none"))
    assert run.failure("doctor", "--tune").startswith("no model is installed")
