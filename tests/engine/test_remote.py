"""A model on a server: what it gives, what goes wrong there, and that nothing wrong comes back."""

import gzip
import json
import re
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from threading import Barrier, Event
from typing import Any

import numpy as np
import pytest
from harness import word_vector
from stand_in import DIMENSION, PROBE, Fault, Handler, StandIn, install_remote, standing_in

from sqlembed.engine import endpoint
from sqlembed.engine.local import LocalEngine
from sqlembed.engine.probing import taken
from sqlembed.errors import (
    InputError,
    ModelError,
    ProbeError,
    ServerError,
    TextTooLongError,
    VectorError,
)
from sqlembed.weights import manifest, receipt
from sqlembed.weights.manifest import parse

KEY = "sesame-0123"


@pytest.fixture
def server(fake_data: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    """A stand-in with a model ``far``; pauses are short."""
    monkeypatch.setattr(endpoint, "FIRST_PAUSE", 0.001)
    with standing_in() as made:
        install_remote("far", made.url)
        yield made


def embed(engine: LocalEngine, *texts: str, model: str = "far") -> np.ndarray:
    blobs = engine.embed(texts, model, "document")
    return np.array([np.frombuffer(blob, "<f4") for blob in blobs])


def expected(*texts: str, model: str = "one") -> np.ndarray:
    return np.array([word_vector(model, text, DIMENSION) for text in texts])


def loaded(engine: LocalEngine, server: StandIn, *faults: Fault) -> None:
    """Load the model, and have the next requests end with *faults*."""
    engine.load("far")
    server.asked.clear()
    server.faults.extend(faults)


def test_vectors_are_the_servers_in_the_order_of_the_texts(
    engine: LocalEngine, server: StandIn
) -> None:
    texts = [f"text {n}" * (n % 5 + 1) for n in range(100)]
    assert np.allclose(embed(engine, *texts), expected(*texts), atol=1e-6)
    assert sorted(server.texts) == sorted(texts)
    path, _, body = server.asked[-1]
    assert path == "/v1/embeddings"
    assert body["model"] == "at the server" and body["encoding_format"] == "float"
    assert max(len(body["input"]) for _, _, body in server.asked) <= 32


def test_what_was_asked_once_is_remembered_without_the_server(
    engine: LocalEngine, server: StandIn
) -> None:
    first = embed(engine, "once", "once")
    engine.unload("far")
    server.asked.clear()
    assert np.array_equal(embed(engine, "once", "once"), first)
    assert server.asked == []


def test_prompts_are_ours(engine: LocalEngine, server: StandIn) -> None:
    path = install_remote("far", server.url)
    with path.open("a") as file:
        file.write('[prompts]\nquery = "find: "\n')
    engine.embed(["x"], "far", "query")
    assert server.texts[-1] == "find: x"
    assert engine.token_count(["x"], "far") == [5]  # a byte, and 4 that the model may add


def test_the_first_numbers_are_taken_where_the_manifest_says_so(
    engine: LocalEngine, server: StandIn
) -> None:
    install_remote("far", server.url, "width = 64", dimension=16)
    half = expected("short")[:, :16]
    assert np.allclose(embed(engine, "short"), half / np.linalg.norm(half), atol=1e-6)


# What goes wrong once, and is tried again.


def answers(status: int, **headers: str) -> Fault:
    """Refuse with *status*; underscores in the names of headers stand for dashes."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda handler, _: handler.refuse(status, "come back later", named)


def cuts(handler: Handler, body: Any) -> None:
    handler.cut()


def halves(handler: Handler, body: Any) -> None:
    """Promise more than is sent."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"data": [')
    handler.cut()


@pytest.mark.parametrize(
    "fault", [*map(answers, (408, 429, 502, 503, 504)), cuts, halves], ids=lambda f: f.__name__
)
def test_what_may_pass_is_tried_again(engine: LocalEngine, server: StandIn, fault: Fault) -> None:
    loaded(engine, server, fault, fault)
    assert np.allclose(embed(engine, "x"), expected("x"), atol=1e-6)
    assert len(server.asked) == 3


def test_a_server_that_restarts_is_waited_for(
    engine: LocalEngine, server: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.load("far")
    pauses: list[float] = []

    def pause(self: endpoint.Endpoint, seconds: float) -> bool:
        pauses.append(seconds)
        if len(pauses) == 2:
            server.faults.clear()
        return False

    monkeypatch.setattr(endpoint.Endpoint, "_pause", pause)
    server.faults.extend([cuts] * 50)
    assert np.allclose(embed(engine, "x"), expected("x"), atol=1e-6)
    assert len(pauses) == 2


def test_pauses_grow_and_differ(
    engine: LocalEngine, server: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded(engine, server, *[answers(503)] * 10)
    pauses: list[float] = []
    monkeypatch.setattr(endpoint, "FIRST_PAUSE", 0.25)
    monkeypatch.setattr(endpoint.Endpoint, "_pause", lambda self, s: bool(pauses.append(s)))
    embed(engine, "x")
    for pause, most in zip(pauses, (0.25, 0.5, 1, 2, 4, 8, 8, 8, 8, 8), strict=True):
        assert most / 2 <= pause <= most


@pytest.mark.parametrize("as_date", [False, True])
def test_retry_after_is_honoured(
    engine: LocalEngine, server: StandIn, monkeypatch: pytest.MonkeyPatch, as_date: bool
) -> None:
    when = format_datetime(datetime.now(UTC) + timedelta(seconds=20), usegmt=True)
    loaded(engine, server, answers(429, Retry_After=when if as_date else "20"))
    pauses: list[float] = []
    monkeypatch.setattr(endpoint.Endpoint, "_pause", lambda self, s: bool(pauses.append(s)))
    embed(engine, "x")
    assert len(pauses) == 1 and 15 < pauses[0] <= 20


def test_tries_are_bounded_in_time(engine: LocalEngine, server: StandIn) -> None:
    loaded(engine, server, answers(429, Retry_After="3600"))
    with pytest.raises(ServerError) as caught:
        embed(engine, "x")
    assert re.match(
        f"far: {server.url}/embeddings answered 429 Too Many Requests: come back later"
        r" \(it said: again in 3600 seconds\); tried 1 times in 0\.\d seconds, and patience is 30\.",
        str(caught.value),
    )


def test_a_server_that_is_not_there_is_told_by_its_url(
    engine: LocalEngine, server: StandIn
) -> None:
    install_remote("gone", "http://127.0.0.1:9/v1", "patience = 0")
    with pytest.raises(ServerError, match=r"gone: http://127\.0\.0\.1:9/v1/embeddings cannot be"):
        embed(engine, "x", model="gone")


def test_a_server_that_does_not_answer_in_time(engine: LocalEngine, server: StandIn) -> None:
    install_remote("slow", server.url, "timeout = 0.2\npatience = 0")
    release = Event()
    server.faults.append(lambda handler, body: (release.wait(20), handler.cut())[1])
    with pytest.raises(ServerError, match=r"within 0\.2 seconds; tried 1 times"):
        embed(engine, "x", model="slow")
    release.set()


def test_an_answer_that_comes_drop_by_drop_is_not_waited_for(
    engine: LocalEngine, server: StandIn
) -> None:
    install_remote("slow", server.url, "timeout = 0.3\npatience = 0")
    release = Event()

    def drips(handler: Handler, body: Any) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "100000")
        handler.end_headers()
        while not release.wait(0.05):
            handler.wfile.write(b" ")

    server.faults.append(drips)
    with pytest.raises(ServerError, match=r"did not answer within 0\.3 seconds"):
        embed(engine, "x", model="slow")
    release.set()


# What is an error at once.


@pytest.mark.parametrize(
    ("status", "kind", "words"),
    [
        (401, ServerError, "answered 401 Unauthorized: no; the key is taken from key_variable"),
        (403, ServerError, "403 Forbidden"),
        (404, ServerError, "404 Not Found: no; url in the manifest ends before /embeddings"),
        (501, ServerError, "501 Not Implemented: no"),
        (400, ModelError, "400 Bad Request: no"),
        (422, ModelError, "422 "),
        (500, ModelError, "500 Internal Server Error: no"),
    ],
)
def test_a_refusal_is_told_in_the_servers_words(
    engine: LocalEngine, server: StandIn, status: int, kind: type[Exception], words: str
) -> None:
    loaded(engine, server, lambda handler, _: handler.refuse(status, "no"))
    with pytest.raises(kind) as caught:
        embed(engine, "x")
    assert words in str(caught.value) and server.url in str(caught.value)
    assert isinstance(caught.value, ServerError) == (kind is ServerError)
    assert len(server.asked) == 1


def test_a_redirect_is_not_followed(engine: LocalEngine, server: StandIn) -> None:
    sent = {"Location": "http://127.0.0.1:1/elsewhere"}
    loaded(engine, server, lambda handler, _: handler.raw(b"", 307, sent))
    with pytest.raises(ServerError, match=r"answered 307 .* correct url"):
        embed(engine, "x")


def entries(count: int, width: int = DIMENSION) -> list[dict[str, Any]]:
    probe = word_vector("one", PROBE, DIMENSION).tolist()
    return [{"index": n, "embedding": (probe * 2)[:width]} for n in range(count)]


def data(change: Callable[[list[dict[str, Any]]], Any]) -> Fault:
    """Answer with entries, which *change* has changed."""

    def fault(handler: Handler, body: dict[str, Any]) -> None:
        made = entries(len(body["input"]))
        changed = change(made)
        handler.raw(json.dumps({"data": made if changed is None else changed}).encode())

    return fault


NUMBERS = {"embedding": [0.5] * DIMENSION}


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (data(lambda rows: rows[:1]), "answered 1 results for 2 texts"),
        (data(lambda rows: [*rows, *rows]), "answered 4 results for 2 texts"),
        (data(lambda rows: [NUMBERS, NUMBERS]), "which is whose is not known"),
        (data(lambda rows: [rows[0], rows[0]]), "which is whose is not known"),
        (data(lambda rows: entries(2, 128)), r"shape \(128,\), and \(64,\) was expected"),
        (data(lambda rows: entries(2, 1)), r"shape \(1,\)"),
        (data(lambda rows: rows[1].update(embedding=[[1.0] * 64])), "no list of numbers"),
        (data(lambda rows: rows[1].update(embedding=["a"] * 64)), "no list of numbers"),
        (data(lambda rows: rows[1].update(embedding=[None] * 64)), "no list of numbers"),
        (data(lambda rows: rows[1].update(embedding="?")), "no base64"),
        (data(lambda rows: rows[1].pop("embedding") and None), "no list of numbers"),
        (data(lambda rows: {"a": 1}), "no list of objects in data"),
        (lambda h, _: h.json([1, 2]), "no list of objects in data"),
        (lambda h, _: h.raw(b"<html>hello"), "answered what is no JSON: '<html>hello'"),
        (lambda h, _: h.raw(b"\xff\xfe"), "no JSON"),
        (lambda h, _: h.raw(b"["*100_000), "no JSON"),
        (lambda h, _: h.raw(b""), "no JSON"),
        (lambda h, _: h.raw(b" " * (1 << 21)), "bytes, which no right answer has"),
        (
            lambda h, _: h.raw(gzip.compress(b" " * (1 << 27)), headers={"Content-Encoding": "gzip"}),
            "bytes, which no right answer has",
        ),
    ],
)  # fmt: skip
def test_nonsense_is_an_error_and_no_vector(
    engine: LocalEngine, server: StandIn, fault: Fault, words: str
) -> None:
    loaded(engine, server, fault)
    with pytest.raises(ServerError, match=words):
        embed(engine, "x")
    assert len(server.asked) == 1
    assert engine.recall(["x"], "far", "document") == {}


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999", "1e39"])
def test_a_vector_of_no_numbers_is_an_error(
    engine: LocalEngine, server: StandIn, number: str
) -> None:
    def fault(handler: Handler, body: dict[str, Any]) -> None:
        rows = entries(2)
        rows[1]["embedding"] = [0.25] * (DIMENSION - 1) + [12345.5]
        handler.raw(json.dumps({"data": rows}).replace("12345.5", number).encode())

    loaded(engine, server, fault)
    with pytest.raises(VectorError, match="zeros, NaN or infinity"):
        embed(engine, "x")


