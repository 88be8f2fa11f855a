"""SQL: texts to vectors. ``embed``, ``embed_query``, ``embed_each``, ``token_count``, ``vec_mean``.

NULL in, NULL out. A vector is a BLOB of little-endian float32 at unit length, as
sqlite-vec takes it; only ``vec_mean`` gives another length.
"""

import json
import re
from collections.abc import Iterable

import numpy as np

from sqlembed import vectors
from sqlembed.engine.interface import Engine
from sqlembed.errors import InputError, VectorError
from sqlembed.functions.registry import (
    Aggregate,
    Function,
    Restriction,
    Scalar,
    Table,
    comparable,
    described,
    name_argument,
    rows_of,
    text_argument,
)
from sqlembed.plan import Plan, Row, SqlValue
from sqlembed.weights.manifest import Role

SURROGATE = re.compile("[\ud800-\udfff]")
"""What JSON can write and a text cannot hold."""


def embed(
    engine: Engine, text: SqlValue, model: SqlValue = None, task: SqlValue = None
) -> bytes | None:
    """``embed(text [, model [, task]])``: the vector of a text, for others to find it.

    *task* is one that the model's manifest has a prompt for; NULL for that of a document.
    """
    role = "document" if task is None else name_argument(task, "the task") or ""
    return _embed(engine, text, model, role)


def embed_query(engine: Engine, text: SqlValue, model: SqlValue = None) -> bytes | None:
    """``embed_query(text [, model])``: the vector of a question."""
    return _embed(engine, text, model, "query")


def _embed(engine: Engine, text: SqlValue, model: SqlValue, role: Role) -> bytes | None:
    if text is None:
        return None
    if text.__class__ is not str:
        text = text_argument(text, "what is embedded")
    if model is not None:
        model = name_argument(model, "the model")
    # The cached path: one look-up, half a million a second.
    vector: bytes | None = engine.front(model, role).get(text)
    if vector is None:
        vector = engine.embed([text], model, role)[0]
    return vector


def embed_each(
    engine: Engine, restriction: Restriction, texts: SqlValue, model: SqlValue
) -> Plan[Iterable[Row]]:
    """``embed_each(json_array [, model])``: rows (ordinal, embedding, error), one batch.

    An element that cannot be embedded gets its error; the others get their vectors.
    """
    if texts is None:
        return (yield from rows_of([]))
    name = name_argument(model, "the model")
    elements = _json_array(texts)
    errors: dict[int, str] = {}
    good: dict[int, str] = {}
    for ordinal, element in enumerate(elements):
        if isinstance(element, str) and not SURROGATE.search(element):
            good[ordinal] = element
        elif isinstance(element, str):
            errors[ordinal] = "an element has half of a surrogate pair, which is no character"
        elif element is not None:
            errors[ordinal] = f"an element is a text or null; got {json.dumps(element)[:40]}"
    found = dict(zip(good, _embed_good(engine, good, name, errors), strict=True))
    return (yield from rows_of([(n, found.get(n), errors.get(n)) for n in range(len(elements))]))


def _embed_good(
    engine: Engine, texts: dict[int, str], model: str | None, errors: dict[int, str]
) -> list[bytes | None]:
    try:
        return list(engine.embed(list(texts.values()), model, "document"))
    except InputError:
        found: list[bytes | None] = []
        for ordinal, text in texts.items():
            try:
                found.append(engine.embed([text], model, "document")[0])
            except InputError as error:
                errors[ordinal] = str(error)
                found.append(None)
        return found


def _json_array(text: SqlValue) -> list[object]:
    try:
        elements = json.loads(text)  # type: ignore[arg-type]
    except (ValueError, TypeError, RecursionError) as error:
        raise InputError(
            f"embed_each() takes a JSON array of texts, as json_group_array() makes it;"
            f" got {described(text)}"
        ) from error
    if not isinstance(elements, list):
        raise InputError(f"embed_each() takes a JSON array of texts; got {described(text)}")
    return elements


def token_count(engine: Engine, text: SqlValue, model: SqlValue = None) -> int | None:
    """``token_count(text [, model])``: what the model reads, prompt and end tokens included."""
    if text is None:
        return None
    name = name_argument(model, "the model")
    return engine.token_count([text_argument(text, "what is counted")], name)[0]


class Mean:
    """``vec_mean(vector)``: the centroid of a group's vectors; NULLs are left out."""

    def __init__(self, engine: Engine) -> None:
        """Start with no vector."""
        self._engine = engine
        self._first: bytes | None = None
        self._sum: np.ndarray[tuple[int], np.dtype[np.float64]] | None = None
        self._count = 0

    def step(self, value: SqlValue) -> None:
        """Take in one vector."""
        if value is None:
            return
        if not isinstance(value, bytes):
            raise VectorError(
                f"vec_mean() takes vectors, as embed() gives them; got {described(value)}"
            )
        width = None if self._sum is None else len(self._sum)
        self._first = self._first or value
        comparable(self._engine, "vec_mean()", self._first, value)
        vector = vectors.from_blob(value, "vec_mean()'s vector", width).astype(np.float64)
        self._sum = vector if self._sum is None else self._sum + vector
        self._count += 1

    def final(self) -> bytes | None:
        """The mean, not scaled to unit length; NULL for a group without vectors."""
        if self._sum is None:
            return None
        return vectors.to_blob((self._sum / self._count).astype(np.float32))


FUNCTIONS: tuple[Function, ...] = (
    Scalar("embed", embed, 1, 3),
    Scalar("embed_query", embed_query, 1, 2),
    Table(
        "embed_each",
        ("ordinal", "embedding", "error"),
        embed_each,
        parameters=("texts", "model"),
        least=1,
    ),
    Scalar("token_count", token_count, 1, 2),
    Aggregate("vec_mean", Mean),
)
