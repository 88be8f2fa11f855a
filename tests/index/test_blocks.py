"""Codes are kept in blocks as an index grows and shrinks, and every search sees its own snapshot's."""

from contextlib import suppress
from random import Random

import apsw
import numpy as np
import pytest
from harness import FakeModel, Sql, install_fake, small_blocks

import sqlembed
from sqlembed.doors import plans
from sqlembed.engine.local import LocalEngine
from sqlembed.index import blocks, catalog, knn, resident
from sqlembed.index.blocks import Listed
from sqlembed.index.catalog import Index
from sqlembed.index.codes import Codes
from sqlembed.plan import Boundary, Plan, Rows

COUNTED = """
WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c LIMIT {})
SELECT n, 'row ' || n FROM c"""
LISTED = "SELECT first, last, count FROM sqlembed_block ORDER BY first"
NEAREST = "SELECT id FROM knn('t', ?, 3)"


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Blocks for few rows."""
    small_blocks(monkeypatch)
    return monkeypatch


@pytest.fixture
def t(sql: Sql) -> Sql:
    """An index without rows."""
    sql("CREATE TABLE t(id INTEGER PRIMARY KEY, body)")
    sql("SELECT sqlembed_index('t', 'body')")
    return sql


def agrees(sql: Sql) -> None:
    """See that what is found by codes is what is found without."""
    for query in ("row 7", "row 30", "another"):
        for among in ("", "WHERE id % 3 = 1", "WHERE distance < 0.8", "WHERE id IN (7, 8, 30)"):
            asked = f"SELECT id, round(distance, 5) FROM knn('t', ?, 5) {among}"
            found = sql(asked, query)
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(knn, "FEW_KEYS", 1 << 60)
                patch.setattr(knn, "MOST_LOOKED_UP", -1)
                assert found == sql(asked, query)


@pytest.mark.doors("apsw")
def test_a_small_index_has_none_and_a_large_one_seals_its_tail(
    t: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "SMALL", 100)
    monkeypatch.setattr(blocks, "TAIL", 20)
    monkeypatch.setattr(blocks, "CHECKED", 10)
    t(f"INSERT INTO t {COUNTED.format(100)}")
    t("SELECT sqlembed_flush()")
    assert t(LISTED) == []
    t("INSERT INTO t VALUES (200, 'another')")
    t("SELECT sqlembed_flush()")
    assert t(LISTED) == [(1, 101, 101)]
    for n in range(201, 260):
        t("INSERT INTO t VALUES (?, 'row')", n)
        t("SELECT sqlembed_flush()")
        (first, *others) = t(LISTED)
        assert first == (1, 101, 101)
        assert 101 + sum(count for *_, count in others) >= n - 99 - 30
    assert len(others) <= 2  # one took in the other
    assert t("SELECT * FROM sqlembed_check") == []
    agrees(t)
    t("DELETE FROM t WHERE id > 50")
    t("SELECT sqlembed_flush()")
    assert t(LISTED) == []
    agrees(t)


def test_what_is_written_row_by_row_in_immediate_mode_is_sealed(
    sql: Sql, small: pytest.MonkeyPatch
) -> None:
    sql("CREATE TABLE t(id INTEGER PRIMARY KEY, body)")
    sql("""SELECT sqlembed_index('t', 'body', '{"mode": "immediate"}')""")
    for n in range(1, 40):
        sql("INSERT INTO t VALUES (?, 'row ' || ?)", n, n)
        assert sql("SELECT id FROM knn('t', 'row ' || ?, 1)", n) == [n]
    assert sql.one("SELECT sum(count) FROM sqlembed_block") >= 34
    assert len(sql(LISTED)) <= 5
    assert sql("SELECT * FROM sqlembed_check") == []
    agrees(sql)


def test_the_number_of_a_chunk_in_a_block_is_not_used_again(
    t: Sql, small: pytest.MonkeyPatch
) -> None:
    small.setattr(blocks, "LEAST_DEAD", 100)
    t(f"INSERT INTO t {COUNTED.format(40)}")
    t("SELECT sqlembed_flush()")
    last = t.one("SELECT max(last) FROM sqlembed_block")
    t("DELETE FROM t WHERE id > 30")
    t("SELECT sqlembed_flush()")
    t("INSERT INTO t VALUES (50, 'another')")
    t("SELECT sqlembed_flush()")
    assert t.one("SELECT max(chunk) FROM sqlembed_chunk_1") > last
    agrees(t)


@pytest.mark.doors("apsw")
def test_an_index_that_has_outgrown_its_frame_gets_a_new_one(
    t: Sql, small: pytest.MonkeyPatch
) -> None:
    def made_of() -> int:
        index = plans.run(t.db, catalog.find("t"))
        (block, *_) = plans.run(t.db, blocks.listed(index))
        return plans.run(t.db, blocks.read(index, block)).frame.made_of

    t(f"INSERT INTO t {COUNTED.format(20)}")
    t("SELECT sqlembed_flush()")
    assert made_of() == 20
    t("INSERT INTO t VALUES (21, 'another')")
    t("SELECT sqlembed_flush()")
    assert made_of() == 20
    t(f"INSERT INTO t(body) SELECT 'another ' || n FROM ({COUNTED.format(40)})")
    t("SELECT sqlembed_flush()")
    assert made_of() == 61
    assert t("SELECT * FROM sqlembed_check") == []
    agrees(t)


@pytest.mark.doors("apsw")
def test_what_another_seals_while_blocks_are_made_anew_loses_none(
    t: Sql, engine: LocalEngine, small: pytest.MonkeyPatch
) -> None:
    t(f"INSERT INTO t {COUNTED.format(9)}")
    t("SELECT sqlembed_flush()")
    assert t(LISTED) == [(1, 9, 9)]
    other = Sql(sqlembed.connect(t.db_path, engine=engine))
    plan = blocks.renew(plans.run(t.db, catalog.find("t")))

    def part(rows: Rows | None = None) -> Plan[Rows | None]:
        """What *plan* does up to the end of its transaction."""
        with suppress(StopIteration):
            request = plan.send(rows)  # type: ignore[arg-type]
            while request is not Boundary.COMMIT:
                request = plan.send((yield request))
            return (yield request)
        return None

    rows = plans.run(t.db, part())
    assert rows is not None
    other(f"INSERT INTO t SELECT n + 100, 'more ' || n FROM ({COUNTED.format(9)})")
    other("SELECT sqlembed_flush()")
    assert t(LISTED) == [(1, 18, 18)]  # what was made anew is in it
    while (rows := plans.run(t.db, part(rows))) is not None:
        pass
    assert t(LISTED) == [(1, 18, 18)]
    agrees(t)
    other.close()


@pytest.mark.doors("apsw")
def test_a_host_that_takes_no_large_values_can_store_and_search(
    t: Sql, small: pytest.MonkeyPatch
) -> None:
    install_fake("usual", dimension=384)
    t.db.limit(apsw.SQLITE_LIMIT_LENGTH, 1_000_000)
    small.setattr(blocks, "TAIL", 1024)
    small.setattr(blocks, "CHECKED", 256)
    t("SELECT sqlembed_reindex('t', 'usual')")
    t(f"INSERT INTO t {COUNTED.format(9000)}")
    t("SELECT sqlembed_flush()")
    t("INSERT INTO t VALUES (10000, 'another')")
    t("SELECT sqlembed_flush()")
    assert max(t("SELECT count FROM sqlembed_block")) > 2000
    resident.MEMORY.clear()
    assert t("SELECT id FROM knn('t', 'another', 1)") == [10000]


def test_of_many_that_are_nearly_the_same_the_nearest_is_found(
    t: Sql, small: pytest.MonkeyPatch
) -> None:
    small.setattr(blocks, "SMALL", 1 << 60)
    draw = np.random.default_rng(5)
    vectors = draw.standard_normal((900, 64))
    vectors[::3] = vectors[0] + 0.01 * draw.standard_normal((300, 64))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    texts = {f"row {n}": vector for n, vector in enumerate(vectors.astype("<f4"), 1)}
    embed = FakeModel.embed
    small.setattr(
        FakeModel,
        "embed",
        lambda self, asked, role: (
            np.array([texts[text] for text in asked])
            if all(text in texts for text in asked)
            else embed(self, asked, role)
        ),
    )
    t(f"INSERT INTO t {COUNTED.format(900)}")
    t("SELECT sqlembed_flush()")
    small.setattr(blocks, "SMALL", 0)
    t("SELECT sqlembed_flush()")
    assert t.one("SELECT sum(count) FROM sqlembed_block") >= 890
    for n in range(1, 900, 45):
        query = texts[f"row {n}"]
        assert t("SELECT id FROM knn('t', ?, 1)", query.tobytes()) == [n]


@pytest.mark.doors("apsw")
def test_with_no_memory_at_all_the_answers_are_the_same(t: Sql, small: pytest.MonkeyPatch) -> None:
    small.setattr(blocks, "BLOCK_BYTES", 1000)
    t(f"INSERT INTO t {COUNTED.format(100)}")
    t("SELECT sqlembed_flush()")
    assert len(t(LISTED)) > 5
    for bytes_ in ("0", "2500", "1000000"):
        small.setenv("SQLEMBED_INDEX_MEMORY", bytes_)
        resident.MEMORY.clear()
        agrees(t)
        assert resident.MEMORY.nbytes <= int(bytes_)
    assert resident.MEMORY.nbytes > 5000


@pytest.mark.doors("apsw")
def test_many_that_only_seem_nearer_do_not_keep_out_a_new_one(
    t: Sql, small: pytest.MonkeyPatch
) -> None:
    install_fake("flat", dimension=3)  # where codes tell little
    t("SELECT sqlembed_reindex('t', 'flat')")
    t(f"INSERT INTO t {COUNTED.format(2000)}")
    t("SELECT sqlembed_flush()")
    small.setattr(blocks, "TAIL", 1000)
    t(f"INSERT INTO t SELECT n + 2000, 'row ' || (n + 2000) FROM ({COUNTED.format(300)})")
    t("SELECT sqlembed_flush()")
    assert 1900 < t.one("SELECT max(last) FROM sqlembed_block") <= 2000
    for n in range(2001, 2301, 7):
        resident.MEMORY.clear()
        for _ in range(2):  # the tail is compared in SQL, then as it is remembered
            assert t.one("SELECT distance FROM knn('t', ?, 1)", f"row {n}") < 1e-6


@pytest.mark.doors("apsw")
def test_where_the_nearest_of_the_tail_wait_the_next_of_it_are_found(
    t: Sql, small: pytest.MonkeyPatch
) -> None:
    t(f"INSERT INTO t {COUNTED.format(200)}")
    t("INSERT INTO t(body) SELECT 'sun so far away from here ' || id FROM t LIMIT 8")
    t("SELECT sqlembed_flush()")
    small.setattr(blocks, "TAIL", 1000)
    t(f"INSERT INTO t SELECT n + 1000, 'sun ' || n FROM ({COUNTED.format(60)})")
    t("SELECT sqlembed_flush()")
    assert t.one("SELECT max(last) FROM sqlembed_block") > 200
    nearest = t("SELECT id FROM knn('t', 'sun', 30)")
    assert min(nearest) > 1000
    t("SELECT id FROM knn('t', 'sun', 30)")  # the tail is remembered
    t("UPDATE t SET body = 'row' WHERE id IN (SELECT value FROM json_each(?))", str(nearest[:20]))
    small.setattr(knn, "_exact", None)  # found without comparing every vector
    assert t("SELECT id FROM knn('t', 'sun', 3)") == nearest[20:23]


@pytest.mark.doors("apsw")
def test_who_search_at_once_share_what_they_read(
    t: Sql, engine: LocalEngine, small: pytest.MonkeyPatch
) -> None:
    small.setattr(blocks, "BLOCK_BYTES", 1000)
    t(f"INSERT INTO t {COUNTED.format(200)}")
    t("SELECT sqlembed_flush()")
    resident.MEMORY.clear()
    reads = list[int]()
    read = blocks.read

    def beside_another(index: Index, block: Listed) -> Plan[Codes]:
        """Read a block, while another search, begun in the middle of that, reads all."""
        reads.append(block.block)
        found = yield from read(index, block)
        if len(reads) == 1:
            assert t(NEAREST, "row 7")[0] == 7
        return found

    small.setattr(blocks, "read", beside_another)
    other = Sql(sqlembed.connect(t.db_path, engine=engine))
    assert other(NEAREST, "row 7")[0] == 7
    assert len(set(reads)) == len(t(LISTED)) > 10
    assert len(reads) == len(set(reads)) + 1  # the one that both had begun with
    every = t("SELECT block FROM sqlembed_block")
    held = sum(block.nbytes for block in resident.MEMORY.blocks(every).values())
    assert held <= resident.MEMORY.nbytes < 1.5 * held
    other.close()


@pytest.mark.doors("apsw")
@pytest.mark.parametrize("most", [0, 1000], ids=["blocks", "tail"])
def test_each_connection_finds_what_its_own_snapshot_has(
    t: Sql, engine: LocalEngine, small: pytest.MonkeyPatch, most: int
) -> None:
    """Writers that commit and roll back, and a reader that stays: all with one memory."""
    small.setattr(blocks, "SMALL", most)
    draw = Random(7)
    t("PRAGMA journal_mode = WAL")
    t(f"INSERT INTO t {COUNTED.format(60)}")
    t("SELECT sqlembed_flush()")
    others = [Sql(sqlembed.connect(t.db_path, engine=engine)) for _ in range(2)]
    for _ in range(30):
        others[0]("BEGIN")
        agrees(others[0])
        writer = draw.choice([t, others[1]])
        keeps, deletes = draw.random() < 0.5, draw.random() < 0.3
        writer("BEGIN")
        for _ in range(draw.randrange(1, 12)):
            key = draw.randrange(1, 80)
            if not deletes:
                writer("INSERT OR REPLACE INTO t VALUES (?, ?)", key, f"row {draw.randrange(90)}")
            writer("DELETE FROM t WHERE id = ?", draw.randrange(1, 80))
        writer("SELECT sqlembed_flush()")
        agrees(writer)
        agrees(others[0])
        writer("COMMIT" if keeps else "ROLLBACK")
        if draw.random() < 0.5:
            resident.MEMORY.clear()
        for each in (t, others[1], others[0]):  # the last one sees what was there before
            agrees(each)
        others[0]("COMMIT")
        if draw.random() < 0.2:
            t("SELECT sqlembed_repair()")
    for each in others:
        each.close()
    assert t("SELECT kind FROM sqlembed_check WHERE kind = 'codes'") == []


@pytest.mark.doors("apsw")
def test_blocks_of_few_wide_vectors_keep_up_with_what_is_written(
    sql: Sql, small: pytest.MonkeyPatch
) -> None:
    small.setattr(blocks, "CHECKED", 20)
    small.setattr(blocks, "BLOCK_BYTES", 520)  # four codes
    sql("CREATE TABLE t(id INTEGER PRIMARY KEY, body)")
    sql("""SELECT sqlembed_index('t', 'body', '{"mode": "immediate"}')""")
    for n in range(1, 101):
        sql("INSERT INTO t VALUES (?, 'row ' || ?)", n, n)
    assert sql.one("SELECT sum(count) FROM sqlembed_block") >= 70
    agrees(sql)