def test_a_vector_of_zeros_is_an_error(engine: LocalEngine, server: StandIn) -> None:
    loaded(engine, server, data(lambda rows: rows[1].update(embedding=[0] * DIMENSION)))
    with pytest.raises(VectorError, match="zeros, NaN or infinity"):
        embed(engine, "x")


def test_base64_is_read_too(engine: LocalEngine, server: StandIn) -> None:
    def fault(handler: Handler, body: dict[str, Any]) -> None:
        rows = [word_vector("one", text, DIMENSION).astype("<f4") for text in body["input"]]
        coded = [b64encode(row.tobytes()).decode() for row in rows]
        handler.json({"data": [{"index": n, "embedding": row} for n, row in enumerate(coded)]})

    loaded(engine, server, fault)
    assert np.allclose(embed(engine, "x"), expected("x"), atol=1e-6)


# Too much.


def test_a_batch_that_is_too_large_is_halved(engine: LocalEngine, server: StandIn) -> None:
    server.most_texts = 5
    texts = [f"text {n}" for n in range(31)]
    assert np.allclose(embed(engine, *texts), expected(*texts), atol=1e-6)


def test_a_text_that_is_too_long_for_the_server_names_both_numbers(
    engine: LocalEngine, server: StandIn
) -> None:
    server.most_words = 10
    texts = ["short", "a " * 20]
    with pytest.raises(TextTooLongError) as caught:
        embed(engine, *texts)
    words = str(caught.value)
    assert "must have less than 10 tokens. Given: 20" in words
    assert "a text of 40 characters" in words and "far reads 64 tokens" in words


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (500, "input (2002 tokens) is too large to process. increase the physical batch size"),
        (400, "the request exceeds the available context size, try increasing it"),
        (400, "This model's maximum context length is 512 tokens. However, you requested 600"),
        (422, "Input validation error: `inputs` must have less than 512 tokens. Given: 600"),
        (413, "<html>Request Entity Too Large"),
    ],
)
def test_what_servers_say_of_a_text_that_is_too_long_is_understood(
    engine: LocalEngine, server: StandIn, status: int, said: str
) -> None:
    loaded(engine, server, lambda handler, _: handler.refuse(status, said))
    with pytest.raises(TextTooLongError, match="too long for the server"):
        embed(engine, "x")


