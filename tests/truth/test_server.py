"""A model on llama.cpp's own server gives what the same weights give here."""

import json
import re
import socket
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
from click.testing import CliRunner

import sqlembed
from sqlembed.cli import main
from sqlembed.engine.cache import Cache
from sqlembed.engine.local import LocalEngine
from sqlembed.errors import ProbeError, ServerError, TextTooLongError
from sqlembed.weights import receipt

pytestmark = pytest.mark.model

PYTHON = Path(__file__).parents[2] / ".venv-servers" / "bin" / "python"
PROGRAM = Path(__file__).with_name("llama_server.py")
NAME, OTHER, JUDGE = "all-MiniLM-L6-v2", "multilingual-e5-small", "judge-nli"
KEY = "sesame-0123"
CASES = json.loads(Path(__file__).with_name(f"{NAME}.json").read_text())
MANIFEST = """
name = "{name}"
summary = "For tests"
kind = "{kind}"
dimension = {dimension}
context = {context}
licence = "none"
homepage = "none"

[server]
url = "http://127.0.0.1:{port}/v1"
model = "minilm"
key_variable = "LLAMA_KEY"
batch = 8
patience = 20
{keys}
"""
OTHER_TOKENS = re.compile(r"[가-힣\u0900-\u097f]|\w{101}")
"""Where llama.cpp's own WordPiece gives other ids (ARCHITECTURE.md, "Decisions")."""
SMS = (
    "Dinner at ours on Friday at eight?",
    "The train to Leeds is an hour late",
    "Please buy milk and bread on the way home",
    "Shall we get a pizza after the film?",
)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


