"""sqlembed_reindex: SQL on fake models."""

import pytest
from harness import FAILING, FakeModel, Sql

REINDEXING = "SELECT model, reindexing FROM sqlembed_status"
LATER = """SELECT sqlembed_reindex('sms', 'wide', '{"backlog": "later"}')"""
OURS = "SELECT name FROM sqlite_schema WHERE name LIKE 'sqlembed%' ORDER BY name"


def found(sql: Sql, text: str) -> list[tuple[object, int]]:
    """The nearest row, and whether it has exactly this text."""
    return sql("SELECT id, distance < 1e-6 FROM knn('sms', ?, 1)", text)


def tables(sql: Sql) -> set[str]:
    """The numbers of the indexes that have tables."""
    names = sql("SELECT name FROM sqlite_schema WHERE name GLOB 'sqlembed_*_[0-9]*'")
    return {part for name in names for part in name.split("_") if part.isdigit() and part != "00"}


def test_another_model_takes_the_place_of_the_first(sms: Sql) -> None:
    assert sms.one("SELECT sqlembed_reindex('SMS', 'wide')") == 4
    status = (
        "SELECT name, model, dimension, mode, indexed, waiting, reindexing FROM sqlembed_status"
    )
    assert sms(status) == [("sms", "wide", 128, "deferred", 4, 0, None)]
    assert found(sms, "see you at dinner") == [(3, 1)]
    assert tables(sms) == {"2"}
    sms("INSERT INTO sms(body) VALUES ('something new')")
    assert found(sms, "something new") == [(5, 1)]
    assert sms.one("SELECT count(*) FROM sqlembed_queue WHERE index_id > 0") == 1
    assert sms.one("SELECT sqlembed_flush()") == 1
    assert sms.one("SELECT sqlembed_reindex('sms', 'wide')") == 0


def test_later_leaves_the_rows_to_a_flush_and_searches_go_on(sms: Sql) -> None:
    FakeModel.texts.clear()
    assert sms.one(LATER) == 0
    assert FakeModel.texts == []
    assert sms(REINDEXING) == [("fake", "wide, 0 % filled")]
    sms("INSERT INTO sms(body) VALUES ('while it is filled')")
    sms("UPDATE sms SET body = 'changed meanwhile' WHERE id = 1")
    sms("DELETE FROM sms WHERE id = 2")
    assert found(sms, "while it is filled") == [(5, 1)]
    assert sms.one("SELECT sqlembed_flush('sms', 1)") == 2  # one of each
    assert sms("SELECT model, waiting FROM sqlembed_status") == [("fake", 2)]
    assert sms(REINDEXING) == [("fake", "wide, 20 % filled")]
    assert found(sms, "changed meanwhile") == [(1, 1)]
    assert sms.one("SELECT sqlembed_flush()") == 6
    assert sms(REINDEXING) == [("wide", None)]
    assert sms("SELECT indexed, waiting FROM sqlembed_status") == [(4, 0)]
    for text, key in (("while it is filled", 5), ("changed meanwhile", 1), ("late again", 4)):
        assert found(sms, text) == [(key, 1)]


def test_the_same_call_goes_on_another_begins_anew_and_the_present_settings_cancel(
    sms: Sql,
) -> None:
    sms(LATER)
    sms("SELECT sqlembed_flush('sms', 1)")
    sms(LATER)
    assert sms(REINDEXING) == [("fake", "wide, 25 % filled")]
    FakeModel.texts.clear()
    sms("""SELECT sqlembed_reindex('sms', 'other', '{"backlog": "later"}')""")
    assert sms(REINDEXING) == [("fake", "other, 0 % filled")]
    assert sms.one("SELECT sqlembed_reindex('sms')") == 0
    assert sms(REINDEXING) == [("fake", None)]
    assert tables(sms) == {"1"}
    assert FakeModel.texts == []
    assert sms.one("SELECT count(*) FROM sqlembed_backlog") == 0