def test_a_text_longer_than_the_manifest_says_is_not_sent(
    engine: LocalEngine, server: StandIn
) -> None:
    loaded(engine, server)
    with pytest.raises(TextTooLongError, match="has 104 bytes, which are counted for tokens"):
        embed(engine, "x" * 100)
    assert server.asked == []
    parts = engine.chunk(["word " * 40], "far")[0]
    assert len(parts) > 1 and all(len(part.text) <= 60 for part in parts)
    assert embed(engine, *[part.text for part in parts]).shape == (len(parts), DIMENSION)


# Another model.


def test_a_model_without_a_probe_is_not_used(engine: LocalEngine, server: StandIn) -> None:
    path = install_remote("far", server.url)
    path.write_text(path.read_text().partition("[[probe]]")[0])
    with pytest.raises(ProbeError, match=r"has no probe.*sqlembed probe far"):
        embed(engine, "x")
    assert server.asked == []


def test_another_model_at_the_server_is_noticed_at_load(
    engine: LocalEngine, server: StandIn
) -> None:
    server.model = "another"
    with pytest.raises(ProbeError, match=r"far gives other results .* at http://127\.0\.0\.1"):
        embed(engine, "x")
    assert engine.library.loaded() == []


def test_another_model_at_the_server_is_noticed_by_the_next_request(
    engine: LocalEngine, server: StandIn
) -> None:
    loaded(engine, server)
    embed(engine, "x")
    server.model = "another"
    with pytest.raises(ProbeError, match="nothing of it is used"):
        embed(engine, "y")
    assert engine.recall(["y"], "far", "document") == {}


