"""How many rows wait, and how many are stored and do not: whatever waits where."""

import random
from dataclasses import replace

import apsw
import pytest
from harness import Sql

from sqlembed.doors.plans import run
from sqlembed.index import catalog, waiting

LOG = "INSERT INTO sqlembed_queue(index_id, key) VALUES (?, ?)"
BACKLOG = "INSERT INTO sqlembed_backlog(index_id, key, generation, since) VALUES (?, ?, ?, 0)"
CHUNK = "INSERT INTO sqlembed_chunk_1(key, ordinal, start, stop, digest, vector) VALUES (?, ?, 0, 0, x'', x'')"


@pytest.mark.parametrize("others", [(), (2,), (0, 2)])
@pytest.mark.parametrize("seed", range(8))
def test_rows_are_counted_once_wherever_they_wait(
    sql: Sql, seed: int, others: tuple[int, ...]
) -> None:
    sql("CREATE TABLE t(id INTEGER PRIMARY KEY, body)")
    sql("SELECT sqlembed_index('t', 'body')")
    plain = apsw.Connection(sql.db_path)
    chance = random.Random(seed)
    stored, listed, logged = (
        set(chance.sample(range(-20, 60), chance.choice([0, 3, 30, 60]))) for _ in range(3)
    )
    plain.executemany(CHUNK, [(key, n) for key in stored for n in range(chance.choice([1, 3]))])
    for index_id in (1, *others):
        plain.executemany(BACKLOG, [(index_id, key, n) for n, key in enumerate(listed)])
        plain.executemany(LOG, [(index_id, key) for key in (None, *logged, *logged)])
    index = run(plain, catalog.find("t"))
    waits = listed | logged
    assert run(plain, waiting.count(index)) == len(waits)
    some = [*range(-20, 60, 3), 99]
    assert run(plain, waiting.count(index, some)) == len(waits & {*some})
    for told in (0, len(waits), 1000):  # it decides how they are counted
        current = waiting.count_current(index, len(stored), told)
        assert run(plain, current) == len(stored - waits)
    older = replace(index, has_backlog=False)
    assert run(plain, waiting.count(older)) == len(logged)
    assert run(plain, waiting.count(older, some)) == len(logged & {*some})
    current = waiting.count_current(older, len(stored), len(logged))
    assert run(plain, current) == len(stored - logged)
    plain.close()
