"""A backlog of SMS, from an ordinary table to answers: sqlembed against what else there is."""

import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import peers
import report
import texts
from packed import Loop
from report import Line, Table
from rounds import Measured, in_turn, ratio, seconds

import sqlembed
from sqlembed import settings
from sqlembed.engine.cache import Cache
from sqlembed.engine.local import LocalEngine

TABLE = "CREATE TABLE sms(id INTEGER PRIMARY KEY, body TEXT)"
INSERT = "INSERT INTO sms(body) VALUES (?)"
INDEX = "SELECT sqlembed_index('sms', 'body')"
KNN = "SELECT id FROM knn('sms', 'shall we eat together tonight?', 5)"
STORED = "SELECT vector FROM sqlembed_chunk_1 ORDER BY key"

SAME = 0.999
"""The cosine that shows that a side computed the same vectors as we."""

SQLEMBED = "sqlembed, table to knn()"
PACKED = "llama.cpp, packed 256 tokens, one context"
PACKED_TWO = "llama.cpp, packed 256 tokens, a context a core"
ONE_BY_ONE = "llama.cpp, one text a call"
SENTENCES = "sentence-transformers, torch fp32, batch 32"
ONNX = "onnxruntime fp32, fused graph, batch 8"
LEMBED = "sqlite-lembed 0.0.1a8, as it comes"
AI = "sqlite-ai 1.0.8, as it comes"

Vectors = npt.NDArray[np.float32]


def measure(quick: bool) -> list[Table]:
    """Rows a second of every side."""
    rows, single, few, rounds = (96, 32, 2, 2) if quick else (2048, 256, 8, 5)
    gguf, chosen = texts.model(), texts.messages()[:rows]
    peers.prepare()
    cores = settings.threads()
    notes = [
        f"{rows:,} different SMS in an ordinary table of a file; {rounds} rounds. sqlembed: one"
        " sqlembed_index() with an empty cache, until knn() answers; the others give vectors"
        " only, and store nothing. Models are loaded before."
    ]
    with tempfile.TemporaryDirectory() as work:
        sentences = peers.Encoder("sentence-transformers", chosen, Path(work))
        onnx = peers.Encoder("onnxruntime", chosen, Path(work))
        one, each = Loop(gguf, 1, cores), Loop(gguf, cores, 1)
        plain = Loop(gguf, 1, cores, texts=1)
        _, stored = backlog(chosen)  # a round to warm up
        tell_same(PACKED, one.embed(chosen[:few]), stored)
        tell_same(PACKED_TWO, each.embed(chosen[:few]), stored)
        tell_same(SENTENCES, sentences.vectors(), stored)
        tell_same(ONNX, onnx.vectors(), stored)
        sides: dict[str, Callable[[], float]] = {
            SQLEMBED: lambda: rows / backlog(chosen)[0],
            PACKED: lambda: rows / seconds(partial(one.embed, chosen)),
            PACKED_TWO: lambda: rows / seconds(partial(each.embed, chosen)),
            SENTENCES: lambda: rows / sentences.seconds(),
            ONNX: lambda: rows / onnx.seconds(),
            ONE_BY_ONE: lambda: single / seconds(partial(plain.embed, chosen[:single])),
        }
        details = {ONE_BY_ONE: f"{single} rows"}
        if peers.has_shell():
            for name, script in ((LEMBED, peers.LEMBED), (AI, peers.AI)):
                sides[name] = partial(in_shell, name, script, gguf, chosen[:few], stored)
                details[name] = f"{few} rows, in the sqlite3 shell"
        else:
            notes.append(peers.NO_SHELL)
        measured = in_turn(sides, rounds)
        sentences.close()
        onnx.close()
    return [table(measured, details, notes)]


def backlog(chosen: Sequence[str]) -> tuple[float, Vectors]:
    """Index a table of *chosen* in SQL; seconds until knn() answers, and the vectors stored."""
    with tempfile.TemporaryDirectory() as work:
        engine = LocalEngine(Cache(f"{work}/cache.db", settings.cache_bytes()))
        db = sqlembed.connect(f"{work}/app.db", engine=engine)
        db.execute(TABLE)
        with db:
            db.executemany(INSERT, ((text,) for text in chosen))
        db.execute("SELECT sqlembed_load(?)", (settings.default_model(),))
        taken = seconds(lambda: (db.execute(INDEX).fetchall(), db.execute(KNN).fetchall()))
        stored = np.array([np.frombuffer(row[0], "<f4") for row in db.execute(STORED)])
        db.close()
        engine.close()
    return taken, stored


def in_shell(
    name: str, script: str, gguf: Path, chosen: Sequence[str], reference: Vectors
) -> float:
    """A peer's rows a second in the ``sqlite3`` shell."""
    taken, vectors = peers.in_shell(script, gguf, chosen)
    tell_same(name, vectors, reference)
    return len(chosen) / taken


def tell_same(name: str, vectors: Vectors, reference: Vectors) -> None:
    """Make sure that a side computed what we did."""
    cosine = float((vectors * reference[: len(vectors)]).sum(axis=1).min())
    if cosine < SAME:
        raise ValueError(f"{name} gives other vectors than sqlembed: cosine {cosine:.4f}")


def table(measured: Measured, details: dict[str, str], notes: list[str]) -> Table:
    """The table, the reference being the better of the packed loops."""
    ours = measured[SQLEMBED]
    goals = {SENTENCES: "1, then 1.5", LEMBED: "100", AI: "100"}
    best = min((PACKED, PACKED_TWO), key=lambda name: ratio(ours, measured[name]))
    goals[best] = "0.9, then 0.95"
    lines = [
        Line.of(
            name,
            values,
            None if name == SQLEMBED else ratio(ours, values),
            goals.get(name, ""),
            details.get(name, ""),
        )
        for name, values in measured.items()
    ]
    return Table("Indexing a backlog", "rows/s", "sqlembed is ... times", lines, notes)


if __name__ == "__main__":
    report.main(measure)