def test_the_space_is_of_the_model_the_prompts_and_the_probes(
    engine: LocalEngine, server: StandIn
) -> None:
    def space(keys: str = "", edit: Callable[[str], str] = str, **top: Any) -> str:
        path = install_remote("far", server.url, keys, **top)
        path.write_text(edit(path.read_text()))
        engine.library._spaces.clear()
        engine.library._manifests.clear()
        return engine.space("far").fingerprint

    first = space()
    assert first == space("batch = 8\nconcurrency = 2\ntimeout = 3")
    assert first == space(edit=lambda text: text.replace("127.0.0.1", "localhost"))
    changes = (
        space(edit=lambda text: text.replace("at the server", "another")),
        space(edit=lambda text: text + '[prompts]\nquery = "q"\n'),
        space(edit=lambda text: text.replace(PROBE, "hello")),
        space(context=128),
        space("width = 64", dimension=16),
    )
    assert len({first, *changes}) == 6
    assert server.asked == []


def test_probes_are_taken_from_the_server(engine: LocalEngine, server: StandIn) -> None:
    path = install_remote("far", server.url, context=200)
    path.write_text(path.read_text().partition("[[probe]]")[0] + taken(manifest.find("far")))
    found = manifest.find("far")
    assert len(found.probes) == 3
    assert np.allclose(embed(engine, "x"), expected("x"), atol=1e-6)


