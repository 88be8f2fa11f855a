"""``sqlembed verify``: on real weights, on ones that are wrong, and where nobody can tell."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import tiny_two_stage
from click.testing import CliRunner, Result
from stand_in import install_remote, standing_in

from sqlembed.cli import main
from sqlembed.engine.two_stage import TwoStage
from sqlembed.engine.verifying import SAMPLES
from sqlembed.weights import receipt

NAME = "all-MiniLM-L6-v2"
SHIPPED = Path(__file__).parents[2] / "models" / f"{NAME}.toml"


def verify(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["verify", *arguments])


def verdicts(result: Result) -> dict[str, str]:
    """The verdict of each finding; of probes that of their last."""
    return {row["what"].partition(" …")[0]: row["verdict"] for row in json.loads(result.stdout)}


@pytest.fixture
def copy(damaged_copy: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The real default model in a data directory of its own; its manifest, for a test to change."""
    monkeypatch.setenv("SQLEMBED_DATA", str(damaged_copy))
    path = damaged_copy / "models" / SHIPPED.name
    path.write_text(SHIPPED.read_text(encoding="utf-8"), encoding="utf-8")
    return path


@pytest.mark.model
def test_real_weights_are_proven() -> None:
    result = verify(NAME)
    assert result.exit_code == 0
    lines = [line.split("\t") for line in result.stdout.splitlines()]
    assert lines[0] == ["what", "verdict", "figure"]
    assert {verdict for _, verdict, _ in lines[1:]} == {"proven"}
    figures = [figure for what, _, figure in lines if what.startswith("probe, document")]
    assert len(figures) == 4
    assert all(figure.startswith(("cosine 1.0000", "cosine 0.9999")) for figure in figures)


@pytest.mark.model
def test_a_rerankers_scores_are_compared() -> None:
    result = verify("judge-nli")
    assert result.exit_code == 0
    assert "score 0.9981, expected 0.9981 within 0.05" in result.stdout


@pytest.mark.model
def test_static_vectors_are_compared() -> None:
    result = verify("glove-6b-50d", "--json")
    assert result.exit_code == 0
    found = verdicts(result)
    assert found.pop("architecture") == found.pop("alone and in a batch") == "proven"
    assert next(iter(found)) == "file" and len(found) == 6 and set(found.values()) == {"proven"}


@pytest.mark.model
def test_a_generator_has_no_probes_and_says_the_same_twice() -> None:
    result = verify("SmolLM2-135M-Instruct", "--json")
    assert result.exit_code == 0
    found = verdicts(result)
    assert found["the same answer twice"] == "proven"
    assert found["what it writes"] == "not proven"


def test_a_model_of_two_stages_is_tried_behind_a_sample(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SQLEMBED_DATA", str(tmp_path))
    (tmp_path / "models").mkdir()
    tiny_two_stage.install("tiny")
    sampled, sample = [], TwoStage.sample
    monkeypatch.setattr(TwoStage, "sample", lambda *given: sampled.append(given) or sample(*given))
    result = verify("tiny", "--json")
    assert result.exit_code == 0
    assert [texts for _, texts in sampled] == [SAMPLES]
    found = verdicts(result)
    assert found["first.gguf beside it"] == found["alone and in a batch"] == "proven"
    assert found["pooling, attention, prompts and heads"] == "not proven"


@pytest.mark.model
def test_an_altered_file(copy: Path) -> None:
    with receipt.gguf_path(NAME).open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"!")
    result = verify(NAME, "--json")
    assert result.exit_code == 1
    (row,) = json.loads(result.stdout)
    assert row["verdict"] == "wrong"
    assert "is altered" in row["figure"]


@pytest.mark.model
def test_a_wrong_setting_is_seen_at_every_probe(copy: Path) -> None:
    copy.write_text(copy.read_text().replace('pooling = "mean"', 'pooling = "cls"'))
    result = verify(NAME, "--json")
    assert result.exit_code == 1
    rows = json.loads(result.stdout)
    probes = [row for row in rows if row["what"].startswith("probe")]
    assert [row["verdict"] for row in probes] == ["wrong"] * 4
    assert "at least 0.98" in probes[0]["figure"]


@pytest.mark.model
def test_weights_of_another_model(copy: Path) -> None:
    copy.write_text(copy.read_text().replace("dimension = 384", "dimension = 512"))
    result = verify(NAME, "--json")
    assert result.exit_code == 1
    assert verdicts(result)["loading"] == "wrong"


@pytest.mark.model
def test_what_nothing_tells_is_not_proven(copy: Path) -> None:
    head = copy.read_text().partition("[source]")[0]
    copy.write_text(f'{head}dimensions = [128]\nend = "[SEP]"\n')
    result = verify(NAME, "--json")
    assert result.exit_code == 0
    found = verdicts(result)
    assert found["pooling, attention, prompts and heads"] == "not proven"
    assert found["widths 128"] == "not proven"
    assert found["end token"] == "proven"


@pytest.mark.model
def test_a_prompt_that_no_probe_has(copy: Path) -> None:
    copy.write_text(copy.read_text().replace("[source]", '[prompts]\nquery = "ask: "\n\n[source]'))
    result = verify(NAME, "--json")
    assert result.exit_code == 0
    assert verdicts(result)["prompt, query"] == "not proven"


@pytest.mark.model
def test_a_width_is_verified_as_its_model(copy: Path) -> None:
    text = copy.read_text().replace('file_type = "f16"', 'file_type = "f16"\ndimensions = [128]')
    copy.write_text(text)
    assert verify(f"{NAME}:128").stdout == verify(NAME).stdout


@pytest.mark.model
def test_a_tokenizer_that_is_llama_cpps(copy: Path) -> None:
    path = receipt.gguf_path(NAME)
    path.write_bytes(
        path.read_bytes().replace(b"tokenizer.huggingface.json", b"tokenizer.huggingface.JSON")
    )
    known = receipt.read_receipt(NAME)
    receipt.write_receipt(NAME, replace(known, sha256=receipt.sha256_of(path)))
    assert asdict(known)["bytes"] == path.stat().st_size
    assert verdicts(verify(NAME, "--json"))["token ids"] == "not proven"


def test_a_model_that_is_not_here(run) -> None:
    assert "get it with: sqlembed pull all-MiniLM-L6-v2" in run.failure("verify", NAME)
    assert "no model is called 'nothing'" in run.failure("verify", "nothing")


def test_a_model_on_a_server(run, fake_data: Path) -> None:
    with standing_in() as server:
        install_remote("far", server.url)
        result = run("verify", "far", "--json")
        assert result.exit_code == 0
        found = [(row["what"].split()[0], row["verdict"]) for row in json.loads(result.stdout)]
        assert found[0] == ("file", "not proven")
        assert ("probe,", "proven") in found
        server.model = "another"
        assert run("verify", "far", "--json").exit_code == 1
