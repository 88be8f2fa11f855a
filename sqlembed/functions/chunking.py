"""SQL: a text in parts that a model reads whole. ``chunks``."""

from collections.abc import Iterable
from dataclasses import fields

from sqlembed.engine.chunk import Chunking
from sqlembed.engine.interface import Engine
from sqlembed.functions.registry import (
    Function,
    Restriction,
    Table,
    name_argument,
    rows_of,
    text_argument,
)
from sqlembed.index import options as json_options
from sqlembed.plan import Plan, Row, SqlValue

KNOWN = tuple(field.name for field in fields(Chunking))
EXAMPLE = '{"tokens": 128}'


def chunks(
    engine: Engine, restriction: Restriction, text: SqlValue, model: SqlValue, options: SqlValue
) -> Plan[Iterable[Row]]:
    """``chunks(text [, model [, options]])``: rows (ordinal, start, stop, tokens, text).

    Cut as an index cuts it; ``substr(text, start + 1, stop - start)`` is the chunk.
    """
    if text is None:
        return (yield from rows_of([]))
    whole = text_argument(text, "what is cut into chunks")
    name = name_argument(model, "the model")
    chosen = Chunking(**_given(options))
    (parts,) = engine.chunk([whole], name, chosen)
    rows = [(n, part.start, part.stop, part.tokens, part.text) for n, part in enumerate(parts)]
    return (yield from rows_of(rows))


def _given(options: SqlValue) -> dict[str, int]:
    if options is None:
        return {}
    given = json_options.read(text_argument(options, "options"), KNOWN, EXAMPLE)
    return {name: json_options.whole_number(name, value) for name, value in given.items()}


FUNCTIONS: tuple[Function, ...] = (
    Table(
        "chunks",
        ("ordinal", "start", "stop", "tokens", "text"),
        chunks,
        parameters=("original", "model", "options"),  # of which none may be a column's name
        least=1,
    ),
)