def test_a_server_that_cuts_texts_without_a_word_gives_no_probes(
    engine: LocalEngine, server: StandIn
) -> None:
    right = Handler.embeddings

    def cutting(handler: Handler, texts: list[str]) -> None:
        right(handler, [" ".join(text.split()[:10]) for text in texts])

    install_remote("far", server.url, context=400)
    server.faults.extend([lambda h, body: cutting(h, body["input"])] * 9)
    with pytest.raises(ModelError, match="does not read the 400 tokens"):
        taken(manifest.find("far"))


# Keys.


def test_the_key_is_sent_and_never_told(
    engine: LocalEngine, server: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_remote("far", server.url, 'key_variable = "FAR_KEY"')
    with pytest.raises(ServerError, match="FAR_KEY, which is not set"):
        embed(engine, "x")
    monkeypatch.setenv("FAR_KEY", KEY)
    embed(engine, "x")
    assert server.asked[-1][1]["Authorization"] == f"Bearer {KEY}"
    server.faults.append(lambda handler, _: handler.refuse(401, f"your key {KEY} is wrong"))
    with pytest.raises(ServerError) as caught:
        embed(engine, "y")
    assert KEY not in str(caught.value) and "your key *** is wrong" in str(caught.value)


# Many at once.


def test_no_more_requests_at_once_than_the_manifest_says(
    engine: LocalEngine, server: StandIn
) -> None:
    install_remote("far", server.url, "concurrency = 3\nbatch = 4")
    engine.load("far")
    server.barrier = Barrier(3)  # three have to be there together
    texts = [f"text {n}" for n in range(45)]
    with ThreadPoolExecutor(5) as pool:
        found = list(pool.map(lambda n: embed(engine, *texts[n::5]), range(5)))
    for n, rows in enumerate(found):
        assert np.allclose(rows, expected(*texts[n::5]), atol=1e-6)
    assert server.most_running == 3


def test_a_question_goes_before_a_backlog(engine: LocalEngine, server: StandIn) -> None:
    install_remote("far", server.url, "concurrency = 1\nbatch = 2")
    gate = Event()

    def waits(handler: Handler, body: dict[str, Any]) -> None:
        gate.wait(20)
        handler.right(body)

    loaded(engine, server, waits)
    with ThreadPoolExecutor(2) as pool:
        backlog = pool.submit(embed, engine, *[f"row {n}" for n in range(5)])
        wait_until(lambda: len(server.asked) == 1)
        question = pool.submit(embed, engine, "question")
        wait_until(lambda: engine.queues()["far", "urgent"] == 1)
        gate.set()
        assert np.allclose(question.result(20), expected("question"), atol=1e-6)
        assert backlog.result(20).shape == (5, DIMENSION)
    assert server.texts.index("question") == 1


def wait_until(ready: Callable[[], bool]) -> None:
    for _ in range(20_000):
        if ready():
            return
        time.sleep(0.001)
    raise AssertionError("it never came")


def test_an_error_is_told_to_whoever_asked_for_it(engine: LocalEngine, server: StandIn) -> None:
    install_remote("far", server.url, "concurrency = 1")
    engine.load("far")
    right = Handler.embeddings

    def picky(handler: Handler, body: dict[str, Any]) -> None:
        if "bad" in body["input"]:
            handler.refuse(400, "a bad text")
        else:
            right(handler, body["input"])

    server.faults.extend([picky] * 50)
    with ThreadPoolExecutor(8) as pool:
        good = [pool.submit(embed, engine, f"good {n}") for n in range(7)]
        with pytest.raises(ModelError, match="a bad text"):
            embed(engine, "bad")
        for n, future in enumerate(good):
            assert np.allclose(future.result(20), expected(f"good {n}"), atol=1e-6)


def test_a_model_that_is_unloaded_gives_up_its_pauses(
    engine: LocalEngine, server: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded(engine, server, answers(429, Retry_After="25"))
    paused = Event()
    pause = endpoint.Endpoint._pause

    def told(self: endpoint.Endpoint, seconds: float) -> bool:
        paused.set()
        return pause(self, seconds)

    monkeypatch.setattr(endpoint.Endpoint, "_pause", told)
    with ThreadPoolExecutor(1) as pool, engine.library.use("far") as model:
        asked = pool.submit(embed, engine, "x")
        assert paused.wait(20)
        model.close()
        with pytest.raises(ServerError, match="is being unloaded"):
            asked.result(20)


# Reranking.


@pytest.mark.parametrize("documents", ["documents", "texts"])
def test_a_reranker_gives_the_servers_scores(
    engine: LocalEngine, server: StandIn, documents: str
) -> None:
    install_remote("far-judge", server.url, f'documents = "{documents}"', "reranker", dimension=1)
    texts = ["x y", "a b c d", "a x"]
    assert engine.rerank("a b c d", texts, "far-judge") == [0, 1, 0.25]
    path, _, body = server.asked[-1]
    assert path == "/v1/rerank" and sorted(body[documents]) == sorted(texts)
    assert body.get("truncate") is (False if documents == "texts" else None)
    server.asked.clear()
    assert engine.rerank("a b c d", texts, "far-judge") == [0, 1, 0.25]
    assert server.asked == []


def test_logits_become_scores(engine: LocalEngine, server: StandIn) -> None:
    path = install_remote("far-judge", server.url, "logits = true", "reranker", dimension=1)
    path.write_text(path.read_text().replace("score = 0.5", "score = 0.62246"))
    assert engine.rerank("a", ["a", "b"], "far-judge") == pytest.approx([0.731059, 0.5])


def test_a_long_documents_best_part_counts(engine: LocalEngine, server: StandIn) -> None:
    install_remote("far-judge", server.url, "", "reranker", dimension=1, context=40)
    assert engine.rerank("a b", ["x " * 100 + "a b", "a x"], "far-judge") == [1, 0.5]
    with pytest.raises(TextTooLongError):
        engine.rerank("a " * 40, ["x"], "far-judge")


def test_a_server_is_never_chosen_by_itself(engine: LocalEngine, server: StandIn) -> None:
    path = install_remote("a-judge", server.url, "", "reranker", dimension=1)
    assert engine.reranker("fake") == "fake"
    text = path.read_text()
    path.write_text(text.replace("[server]", "recommended = true\n[server]"))
    assert engine.library._choose_reranker() == "a-judge"


def test_an_embedder_on_a_server_reranks_by_its_cosine(
    engine: LocalEngine, server: StandIn
) -> None:
    documents = ["a b", "x y", "x " * 60 + "a b"]
    scores = engine.rerank("a b", documents, "far")
    assert scores[0] == pytest.approx(1, abs=1e-6)
    assert scores[1] == pytest.approx((expected("a b") @ expected("x y")[0]).item(), abs=1e-6)
    assert scores[2] > scores[1]
    server.asked.clear()
    engine.rerank("a b", documents, "far")
    assert server.asked == []
    assert engine.rerank("a b", [], "far") == []


def test_a_reranker_gives_no_vectors(engine: LocalEngine, server: StandIn) -> None:
    install_remote("far-judge", server.url, "", "reranker", dimension=1)
    with pytest.raises(InputError, match="far-judge is a reranker"):
        embed(engine, "x", model="far-judge")


# Tokenizers.


def test_a_tokenizer_from_a_file_counts(engine: LocalEngine, server: StandIn) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "a": 1}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.save(str(receipt.directory() / "far-tokenizer.json"))
    install_remote("far", server.url, 'tokenizer = "far-tokenizer.json"')
    assert engine.token_count(["one two three"], "far") == [3]
    assert embed(engine, "word " * 64).shape == (1, DIMENSION)
    with pytest.raises(TextTooLongError, match="65 tokens, and far reads 64"):
        embed(engine, "word " * 65)


def test_a_tokenizer_that_is_not_there_is_told(engine: LocalEngine, server: StandIn) -> None:
    install_remote("far", server.url, 'tokenizer = "nowhere.json"')
    with pytest.raises(ModelError, match=r"nowhere\.json is no tokenizer\.json"):
        embed(engine, "x")


# Manifests.

MINIMAL = """
name = "mine"
summary = "s"
kind = "embedder"
dimension = 4
context = 8
licence = "MIT"
homepage = "none"
[server]
url = "http://127.0.0.1:1/v1"
model = "m"
"""


def test_a_minimal_manifest() -> None:
    found = parse(MINIMAL, "mine.toml")
    assert found.server is not None and found.server.batch == 32
    assert (found.pooling, found.recommended) == ("server", False)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('model = "m"', "", "model"),
        ('model = "m"', 'model = "m"\ncolour = 1', "colour'; its keys are url, model"),
        ('model = "m"', 'model = "m"\nbatch = 1', "batch is a number from 2; got 1"),
        ('model = "m"', 'model = "m"\ntimeout = nan', "timeout is a number from 0.1; got nan"),
        ('model = "m"', 'model = "m"\nconcurrency = true', "concurrency is a number"),
        ('model = "m"', 'model = "m"\nwidth = 4', "width is more than dimension, 4; got 4"),
        ('model = "m"', 'model = "m"\ndocuments = "docs"', 'documents is "documents" or "texts"'),
        ('model = "m"', 'model = "m"\npatience = inf', "patience is a number from 0; got inf"),
        ("http://127.0.0.1:1/v1", "ftp://a/v1", "url is http://HOST/PATH"),
        ("http://127.0.0.1:1/v1", "http://a:99999/v1", "url is http://HOST/PATH"),
        ("http://127.0.0.1:1/v1", "http://[a/v1", "url is http://HOST/PATH"),
        ('"http://127.0.0.1:1/v1"', "5", "url is http://HOST/PATH"),
        ("http://127.0.0.1:1/v1", "http://me:secret@a/v1", "environment variable"),
        ("http://127.0.0.1:1/v1", "http://a/v1?key=secret", "environment variable"),
        ("context = 8", 'context = 8\npooling = "mean"', "pooling is of weights"),
    ],
)
def test_a_wrong_manifest_says_what_is_wrong(old: str, new: str, words: str) -> None:
    with pytest.raises(ModelError, match=words) as caught:
        parse(MINIMAL.replace(old, new), "mine.toml")
    assert "secret" not in str(caught.value)


def test_who_asks_no_server_does_not_import_what_asks() -> None:
    program = "import sys, sqlembed.cli, sqlembed.engine.local; print('httpx2' in sys.modules)"
    run = [sys.executable, "-c", program]
    assert subprocess.run(run, capture_output=True, text=True).stdout == "False\n"
