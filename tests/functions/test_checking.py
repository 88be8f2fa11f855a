"""sqlembed_check and sqlembed_repair as SQL functions; tests/index/test_check.py has every kind."""

from harness import FakeModel, Sql

COLUMNS = "SELECT name FROM pragma_table_xinfo('sqlembed_check') WHERE hidden = 0"


def test_nothing_wrong_gives_no_rows(sms: Sql) -> None:
    assert sms("SELECT * FROM sqlembed_check") == []
    assert sms("SELECT * FROM sqlembed_check('SMS')") == []
    assert sms("SELECT * FROM sqlembed_check(NULL)") == []
    assert sms.one("SELECT sqlembed_repair()") == 0
    assert sms.one("SELECT sqlembed_repair('sms')") == 0
    assert sms.one("SELECT sqlembed_repair(NULL)") == 0


def test_a_row_says_what_is_wrong_and_what_to_do(sms: Sql) -> None:
    assert sms(COLUMNS) == ["name", "kind", "count", "example", "meaning"]
    sms("UPDATE sms SET body = 'unseen' WHERE id = 3")
    sms("DELETE FROM sqlembed_queue WHERE index_id = 1")
    ((name, kind, count, example, meaning),) = sms("SELECT * FROM sqlembed_check")
    assert (name, kind, count, example) == ("sms", "stale", 1, 3)
    assert meaning.endswith("sqlembed_repair() has them wait for a flush")
    assert sms("SELECT count(*) FROM sqlembed_check WHERE kind = 'stale'") == [1]


def test_a_repair_needs_no_model_until_the_flush(sms: Sql) -> None:
    sms("UPDATE sms SET body = 'unseen' WHERE id = 3")
    sms("DELETE FROM sqlembed_queue WHERE index_id = 1")
    FakeModel.texts.clear()
    assert sms.one("SELECT sqlembed_repair('sms')") == 1
    assert sms("SELECT * FROM sqlembed_check('sms')") == []
    assert FakeModel.texts == []
    assert sms("SELECT id FROM knn('sms', 'unseen', 1)") == [3]
    assert sms.one("SELECT sqlembed_flush()") == 1


def test_in_a_transaction_a_repair_belongs_to_it(sms: Sql) -> None:
    sms("DROP TRIGGER sqlembed_1_insert")
    sms("DELETE FROM sqlembed_word_1 WHERE rowid = 2")
    sms("BEGIN")
    assert sms.one("SELECT sqlembed_repair()") == 2
    assert sms("SELECT * FROM sqlembed_check") == []
    sms("ROLLBACK")
    assert sms("SELECT kind FROM sqlembed_check") == ["triggers", "words"]


def test_names_must_be_of_an_index(sms: Sql) -> None:
    assert "no index is called 'x'" in sms.error("SELECT * FROM sqlembed_check('x')")
    assert "no index is called 'x'" in sms.error("SELECT sqlembed_repair('x')")
    assert "the index is a text" in sms.error("SELECT * FROM sqlembed_check(5)")
    assert "the index is a text" in sms.error("SELECT sqlembed_repair(x'00')")


def test_a_repair_is_not_for_schemas(sms: Sql) -> None:
    sms("CREATE VIEW v AS SELECT sqlembed_repair() AS done")
    assert "unsafe use of sqlembed_repair" in sms.error("SELECT * FROM v")


def test_vacuum_changes_nothing_that_is_checked(sms: Sql) -> None:
    sms("DELETE FROM sms WHERE id = 2")
    sms("VACUUM")
    assert sms("SELECT * FROM sqlembed_check") == []
    sms("SELECT sqlembed_flush()")
    sms("VACUUM")
    assert sms("SELECT * FROM sqlembed_check") == []
