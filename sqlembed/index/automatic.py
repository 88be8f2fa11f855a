"""Choose an index's model by how long its texts are: option ``model`` as ``auto``.

All vectors of an index are of one space, so it is chosen once, by texts that are there when the
index is made.
"""

from sqlembed.engine.interface import Engine
from sqlembed.index.source import Source
from sqlembed.plan import Plan, Statement, quote

AUTO = "auto"
SAMPLE = 256
"""Texts that are looked at."""
SHARE = 0.9
"""Of these, how many the model has to be for: some are always longer, and are cut."""
MOST_CHARACTERS = 1 << 16
"""Of a text that are counted: what is longer is longer than any model reads."""
TEXTS = """
SELECT ({expression}) FROM main.{table} WHERE ({key}) IN (
    SELECT {key} FROM main.{table} ORDER BY random() LIMIT {sample}
)"""


def model(engine: Engine, source: Source) -> Plan[str]:
    """The model for *source*'s texts, by as many tokens as nine of ten have at most.

    Counted with the default model, which is the one that is loaded anyway; it is chosen itself
    for a table without texts.
    """
    statement = TEXTS.format(
        expression=source.expression,
        table=quote(source.table),
        key=", ".join(map(quote, source.key)),
        sample=SAMPLE,
    )
    rows = yield Statement(statement)
    texts = [text[:MOST_CHARACTERS] for (text,) in rows if isinstance(text, str)]
    lengths = sorted(engine.token_count(texts, None)) if texts else [0]
    return engine.fitting(lengths[int(len(lengths) * SHARE)])
