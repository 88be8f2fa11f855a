"""With the real model, on long and short texts: a check finds what was damaged, and nothing else."""

from pydoc_data.topics import topics

import datasets
import pytest
from harness import Sql

pytestmark = pytest.mark.model

MESSAGES = 300
LONG_TEXTS = 5
NEAREST = "SELECT id, round(distance, 3) FROM knn('t', ?, 20)"
QUERIES = ("what happens in a while loop", "shall we have dinner tonight", "free prize")


def test_damage_is_found_and_repaired(real: Sql) -> None:
    real("CREATE TABLE t(id INTEGER PRIMARY KEY, body TEXT)")
    texts = sorted(topics.values(), key=len)[:-LONG_TEXTS:-1] + datasets.sms()[:MESSAGES]
    real("BEGIN")
    for text in texts:
        real("INSERT INTO t(body) VALUES (?)", text[:20_000])
    real("COMMIT")
    real("SELECT sqlembed_index('t', 'body')")
    assert real.one("SELECT chunks > indexed FROM sqlembed_status")
    assert real("SELECT * FROM sqlembed_check") == []
    before = [real(NEAREST, query) for query in QUERIES]
    real("UPDATE sqlembed_chunk_1 SET vector = zeroblob(1536) WHERE key % 7 = 0")
    real("DELETE FROM sqlembed_chunk_1 WHERE key % 11 = 0")
    real("DELETE FROM sqlembed_word_1 WHERE rowid % 5 = 0")
    kinds = set(real("SELECT kind FROM sqlembed_check"))
    assert kinds == {"missing", "not unit", "words"}
    assert real.one("SELECT sqlembed_repair()") > 0
    assert real("SELECT * FROM sqlembed_check") == []
    assert [real(NEAREST, query) for query in QUERIES] == before
    real("SELECT sqlembed_flush()")
    assert real("SELECT * FROM sqlembed_check") == []
    assert [real(NEAREST, query) for query in QUERIES] == before
