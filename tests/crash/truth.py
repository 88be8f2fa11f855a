"""What must hold of a database at any moment, told by plain SQL and brute force over its table."""

import json
import time
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import apsw
import numpy as np
from crash.model import text_vector
from crash.world import BUSY_SECONDS, VOCABULARY, World

from sqlembed.engine.chunk import Chunking
from sqlembed.engine.local import LocalEngine
from sqlembed.index import blocks, knn
from sqlembed.index.backlog import CLOCK_LEASE
from sqlembed.index.codes import Codes

EVERY = 4096
"""The most rows that knn gives."""
CLOSE = 1e-5
LASTING_FINDINGS = {"orphaned", "keys"}
"""Of ``sqlembed_check``: what REPLACE leaves for a flush."""
STATUS = "SELECT indexed, chunks, waiting, leased, failed, coverage FROM sqlembed_status"
LEAST_CALLS = 20
"""Of a search that embeds what waits, until nothing is left to embed."""


def small_blocks() -> None:
    """Have this process, and those it forks, keep few rows as it would a million."""
    blocks.SMALL, blocks.TAIL, blocks.CHECKED, blocks.LEAST_DEAD = 40, 16, 8, 8
    blocks.BLOCK_BYTES = 8000
    knn.EXACT_SHARE = 0


class UntrueError(AssertionError):
    """The database is not what it must be."""


def check(holds: object, *words: object) -> None:
    """Raise if it does not hold."""
    if not holds:
        raise UntrueError(" ".join(map(str, words)))


@dataclass
class Live:
    """The index as its row of the catalog says, read without sqlembed."""

    number: int
    name: str
    model: str
    dimension: int
    chunking: Chunking
    words: bool
    expression: str
    has_backlog: bool
    mapped: bool = False
    waiting: set[int] = field(default_factory=set)
    """The keys of rows that wait."""


def tables(db: apsw.Connection) -> set[str]:
    """The names of all tables."""
    return {name for (name,) in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}


def live(db: apsw.Connection) -> Live | None:
    """The index, if there is one."""
    here = tables(db)
    if "sqlembed_catalog" not in here:
        return None
    columns = {n for (n,) in db.execute("SELECT name FROM pragma_table_info('sqlembed_catalog')")}
    where = "WHERE state = 'live'" if "state" in columns else ""
    rows: list[tuple[Any, ...]] = db.execute(f"SELECT * FROM sqlembed_catalog {where}").fetchall()
    if not rows:
        return None
    check(len(rows) == 1, "indexes:", rows)
    names = [n for (n,) in db.execute("SELECT name FROM pragma_table_info('sqlembed_catalog')")]
    row = dict(zip(names, rows[0], strict=True))
    options = json.loads(row["options"])
    number = int(row["index_id"])
    found = Live(
        number,
        row["name"],
        row["model"],
        row["dimension"],
        Chunking(options.get("tokens"), options.get("overlap")),
        "words" in options,
        json.loads(row["source"])["expression"],
        "sqlembed_backlog" in here,
        f"sqlembed_key_{number}" in here,
    )
    logged = "SELECT key FROM sqlembed_queue WHERE index_id = ? AND key IS NOT NULL"
    found.waiting = {key for (key,) in db.execute(logged, (number,))}
    if found.has_backlog:
        listed = "SELECT key FROM sqlembed_backlog WHERE index_id = ?"
        found.waiting |= {key for (key,) in db.execute(listed, (number,))}
    return found


@lru_cache(maxsize=50_000)
def chunks(
    engine: LocalEngine, model: str, dimension: int, chunking: Chunking, body: str
) -> list[tuple[int, int, int, str, np.ndarray]]:
    """A text's chunks: ordinal, start, stop, text and vector; from nothing but the text."""
    (parts,) = engine.chunk([body], model, chunking)
    return [
        (n, part.start, part.stop, part.text, text_vector(model, dimension, part.text))
        for n, part in enumerate(parts)
    ]


def rows(db: apsw.Connection, found: Live, world: World) -> dict[Any, str | None]:
    """The texts of the table's rows, by the ids that a search shows."""
    sql = f"SELECT {world.id_sql}, {found.expression} FROM {world.table}"
    return dict(db.execute(sql).fetchall())


