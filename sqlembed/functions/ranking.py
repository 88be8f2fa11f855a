"""SQL: how well two texts fit. ``rerank`` and ``similarity``."""

import numpy as np

from sqlembed import vectors
from sqlembed.engine.interface import Engine
from sqlembed.functions.registry import Function, Scalar, comparable, name_argument, text_argument
from sqlembed.plan import SqlValue


def rerank(
    engine: Engine, query: SqlValue, document: SqlValue, model: SqlValue = None
) -> float | None:
    """``rerank(query, document [, model])``: how well the document answers, high is better.

    With a cross-encoder its own score, 0 to 1; else late interaction on the embedder's token
    vectors and its cosine, -1 to 1. ``sqlembed_models`` shows which is in use.
    """
    if query is None or document is None:
        return None
    name = name_argument(model, "the model")
    text = text_argument(document, "rerank()'s document")
    return engine.rerank(text_argument(query, "rerank()'s query"), [text], name)[0]


def similarity(engine: Engine, a: SqlValue, b: SqlValue) -> float | None:
    """``similarity(a, b)``: the cosine of two texts or vectors, -1 to 1."""
    if a is None or b is None:
        return None
    if isinstance(a, bytes) and isinstance(b, bytes):
        comparable(engine, "similarity()", a, b)
    left, right = (_vector(engine, side, which) for side, which in ((a, "first"), (b, "second")))
    right = vectors.from_blob(vectors.to_blob(right), "similarity()'s second vector", len(left))
    return float(np.clip(vectors.unit(left) @ vectors.unit(right), -1, 1))


def _vector(
    engine: Engine, side: SqlValue, which: str
) -> "np.ndarray[tuple[int], np.dtype[np.float32]]":
    what = f"similarity()'s {which} argument"
    if not isinstance(side, bytes):
        # Both as questions: that is how models with prompts compare like with like.
        side = engine.embed([text_argument(side, what)], None, "query")[0]
    return vectors.from_blob(side, what)


FUNCTIONS: tuple[Function, ...] = (
    Scalar("rerank", rerank, 2, 3),
    Scalar("similarity", similarity, 2, 2),
)
