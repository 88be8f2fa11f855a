"""search() against sqlite-vec and FTS5 driven by hand, over the same rows and vectors."""

import re
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import apsw
import report
import sqlite_vec
import texts
from report import Line, Table, tell
from rounds import ratio, seconds
from vectors import Vectors, embedded, enlarged

import sqlembed
from sqlembed import settings
from sqlembed.engine.cache import Cache
from sqlembed.engine.local import LocalEngine

K = 10
QUERIES = 50
TABLE = "CREATE TABLE sms(id INTEGER PRIMARY KEY, body TEXT)"
INSERT = "INSERT INTO sms VALUES (?, ?)"
INDEX = "SELECT sqlembed_index('sms', 'body')"
VEC = "CREATE VIRTUAL TABLE vec USING vec0(embedding float[{width}])"
VEC_INSERT = "INSERT INTO vec(rowid, embedding) VALUES (?, ?)"
SEARCH = f"SELECT id, score, text FROM search('sms', ?, {K}, ?)"
WITHOUT_RERANKING, AS_IT_IS = '{"rerank": 0}', None
FTS = "CREATE VIRTUAL TABLE fts USING fts5(body, content = 'sms', content_rowid = 'id')"
FTS_FILL = "INSERT INTO fts(fts) VALUES ('rebuild')"
BY_RANK = f"""
WITH found AS (
    SELECT rowid AS id, row_number() OVER (ORDER BY distance) AS place FROM vec
    WHERE embedding MATCH ?1 AND k = 50
    UNION ALL
    SELECT id, row_number() OVER () FROM (
        SELECT rowid AS id FROM fts WHERE fts MATCH ?2 ORDER BY rank LIMIT 50
    )
)
SELECT sms.id, score, body FROM (
    SELECT id, sum(1.0 / (60 + place)) AS score FROM found
    GROUP BY id ORDER BY score DESC LIMIT {K}
) AS best JOIN sms ON sms.id = best.id ORDER BY score DESC"""
MILLISECONDS = 1000


def measure(quick: bool) -> list[Table]:
    """Milliseconds a search, at two sizes."""
    sizes, queries, rounds = ((200, 12_000), 10, 2) if quick else ((5_000, 100_000), QUERIES, 3)
    texts.model()
    messages = texts.messages()
    asked, stored = messages[:queries], messages[queries : 200 if quick else None]
    with tempfile.TemporaryDirectory() as work:
        engine = LocalEngine(Cache(f"{work}/cache.db", settings.cache_bytes()))
        tell(f"embedding {len(asked) + len(stored):,} SMS")
        questions, real = embedded(engine, asked), embedded(engine, stored)
        lines: list[Line] = []
        for rows in sizes:
            every = enlarged(real, rows)
            bodies = [f"{n} {stored[n % len(stored)]}" for n in range(rows)]
            directory = Path(work) / str(rows)
            directory.mkdir()
            db = ours(engine, directory, bodies, every)
            plain = by_hand(directory, bodies, every)
            with closing(db), closing(plain):
                lines += searched(f"{rows:,} rows", db, plain, asked, questions, rounds)
        engine.close()
    note = (
        f"k = {K}; {queries} SMS that are not in the table, {rounds} times, each asked once before:"
        f" no model runs. {len(real):,} vectors of rows are real, the others made out of them: a"
        " real one or, of five, one mixture of two, plus noise (cosine 0.9). By hand: the 50 best"
        " of vec0 and of FTS5 (any of the words), fused by reciprocal rank."
    )
    return [Table("Search", "ms", "by hand takes ... times", lines, [note])]


def ours(
    engine: LocalEngine, directory: Path, bodies: Sequence[str], vectors: Vectors
) -> apsw.Connection:
    """A table of *bodies*, indexed with a cache that was told their *vectors*."""
    space = engine.space()
    keys = [space.key("document", body) for body in bodies]
    blobs = [row.tobytes() for row in vectors.astype("<f4")]
    engine.cache.put(space, "embedding", dict(zip(keys, blobs, strict=True)))
    db = sqlembed.connect(str(directory / "ours.db"), engine=engine)
    load(db, bodies)
    db.execute("SELECT sqlembed_load(?)", (settings.default_model(),))
    taken = seconds(lambda: db.execute(INDEX).fetchall())
    tell(f"sqlembed_index() of {len(bodies):,} rows whose vectors are cached: {taken:.1f} s")
    return db


def by_hand(directory: Path, bodies: Sequence[str], vectors: Vectors) -> apsw.Connection:
    """A table of *bodies*, their *vectors* in a vec0 table of floats, and their words in FTS5."""
    db = apsw.Connection(str(directory / "plain.db"))
    db.enable_load_extension(True)
    db.load_extension(sqlite_vec.loadable_path())
    load(db, bodies)
    db.execute(VEC.format(width=vectors.shape[1]))
    db.execute(FTS)
    with db:
        blobs = (row.tobytes() for row in vectors.astype("<f4"))
        db.executemany(VEC_INSERT, enumerate(blobs, 1))
        db.execute(FTS_FILL)
    return db


def load(db: apsw.Connection, bodies: Sequence[str]) -> None:
    """Fill the application's own table."""
    db.execute(TABLE)
    with db:
        db.executemany(INSERT, enumerate(bodies, 1))


def searched(
    name: str,
    db: apsw.Connection,
    plain: apsw.Connection,
    asked: Sequence[str],
    questions: Vectors,
    rounds: int,
) -> list[Line]:
    """Ask for every text in each way in turn."""
    ways: dict[
        str, tuple[apsw.Connection, str, Callable[[int], tuple[str | bytes | None, ...]]]
    ] = {
        "search() without reranking": (db, SEARCH, lambda n: (asked[n], WITHOUT_RERANKING)),
        "search()": (db, SEARCH, lambda n: (asked[n], AS_IT_IS)),
        "vec0 and FTS5": (plain, BY_RANK, lambda n: (blobs[n], any_of(asked[n]))),
    }
    blobs = [question.astype("<f4").tobytes() for question in questions]
    times: dict[str, list[float]] = {way: [] for way in ways}
    for text in asked:  # so that what the model says of it is in the cache
        db.execute(SEARCH, (text, AS_IT_IS)).fetchall()
    for round_ in range(rounds):
        for number in range(len(asked)):
            for way in list(ways)[:: -1 if round_ % 2 else 1]:
                connection, sql, bindings = ways[way]
                begun = time.perf_counter()
                connection.execute(sql, bindings(number)).fetchall()
                times[way].append(MILLISECONDS * (time.perf_counter() - begun))
    *mine, theirs = times
    return [
        Line.of(
            f"{name}: {way}", values, ratio(times[theirs], values) if way in mine else None, "", ""
        )
        for way, values in times.items()
    ]


def any_of(text: str) -> str:
    """An FTS5 query for any of its words."""
    return " OR ".join(f'"{word}"' for word in re.findall(r"\w+", text)) or '""'


if __name__ == "__main__":
    report.main(measure)