def test_drop_takes_what_it_was_to_become_with_it(sms: Sql) -> None:
    before = sms(OURS)
    sms(LATER)
    sms("INSERT INTO sms(body) VALUES ('still waiting')")
    sms("SELECT sqlembed_drop('sms')")
    assert tables(sms) == set()
    assert sms("SELECT * FROM sqlembed_catalog") == []
    sms("SELECT sqlembed_index('sms', 'body')")
    assert len(sms(OURS)) == len(before)


def test_everything_belongs_to_the_callers_transaction(sms: Sql) -> None:
    before = sms(OURS)
    sms("BEGIN")
    assert sms.one("SELECT sqlembed_reindex('sms', 'wide')") == 4
    assert found(sms, "late again") == [(4, 1)]
    assert sms(REINDEXING) == [("wide", None)]
    sms("ROLLBACK")
    assert sms(OURS) == before
    assert sms(REINDEXING) == [("fake", None)]
    assert found(sms, "late again") == [(4, 1)]
    sms("BEGIN")
    assert sms.one("SELECT sqlembed_reindex('sms', 'wide')") == 4
    sms("COMMIT")
    assert sms(REINDEXING) == [("wide", None)]


def test_inside_a_statement_that_writes(sms: Sql) -> None:
    sms("CREATE TABLE log(n)")
    sms("INSERT INTO log VALUES (sqlembed_reindex('sms', 'wide'))")
    assert sms("SELECT n FROM log") == [4]
    assert sms(REINDEXING) == [("wide", None)]
    assert found(sms, "late again") == [(4, 1)]
    sms("SELECT sqlembed_flush()")
    assert tables(sms) == {"2"}


def test_a_table_cannot_be_dropped_while_the_connection_reads_and_the_next_writer_does(
    sms: Sql,
) -> None:
    rows = sms("SELECT sqlembed_reindex('sms', 'wide') FROM sms LIMIT 2")
    assert rows == [4, 0]
    assert sms(REINDEXING) == [("wide", None)]
    assert tables(sms) == {"1", "2"}
    assert found(sms, "late again") == [(4, 1)]
    sms("INSERT INTO sms(body) VALUES ('one more')")
    assert sms.one("SELECT sqlembed_flush()") == 1
    assert tables(sms) == {"2"}


def test_rows_that_fail_do_not_hold_it_up(sms: Sql) -> None:
    sms("INSERT INTO sms(body) VALUES (?)", FAILING)
    assert "told to fail" in sms.error("SELECT sqlembed_reindex('sms', 'wide')")
    assert sms(REINDEXING) == [("wide", None)]
    assert sms("SELECT indexed, waiting, failed FROM sqlembed_status") == [(4, 1, 1)]
    sms("UPDATE sms SET body = 'mended' WHERE id = 5")
    assert sms.one("SELECT sqlembed_flush()") == 1


@pytest.mark.parametrize("fail", [10, 11])
def test_it_does_not_take_its_place_where_many_rows_would_be_lost(
    sms: Sql, monkeypatch: pytest.MonkeyPatch, fail: int
) -> None:
    for n in range(fail):
        sms("INSERT INTO sms(body) VALUES (?)", f"fits in fake alone {n}")
    sms("SELECT sqlembed_flush()")
    embed = FakeModel.embed

    def narrow(self: FakeModel, texts: list[str], role: str) -> object:
        if self.manifest.name == "wide" and any("alone" in text for text in texts):
            raise RuntimeError("too much for wide")
        return embed(self, texts, role)

    monkeypatch.setattr(FakeModel, "embed", narrow)
    error = sms.error("SELECT sqlembed_reindex('sms', 'wide')")
    if fail == 10:
        assert "10 rows, first key 5 cannot be stored: too much for wide" in error
        assert sms("SELECT model, indexed, failed FROM sqlembed_status") == [("wide", 4, 10)]
        return
    assert "index sms stays as it is: 11 rows that it has would be lost" in error
    assert "too much for wide" in error
    assert sms(REINDEXING) == [("fake", "wide, 26 % filled, 11 rows fail")]
    assert found(sms, "fits in fake alone 3") == [(8, 1)]
    assert sms.one("SELECT sqlembed_flush()") == 0
    monkeypatch.setattr(FakeModel, "embed", embed)
    assert sms.one("SELECT sqlembed_retry('sms')") == 11
    assert sms.one("SELECT sqlembed_flush('sms')") == 11
    assert sms("SELECT model, indexed, failed FROM sqlembed_status") == [("wide", 15, 0)]


