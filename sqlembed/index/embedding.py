"""A row's text in chunks, and their vectors; and which texts it is that the model fails on."""

import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, TypeVar

from sqlembed import errors
from sqlembed.engine.interface import Engine
from sqlembed.index import samples
from sqlembed.index.catalog import Index
from sqlembed.plan import Plan

Item = TypeVar("Item")
Made = TypeVar("Made")

NO_TEXTS_FAULT = (
    errors.OptionError,
    errors.NotFoundError,
    errors.ModelMissingError,
    errors.ModelFileError,
    errors.ProbeError,
    errors.ServerError,
    errors.BusyError,
    errors.ClientGoneError,
    errors.SpaceError,
    errors.SchemaError,
    errors.ServiceError,
    MemoryError,
    EOFError,
    OSError,
)
"""What goes wrong whatever the text is."""


class Part(NamedTuple):
    """A chunk of a row's text."""

    text: str
    start: int
    stop: int
    digest: bytes
    """Hash of (embedding space, role, text)."""


class Embedded(NamedTuple):
    """A chunk of a row's text, with its vector."""

    text: str
    start: int
    stop: int
    digest: bytes
    vector: bytes


def check_space(engine: Engine, index: Index) -> None:
    """Refuse to mix vectors of two embedding spaces.

    :raises SpaceError: the model's weights or settings are not those the index was made with
    """
    space = engine.space(index.model)
    if space.fingerprint != index.space:
        raise errors.SpaceError(
            f"index {index.name} holds vectors of {index.model} as it was (space"
            f" {index.space[:12]}), and the {index.model} installed now is another (space"
            f" {space.fingerprint[:12]}): its weights or prompts changed. Make the index anew:"
            f" {index.anew}"
        )


def ready(engine: Engine, index: Index) -> Plan[None]:
    """See that vectors for *index* can be made, and give the engine what its model reads first.

    :raises SpaceError: as :func:`check_space`
    """
    check_space(engine, index)
    yield from samples.provide(engine, index)


def cut(engine: Engine, index: Index, texts: Sequence[str]) -> list[list[Part]]:
    """Each text in chunks, with the digests of these."""
    space = engine.space(index.model)
    return [
        [Part(part.text, part.start, part.stop, space.key("document", part.text)) for part in parts]
        for parts in engine.chunk(list(texts), index.model, index.options.chunking)
    ]


def embed_rows(engine: Engine, index: Index, texts: Mapping[int, str]) -> dict[int, list[Embedded]]:
    """The chunks of each row's text with their vectors, by key; all in one batch."""
    parts = dict(zip(texts, cut(engine, index, list(texts.values())), strict=True))
    flat = [part.text for chunks in parts.values() for part in chunks]
    vectors = dict(zip(flat, engine.embed(flat, index.model, "document"), strict=True))
    return {key: joined(chunks, vectors) for key, chunks in parts.items()}


def joined(parts: Iterable[Part], vectors: Mapping[str, bytes]) -> list[Embedded]:
    """*parts* with their vectors, which are given by text."""
    return [Embedded(*part, vectors[part.text]) for part in parts]


def apart(
    engine: Engine,
    model: str,
    items: Iterable[Item],
    work: Callable[[Sequence[Item]], Sequence[Made]],
) -> tuple[dict[Item, Made], dict[Item, str]]:
    """What *work* makes of *items*, and why it fails on those on which it does.

    They are found by halving. Where a harmless text fails as well, it is the model, and what it
    raised is raised.

    :param work: a function of several items, which gives as many results, or raises
    """
    made: dict[Item, Made] = {}
    failed: dict[Item, str] = {}
    left = [list(items)]
    while left:
        some = left.pop()
        try:
            made |= zip(some, work(some), strict=True)
        except NO_TEXTS_FAULT:
            raise
        except Exception as error:
            if len(some) > 1:
                middle = len(some) // 2
                left += [some[middle:], some[:middle]]
                continue
            _check_model(engine, model, error)
            failed[some[0]] = str(error) or type(error).__name__
    return made, failed


def _check_model(engine: Engine, model: str, error: Exception) -> None:
    """See that *model* works, or raise *error*, which it gave for some text."""
    harmless = f"row {secrets.randbelow(10**9)}"  # not one that is remembered
    try:
        engine.embed([harmless], model, "document")
    except Exception:
        raise error from None
