"""Compute what waits in an index on many processes, or on many machines through Dask.

    python examples/backlog.py app.db sms --processes 4
    python examples/backlog.py app.db sms --dask tcp://scheduler:8786

The index is made before, with ``{"backlog": "later"}``. Each worker embeds with the index's model,
which has to be installed where it runs. The vectors come into a table of the database, part by
part, so that what is interrupted goes on; ``sqlembed_import`` takes them in the end. Texts that are
too long for one chunk are left to it.
"""

import argparse
import json
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from contextlib import closing
from itertools import islice
from multiprocessing import get_context

import apsw

import sqlembed

PART = 256
"""Texts that a worker is given at once."""
VECTORS = "backlog_vectors"
WAITING = """
SELECT DISTINCT {expression} FROM {table}
WHERE {expression} <> '' AND {expression} NOT IN (SELECT text FROM {vectors})"""


def main() -> None:
    """Read the command line, and do it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("database")
    parser.add_argument("index")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--processes", type=int, help="on this machine")
    where.add_argument("--dask", metavar="ADDRESS", help="of Dask's scheduler")
    given = parser.parse_args()
    db = sqlembed.connect(given.database)
    if given.dask:
        from dask.distributed import Client

        with Client(given.dask) as client:
            taken = compute(db, given.index, client.get_executor(), sum(client.ncores().values()))
    else:
        # Not by fork, which carries no loaded model over.
        with ProcessPoolExecutor(given.processes, get_context("spawn")) as pool:
            taken = compute(db, given.index, pool, given.processes)
    print(f"{taken} vectors were taken")


def compute(db: apsw.Connection, index: str, executor: Executor, workers: int) -> int:
    """Have *executor* embed the texts of *index*, and import them; how many were taken."""
    known = "SELECT source, expression, model FROM sqlembed_status WHERE name = ?"
    table, expression, model = db.execute(known, (index,)).get
    db.execute(f"CREATE TABLE IF NOT EXISTS {VECTORS}(text TEXT PRIMARY KEY, embedding BLOB)")
    sql = WAITING.format(expression=f"({expression})", table=f'"{table}"', vectors=VECTORS)
    texts = [text for (text,) in db.execute(sql)]
    for part, vectors in computed(executor, texts, model, 2 * workers):
        with db:
            db.executemany(f"INSERT INTO {VECTORS} VALUES (?, ?)", zip(part, vectors, strict=True))
    imported = "SELECT sqlembed_import(?, ?, 'text', 'embedding')"
    taken: int = db.execute(imported, (index, VECTORS)).get
    db.execute(f"DROP TABLE {VECTORS}")
    return taken


def computed(
    executor: Executor, texts: Iterable[str], model: str, most: int
) -> Iterator[tuple[list[str], list[bytes | None]]]:
    """Parts of *texts* with their vectors, as they are done; *most* of them are out at once."""
    left = iter(texts)
    out: dict[Future[list[bytes | None]], list[str]] = {}
    while True:
        while len(out) < most and (part := list(islice(left, PART))):
            out[executor.submit(embed, part, model)] = part
        if not out:
            return
        for future in wait(out, return_when=FIRST_COMPLETED).done:
            yield out.pop(future), future.result()


def embed(texts: Sequence[str], model: str) -> list[bytes | None]:
    """The vector of each text, None for one that is too long; this runs in a worker.

    A connection costs nothing beside the texts: its engine, with the model, is the process's.
    """
    sql = "SELECT embedding FROM embed_each(?, ?)"
    with closing(sqlembed.connect(":memory:")) as db:
        return [vector for (vector,) in db.execute(sql, (json.dumps(texts), model))]


if __name__ == "__main__":
    main()