@contextmanager
def llama_server(model: str, port: int, *rank: str) -> Iterator[None]:
    """llama.cpp's server with the weights of *model*, while the block runs."""
    if not PYTHON.exists():
        pytest.skip("llama.cpp's server is not installed; `make test` does it")
    gguf = receipt.gguf_path(model)
    command = [str(PYTHON), str(PROGRAM), str(gguf), str(port), KEY, *rank]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert process.stdin and process.stdout
    try:
        assert process.stdout.readline(), "llama.cpp's server did not start"
        yield
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
def port(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """Where a server will be; the data directory is a test's own, with the real weights."""
    installed = receipt.directory()
    own = tmp_path / "data" / "models"
    own.mkdir(parents=True)
    for path in installed.iterdir():
        (own / path.name).symlink_to(path)
    monkeypatch.setenv("SQLEMBED_DATA", str(own.parent))
    monkeypatch.setenv("LLAMA_KEY", KEY)
    return free_port()


@pytest.fixture
def engine(port: int) -> Iterator[LocalEngine]:
    made = LocalEngine(Cache(":memory:", 1 << 24))
    yield made
    made.close()


def install(name: str, port: int, keys: str = "", **top: object) -> None:
    """Write a manifest, and have ``sqlembed probe`` complete it."""
    values = {"kind": "embedder", "dimension": 384, "context": 256, **top}
    path = receipt.directory() / f"{name}.toml"
    path.write_text(MANIFEST.format(name=name, port=port, keys=keys, **values))
    ran = CliRunner().invoke(main, ["probe", name], catch_exceptions=False)
    assert ran.exit_code == 0, ran.output
    with path.open("a") as file:
        file.write(ran.output)


def embed(engine: LocalEngine, texts: list[str], model: str) -> np.ndarray:
    blobs = engine.embed(texts, model, "document")
    return np.array([np.frombuffer(blob, "<f4") for blob in blobs])


def test_vectors_are_those_of_the_same_weights_here(engine: LocalEngine, port: int) -> None:
    texts = [case["text"] for case in CASES if case["text"].strip()]
    with llama_server(NAME, port):
        install("far", port, f'tokenizer = "{NAME}"')
        far = embed(engine, texts, "far")
        assert engine.token_count(texts, "far") == engine.token_count(texts, NAME)
    cosines = (far * embed(engine, texts, NAME)).sum(axis=1)
    other = [text for text, cosine in zip(texts, cosines, strict=True) if cosine < 0.999]
    assert len(texts) - len(other) > 20
    assert all(OTHER_TOKENS.search(text) for text in other)


def test_an_index_answers_as_one_of_the_same_weights(
    engine: LocalEngine, port: int, tmp_path: Path
) -> None:
    db = sqlembed.connect(str(tmp_path / "app.db"), engine=engine)
    db.execute("CREATE TABLE sms(id INTEGER PRIMARY KEY, body TEXT)")
    db.executemany("INSERT INTO sms(body) VALUES (?)", [(body,) for body in SMS])
    with llama_server(NAME, port):
        install("far", port)
        for name in ("far", NAME):
            options = json.dumps({"model": name, "name": f"of {name}"})
            db.execute("SELECT sqlembed_index('sms', 'body', ?)", (options,))
        found = [
            db.execute(
                "SELECT id, distance FROM knn(?, 'evening meal', 4)", (f"of {name}",)
            ).fetchall()
            for name in ("far", NAME)
        ]
    assert [id for id, _ in found[0]] == [id for id, _ in found[1]]
    assert [d for _, d in found[0]] == pytest.approx([d for _, d in found[1]], abs=0.01)
    # What is known needs no server.
    again = db.execute("SELECT id, distance FROM knn('of far', 'evening meal', 4)").fetchall()
    assert again == found[0]
    db.close()


def test_a_text_too_long_for_the_server_is_told_in_its_numbers(
    engine: LocalEngine, port: int
) -> None:
    with llama_server(NAME, port):
        install("far", port, f'tokenizer = "{NAME}"')
        path = receipt.directory() / "far.toml"
        path.write_text(path.read_text().replace("context = 256", "context = 5000"))
        with pytest.raises(TextTooLongError, match=r"input \(2002 tokens\) is too large"):
            embed(engine, ["fine", "hello " * 2000], "far")
        assert embed(engine, ["fine"], "far").shape == (1, 384)


def test_a_wrong_key_is_told(
    engine: LocalEngine, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with llama_server(NAME, port):
        install("far", port)
        monkeypatch.setenv("LLAMA_KEY", "wrong-9876")
        with pytest.raises(ServerError, match="answered 401 Unauthorized: Invalid API Key") as told:
            embed(engine, ["x"], "far")
    assert "wrong-9876" not in str(told.value)


def test_a_server_that_restarts_is_waited_for_and_another_model_there_is_noticed(
    engine: LocalEngine, port: int
) -> None:
    with llama_server(NAME, port):
        install("far", port)
        first = embed(engine, ["before"], "far")
    found: list[np.ndarray] = []
    thread = Thread(target=lambda: found.append(embed(engine, ["meanwhile"], "far")))
    thread.start()  # nobody is there yet
    with llama_server(NAME, port):
        thread.join(30)
    (meanwhile,) = found
    assert float(meanwhile[0] @ embed(engine, ["meanwhile"], NAME)[0]) >= 0.999
    with llama_server(OTHER, port), pytest.raises(ProbeError, match="nothing of it is used"):
        embed(engine, ["after"], "far")
    assert np.array_equal(embed(engine, ["before"], "far"), first)


@pytest.mark.parametrize("form", ["documents", "texts"])
def test_a_rerankers_scores_are_the_servers(engine: LocalEngine, port: int, form: str) -> None:
    query = "how do I restart the router"
    texts = ["Hold its power button.", "The recipe needs two eggs.", "Routers, in short, route."]
    with llama_server(JUDGE, port, "rank"):
        install("far-judge", port, f'documents = "{form}"', kind="reranker", dimension=1)
        scores = engine.rerank(query, texts, "far-judge")
        asked = urllib.request.Request(
            f"http://127.0.0.1:{port}/v1/rerank",
            json.dumps({"query": query, "documents": texts}).encode(),
            {"Authorization": f"Bearer {KEY}"},
        )
        with urllib.request.urlopen(asked) as answer:
            told = {row["index"]: row["relevance_score"] for row in json.load(answer)["results"]}
    assert len(set(told.values())) == 3
    assert scores == pytest.approx([told[n] for n in range(3)], abs=1e-4)
