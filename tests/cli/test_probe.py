"""``sqlembed probe``, and what other verbs say of a model on a server."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from stand_in import StandIn, install_remote, standing_in

from sqlembed.weights.manifest import find


@pytest.fixture
def server(fake_data: Path) -> Iterator[StandIn]:
    with standing_in() as made:
        yield made


def without_probes(path: Path) -> str:
    return path.read_text().partition("[[probe]]")[0]


def test_it_prints_what_completes_a_manifest(run, server: StandIn, app: str) -> None:
    path = install_remote("far", server.url, context=200)
    path.write_text(without_probes(path))
    path.write_text(path.read_text() + run("probe", "far").stdout)
    assert len(find("far").probes) == 3
    assert run("index", app, "sms", "body", "--model", "far").exit_code == 0
    assert "[dinner] [at] [eight]" in run("search", app, "sms", "dinner at eight").stdout


def test_prompts_have_probes_too(run, server: StandIn) -> None:
    path = install_remote("far", server.url, context=200)
    path.write_text(without_probes(path) + '[prompts]\nquery = "find: "\n')
    path.write_text(path.read_text() + run("probe", "far").stdout)
    assert [probe.role for probe in find("far").probes] == ["document"] * 3 + ["query"] * 3


def test_a_reranker_has_probes_too(run, server: StandIn) -> None:
    path = install_remote("far-judge", server.url, "", "reranker", dimension=1, context=200)
    path.write_text(without_probes(path) + run("probe", "far-judge").stdout)
    assert [probe.score for probe in find("far-judge").probes] == [0.333333, 0.0]


def test_weights_on_this_machine_are_not_probed(run) -> None:
    assert "has its weights on this machine" in run.failure("probe", "fake")


def test_there_is_nothing_to_pull(run, server: StandIn) -> None:
    install_remote("far", server.url)
    assert "has nothing to install here" in run.failure("pull", "far")


def test_the_doctor_asks_the_server(run, server: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    install_remote("far", server.url, "patience = 0")
    monkeypatch.setenv("SQLEMBED_MODEL", "far")
    facts = json.loads(run("doctor", "--json").stdout)
    assert facts["model"] == f"far, 64 dimensions, on the server {server.url}, probes right"
    assert facts["rerank"] == "far, cosine"
    assert "not on this machine" not in run("shell", ":memory:", "SELECT 1").stdout
    server.model = "another"
    (problem,) = json.loads(run("doctor", "--json").stdout)["problems"]
    assert problem.startswith("far gives other results")
