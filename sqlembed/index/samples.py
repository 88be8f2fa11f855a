"""The sample of its texts that an index's model reads before each text: drawn, kept, given again.

Only models of two stages read one. It is drawn when the index is made, and when it is made anew
with the model's plain name; the model is then called ``NAME@DIGEST`` in the catalog, so that
documents and queries of the index, in whatever process, are read after the same sample.
"""

from typing import NamedTuple

from sqlembed.engine.interface import Engine
from sqlembed.engine.space import Space
from sqlembed.errors import InputError, SchemaError
from sqlembed.index import source as sources
from sqlembed.index.catalog import Index, shadow_of
from sqlembed.index.source import Source
from sqlembed.plan import Plan, Statement, quote
from sqlembed.weights.corpus import parts

DRAWN = """
SELECT CAST(text AS BLOB) FROM (
    SELECT CAST(({expression}) AS TEXT) AS text FROM main.{table}
) WHERE text <> '' ORDER BY random() LIMIT {size}"""
KEEP = "INSERT INTO main.sqlembed_corpus VALUES (?, ?) ON CONFLICT DO NOTHING"
KEPT = "SELECT vectors FROM main.sqlembed_corpus WHERE model = ?"
FORGET = """
DELETE FROM main.sqlembed_corpus WHERE model NOT IN (SELECT model FROM main.sqlembed_catalog)"""


class Fitting(NamedTuple):
    """A model that can embed the texts of a table."""

    space: Space
    sample: bytes | None = None
    """What it made of a sample that was drawn for it just now; None where none was."""


def fit(engine: Engine, model: str | None, source: Source) -> Plan[Fitting]:
    """*model* for the texts of *source*, after a sample of them if it reads one.

    :raises InputError: it does, and there are no texts
    """
    size = engine.sample_size(model)
    space = engine.space(model)
    if not size:
        return Fitting(space)
    if parts(space.model)[1] is not None:
        yield from _provide(engine, space.model, f"the model {space.model}")
        return Fitting(space)
    statement = DRAWN.format(expression=source.expression, table=quote(source.table), size=size)
    encoding = yield from sources.text_encoding()
    rows = yield Statement(statement)
    texts = [text.decode(encoding, "replace") for (text,) in rows if isinstance(text, bytes)]
    if not texts:
        raise InputError(
            f"{space.model} reads a sample of a table's texts before it embeds any, and"
            f" {source.table} has none yet: make the index when it has some, or with another model"
        )
    # It reads the beginning of a long one, as its reference does.
    first = [chunks[0].text for chunks in engine.chunk(texts, space.model)]
    name, made = engine.sample(first, space.model)
    return Fitting(engine.space(name), made)


def fit_again(engine: Engine, index: Index, model: str | None, source: Source) -> Plan[Fitting]:
    """As :func:`fit`, for an index that is made anew; *model* is None for the one that it has.

    A sample is kept, unless the weights that made it are others now. The plain name of a model
    draws another; or goes on with the one that was drawn when this was begun.
    """
    wanted = model or index.model
    base, digest = parts(wanted)
    if digest is not None and model is None and not _is_same(engine, index):
        wanted, digest = base, None
    if digest is None and engine.sample_size(wanted):
        shadow = yield from shadow_of(index)
        plain = engine.space(wanted).model
        if shadow is not None and parts(shadow.model)[0] == plain and _is_same(engine, shadow):
            wanted = shadow.model
    return (yield from fit(engine, wanted, source))


def keep(fitting: Fitting) -> Plan[None]:
    """Keep a sample that was drawn, within the transaction that makes the index."""
    if fitting.sample is not None:
        yield Statement(KEEP, (fitting.space.model, fitting.sample))


def forget_unused() -> Plan[None]:
    """Remove samples of no index that there is."""
    yield Statement(FORGET)


def provide(engine: Engine, index: Index) -> Plan[None]:
    """Give the engine the sample of *index*, if its model reads one and does not know it here.

    :raises SchemaError: it is not in the database any more
    :raises SpaceError: it is damaged
    """
    if not engine.knows_sample(index.model):
        yield from _provide(engine, index.model, f"index {index.name}")


def is_missing(index: Index) -> Plan[bool]:
    """Whether *index* needs a sample that is not kept."""
    if parts(index.model)[1] is None:
        return False
    return not (yield Statement(KEPT, (index.model,)))


def _provide(engine: Engine, model: str, whose: str) -> Plan[None]:
    for (made,) in (yield Statement(KEPT, (model,))):
        if isinstance(made, bytes):
            engine.learn_sample(model, made)
            return
    raise SchemaError(
        f"the sample that {whose} was made with is not in sqlembed_corpus; have another drawn:"
        f" sqlembed_reindex(index, '{parts(model)[0]}')"
    )


def _is_same(engine: Engine, index: Index) -> bool:
    return engine.space(index.model).fingerprint == index.space