def snapshot(
    db: apsw.Connection,
    engine: LocalEngine,
    world: World,
    question: str,
    *,
    stored: bool = False,
    indexed: bool = False,
) -> float:
    """Check searches and the status view against the truth, all in one read transaction.

    :param stored: also that what is stored of rows that do not wait is what their texts give
    :param indexed: also that there is an index
    :returns: the coverage that knn told; 0 if there is no index
    """
    db.execute("BEGIN")
    try:
        found = live(db)  # the first look: all that follows sees the same
        if found is None:
            check(not indexed, "there is no index")
            return 0.0
        table = rows(db, found, world)
        ids = _ids(db, found, world)
        coverage = _knn(db, engine, found, table, ids, question)
        _search(db, found, table, ids, question)
        _status(db, found)
        if stored:
            _stored(db, engine, found, table, ids)
        return coverage
    finally:
        db.execute("ROLLBACK")


def standing(db: apsw.Connection, world: World) -> None:
    """Check the status view, and that each row with a text is stored or waits: of any number."""
    db.execute("BEGIN")
    try:
        found = live(db)
        check(found is not None, "there is no index")
        assert found is not None
        _status(db, found)
        ids = _ids(db, found, world)
        keys = db.execute(f"SELECT DISTINCT key FROM sqlembed_chunk_{found.number}")
        there = {ids.get(key) for (key,) in keys} | {ids.get(key) for key in found.waiting}
        texts = {id_ for id_, body in rows(db, found, world).items() if body is not None}
        check(texts <= there, "lost: neither stored nor waiting:", sorted(texts - there)[:5])
    finally:
        db.execute("ROLLBACK")


def _ids(db: apsw.Connection, found: Live, world: World) -> dict[int, Any]:
    """The ids of rows by their integers."""
    if not found.mapped:
        return {key: key for (key,) in db.execute(f"SELECT id FROM {world.table}")}
    shown = "json_array(k1, k2)" if len(world.key) > 1 else "k1"
    return dict(db.execute(f"SELECT key, {shown} FROM sqlembed_key_{found.number}").fetchall())


def _brute_force(
    engine: LocalEngine, found: Live, table: dict[Any, str | None], question: str
) -> dict[Any, float]:
    prompt = engine.library.manifest(found.model).prompt("query")
    query = text_vector(found.model, found.dimension, prompt + question)
    facts = found.model, found.dimension, found.chunking
    return {
        id_: min(1 - float(query @ vector) for *_, vector in chunks(engine, *facts, body))
        for id_, body in table.items()
        if body is not None
    }


def _knn(
    db: apsw.Connection,
    engine: LocalEngine,
    found: Live,
    table: dict[Any, str | None],
    ids: dict[int, Any],
    question: str,
) -> float:
    expected = _brute_force(engine, found, table, question)
    answer = db.execute(
        "SELECT id, distance, text, coverage FROM knn(?, ?, ?)", (found.name, question, EVERY)
    ).fetchall()
    got = {id_: distance for id_, distance, *_ in answer}
    check(len(got) == len(answer), "knn gave a row twice", answer)
    for id_, distance, text, _ in answer:
        check(id_ in expected, "knn gave a row that is not there, or has no text:", id_)
        check(
            abs(expected[id_] - distance) < CLOSE,
            f"knn gave {id_!r} at {distance}, by its text it is at {expected[id_]}",
        )
        check(text in table[id_], f"knn gave {id_!r} with the text {text!r}")
    coverage = float(answer[0][3]) if answer else 1.0
    waiting = {ids.get(key) for key in found.waiting}
    missing = set(expected) - set(got)
    lost = missing - waiting
    check(not lost or len(got) >= EVERY, "lost: neither found nor waiting:", sorted(lost)[:5])
    check(not missing or coverage < 1 or not answer, "not found, with full coverage:", missing)
    return coverage


def _search(
    db: apsw.Connection,
    found: Live,
    table: dict[Any, str | None],
    ids: dict[int, Any],
    question: str,
) -> None:
    sql = "SELECT id, text, coverage FROM search(?, ?, ?)"
    waiting = {ids.get(key) for key in found.waiting}
    tagged = [(i, b) for i, b in table.items() if b and b.startswith("tag")]
    some = min(tagged, key=lambda pair: hash((question, pair[0])), default=None)
    for asked, number in ((question, 20), *([(some[1].split()[0], 5)] if some else [])):
        answer = db.execute(sql, (found.name, asked, number)).fetchall()
        check(len({id_ for id_, *_ in answer}) == len(answer), "search gave a row twice", answer)
        for id_, text, _ in answer:
            check(table.get(id_) is not None, "search gave a row that is not there:", id_)
            check(text in table[id_], f"search gave {id_!r} with the text {text!r}")
        if some and number == 5 and found.words and some[0] not in waiting:
            check(some[0] in [id_ for id_, *_ in answer], "search missed", some, answer)