def test_in_immediate_mode_it_is_filled_by_flushes_and_then_at_once(sms: Sql) -> None:
    sms("CREATE TABLE t(id INTEGER PRIMARY KEY, body)")
    sms("INSERT INTO t VALUES (1, 'first'), (2, 'second')")
    sms("""SELECT sqlembed_index('t', 'body', '{"mode": "immediate"}')""")
    sms("""SELECT sqlembed_reindex('t', 'wide', '{"backlog": "later"}')""")
    FakeModel.texts.clear()
    sms("UPDATE t SET body = 'written at once' WHERE id = 1")
    assert FakeModel.texts == ["written at once"]
    state = "SELECT model, mode, indexed, waiting FROM sqlembed_status WHERE name = 't'"
    assert sms(state) == [("fake", "immediate", 2, 0)]
    assert sms.one("SELECT sqlembed_flush('t')") == 2
    assert sms(state) == [("wide", "immediate", 2, 0)]
    FakeModel.texts.clear()
    sms("INSERT INTO t VALUES (3, 'third')")
    assert FakeModel.texts == ["third"]
    assert sms(state) == [("wide", "immediate", 3, 0)]


@pytest.mark.parametrize(
    "table", ["(slug TEXT PRIMARY KEY, body)", "(a TEXT, b, body, PRIMARY KEY(a, b))"]
)
@pytest.mark.parametrize("rowid", ["", "WITHOUT ROWID"])
def test_other_keys(sql: Sql, table: str, rowid: str) -> None:
    sql(f"CREATE TABLE t{table} {rowid}")
    sql("PRAGMA recursive_triggers = OFF")
    two = "PRIMARY KEY(a" in table
    insert = (
        "INSERT OR REPLACE INTO t VALUES (?, 1, ?)"
        if two
        else "INSERT OR REPLACE INTO t VALUES (?, ?)"
    )
    for n in range(8):
        sql(insert, f"key {n}", f"text number {n}")
    sql("SELECT sqlembed_index('t', 'body')")
    sql("""SELECT sqlembed_reindex('t', 'wide', '{"backlog": "later"}')""")
    first = "a" if two else "slug"
    sql(f"DELETE FROM t WHERE {first} IN ('key 2', 'key 7')")
    sql(insert, "key 9", "a ninth text")
    sql(insert, "key 3", "replaced text")
    sql("SELECT sqlembed_flush('t', 4)")
    sql(f"DELETE FROM t WHERE {first} = 'key 9'")
    sql(insert, "key 2", "back again")
    sql("SELECT sqlembed_flush()")
    assert sql("SELECT model, indexed, waiting FROM sqlembed_status") == [("wide", 7, 0)]
    for key, text in ((2, "back again"), (3, "replaced text"), (5, "text number 5")):
        shown = f'["key {key}",1]' if two else f"key {key}"
        assert sql("SELECT id, distance < 1e-6 FROM knn('t', ?, 1)", text) == [(shown, 1)]
    assert sql.one("SELECT count(*) FROM sqlembed_key_2") == 7


def test_bad_input_is_an_error_in_words_and_changes_nothing(sms: Sql) -> None:
    before = sms(OURS)
    for arguments, message in (
        ("'x', 'wide'", "NotFoundError: no index is called 'x'; the indexes are sms"),
        ("NULL, 'wide'", "InputError: the index is a text; got NULL"),
        ("'sms', 5", "InputError: the model is a name; got the integer 5"),
        ("'sms', 'nobody'", "NotFoundError: no model is called 'nobody'"),
        ("'sms', 'all-MiniLM-L6-v2'", "ModelMissingError: "),
        ("'sms', 'wide', '{\"tokens\": 9}'", "OptionError: no option is called 'tokens'; the options are backlog"),
        ("'sms', 'wide', '{\"backlog\": 5}'", 'OptionError: option backlog is "now" or "later"; got 5'),
    ):  # fmt: skip
        assert sms.error(f"SELECT sqlembed_reindex({arguments})").startswith(message)
    assert sms(OURS) == before