def _status(db: apsw.Connection, found: Live) -> None:
    begun = int(time.time())
    shown = db.execute(STATUS).fetchall()
    keys = "SELECT DISTINCT key FROM sqlembed_chunk_{}".format
    stored = {key for (key,) in db.execute(keys(found.number))}
    ((total,),) = db.execute(f"SELECT count(*) FROM sqlembed_chunk_{found.number}")
    current = len(stored - found.waiting)
    waits = len(found.waiting)
    coverage = current / (current + waits) if waits else 1.0
    leased, failed = [0], 0
    if found.has_backlog:
        counted = "SELECT sum(lease > ?1 AND lease <= ?1 + ?2) FROM sqlembed_backlog"
        moments = range(begun, int(time.time()) + 1)
        leased = [
            db.execute(f"{counted} WHERE index_id = ?3", (at, CLOCK_LEASE, found.number)).get or 0
            for at in moments
        ]
        sql = "SELECT count(error) FROM sqlembed_backlog WHERE index_id = ?"
        failed = db.execute(sql, (found.number,)).get
    truths = [(len(stored), total, waits, each, failed, coverage) for each in leased]
    check(len(shown) == 1 and tuple(shown[0]) in truths, "status", shown, "is not", truths)


def _stored(
    db: apsw.Connection,
    engine: LocalEngine,
    found: Live,
    table: dict[Any, str | None],
    ids: dict[int, Any],
) -> None:
    number = found.number
    by_key: dict[int, list[tuple[int, int, int]]] = {}
    words: dict[int, str] = {}
    stored: dict[int, bytes] = {}
    right: list[tuple[bytes, np.ndarray]] = []
    facts = found.model, found.dimension, found.chunking
    sql = f"""SELECT chunk, key, ordinal, start, stop, vector FROM sqlembed_chunk_{number}
    ORDER BY key, ordinal"""
    for chunk, key, ordinal, start, stop, vector in db.execute(sql):
        stored[chunk] = vector
        body = table.get(ids.get(key))
        if key in found.waiting or body is None:
            continue
        by_key.setdefault(key, []).append((ordinal, start, stop))
        words[chunk] = body[start:stop]
        expected = chunks(engine, *facts, body)
        check(ordinal < len(expected), "stale:", key, "has too many chunks")
        right.append((vector, expected[ordinal][4]))
    for key, parts in by_key.items():
        body = table[ids[key]]
        assert body is not None
        spans = [part[:3] for part in chunks(engine, *facts, body)]
        check(parts == spans, "stale:", key, parts, spans)
    if right:
        mine = np.frombuffer(b"".join(vector for vector, _ in right), "<f4")
        error = np.abs(mine.reshape(len(right), -1) - np.array([vector for _, vector in right]))
        check(error.max() < CLOSE, "stale: vectors are not those of the texts:", error.max())
    coded(db, number, stored)
    if found.words:
        split = dict(db.execute(f"SELECT rowid, text FROM sqlembed_word_{number}").fetchall())
        check(split.keys() == stored.keys(), "words differ:", split.keys() ^ stored.keys())
        for chunk, text in words.items():
            check(split[chunk] == text, "words of chunk", chunk, "are", split[chunk], "not", text)


def coded(db: apsw.Connection, number: int, stored: dict[int, bytes]) -> None:
    """Check that every chunk up to the last in a block is in one of them, with its vector's code."""
    if "sqlembed_block" not in tables(db):
        return
    sql = "SELECT first, last, codes FROM sqlembed_block WHERE index_id = ? ORDER BY first"
    seen: set[int] = set()
    for first, last, content in db.execute(sql, (number,)).fetchall():
        codes = Codes.from_bytes(content)
        numbers = codes.chunks.tolist()
        check((first, last) == (numbers[0], numbers[-1]), "a block from", first, "to", last)
        check(not seen or max(seen) < first, "a chunk is in two blocks:", first)
        here = [at for at, chunk in enumerate(numbers) if chunk in stored]
        if here:  # a block whose chunks are all deleted stays until there are many of these
            floats = b"".join(stored[numbers[at]] for at in here)
            matrix = np.frombuffer(floats, "<f4").reshape(len(here), -1)
            again = Codes.of(codes.frame, codes.chunks[here], codes.keys[here], matrix)
            check((again.levels == codes.levels[here]).all(), "codes differ from", first)
        seen |= set(numbers)
    missing = {chunk for chunk in stored if chunk <= max(seen, default=0)} - seen
    check(not missing, "without a code:", missing)


def sound(db: apsw.Connection) -> None:
    """Check SQLite's own structures, those of FTS5 too.

    In a connection of its own: in one that has read words before, integrity_check goes by what FTS5
    remembers of them, and takes for damage what others have written since (SQLite 3.53).
    """
    own = apsw.Connection(db.filename)
    own.set_busy_timeout(int(BUSY_SECONDS * 1000))
    told = own.execute("PRAGMA integrity_check").fetchall()
    check(told == [("ok",)], "PRAGMA integrity_check", told)
    own.execute("BEGIN IMMEDIATE")  # or others might drop one meanwhile
    for name in tables(own):
        if name.startswith("sqlembed_word_") and name.count("_") == 2:
            own.execute(f"INSERT INTO {name}({name}, rank) VALUES('integrity-check', 1)")
    own.execute("COMMIT")
    own.close()


def checked(db: apsw.Connection, allowed: set[str]) -> None:
    """See that ``sqlembed_check`` finds nothing but *allowed*."""
    told = db.execute("SELECT * FROM sqlembed_check").fetchall()
    check({kind for _, kind, *_ in told} <= allowed, "sqlembed_check:", told)


def nothing_left(db: apsw.Connection) -> None:
    """See that nothing is left of an index that was dropped."""
    ours = [name for name in tables(db) if name.startswith("sqlembed_")]
    left = [name for name in ours if any(letter.isdigit() for letter in name)]
    check(not left, "left by the index:", left)
    triggers = db.execute(
        "SELECT name FROM sqlite_schema WHERE type = 'trigger' AND tbl_name <> 'sqlembed_rate'"
    ).fetchall()
    check(not triggers, "left by the index:", triggers)
    for name in {
        "sqlembed_backlog",
        "sqlembed_block",
        "sqlembed_pace",
        "sqlembed_catalog",
        "sqlembed_corpus",
    } & set(ours):
        check(not db.execute(f"SELECT * FROM {name}").fetchall(), name, "is not empty")


def whole(db: apsw.Connection, engine: LocalEngine, world: World, question: str) -> None:
    """Check everything of a database that nobody writes to, as it is; then flush, and again."""
    sound(db)
    found = live(db)
    if found is None:
        nothing_left(db)
        return
    # What older formats kept codes in stays until a flush.
    older = any(name.startswith("sqlembed_code_") for name in tables(db))
    checked(db, LASTING_FINDINGS | ({"tables"} if older else set()))
    for _ in range(LEAST_CALLS):
        if snapshot(db, engine, world, question, stored=True) == 1:
            break
    else:
        # Rows without a text, or which are gone, count as missed where only many wait.
        check(len(rows(db, found, world)) > EVERY, "full coverage is never reached")
    flushed(db, engine, world, question)


def flushed(db: apsw.Connection, engine: LocalEngine, world: World, question: str) -> None:
    """Flush, and see that nothing waits, nothing is left over, and what is stored is right."""
    db.execute("SELECT sqlembed_flush()").fetchall()
    found = live(db)
    assert found is not None
    check(not found.waiting, "still waiting after a flush:", found.waiting)
    log = db.execute("SELECT * FROM sqlembed_queue WHERE index_id <> 0").fetchall()
    check(not log, "on the log after a flush:", log)
    check(snapshot(db, engine, world, question, stored=True) == 1, "no full coverage")
    table, ids = rows(db, found, world), _ids(db, found, world)
    kept = {ids.get(k) for (k,) in db.execute(f"SELECT key FROM sqlembed_chunk_{found.number}")}
    texts = {id_ for id_, body in table.items() if body is not None}
    check(kept == texts, "stored and texts differ:", kept ^ texts)
    checked(db, set())
    sound(db)


def question_of(number: int) -> str:
    """A question, another for each number."""
    count = len(VOCABULARY)
    return f"{VOCABULARY[number % count]} {VOCABULARY[number * 7 % count]}"
