"""sqlembed_alter: SQL on fake models."""

import pytest
from harness import FakeModel, Sql

LONG = "one two three four five six seven eight nine ten. eleven twelve thirteen fourteen fifteen"
SHOWN = "SELECT name, model, mode, expression, indexed, chunks, waiting FROM sqlembed_status"


def options(sql: Sql) -> str:
    (made,) = sql("SELECT options FROM sqlembed_catalog")
    return str(made)


def test_a_name_or_a_mode_changes_in_place(sms: Sql) -> None:
    sms("""SELECT sqlembed_reindex('sms', 'wide', '{"backlog": "later"}')""")
    assert (
        sms.one("""SELECT sqlembed_alter('SMS', '{"name": "texts", "mode": "immediate"}')""") == 0
    )
    assert sms(SHOWN) == [("texts", "fake", "immediate", "body", 4, 4, 0)]
    assert sms("SELECT reindexing FROM sqlembed_status") == ["wide, 0 % filled"]
    sms("INSERT INTO sms(body) VALUES ('at once')")
    assert sms(SHOWN) == [("texts", "fake", "immediate", "body", 5, 5, 0)]
    assert sms.one("SELECT sqlembed_flush('texts')") == 5
    assert sms(SHOWN) == [("texts", "wide", "immediate", "body", 5, 5, 0)]
    assert sms.one("""SELECT sqlembed_alter('texts', '{"mode": "deferred"}')""") == 0
    sms("INSERT INTO sms(body) VALUES ('later')")
    assert sms(SHOWN) == [("texts", "wide", "deferred", "body", 5, 5, 1)]


@pytest.mark.parametrize(
    "change", ['{"words": "porter unicode61"}', '{"words": null}', '{"tokens": 12, "overlap": 0}']
)
def test_chunks_that_stay_the_same_cost_no_model(sms: Sql, change: str) -> None:
    sms("INSERT INTO sms(body) VALUES ('a fifth')")
    sms("SELECT sqlembed_flush()")
    sms("SELECT sqlembed_cache_clear()")
    sms.engine.cache_clear()  # type: ignore[union-attr]
    FakeModel.texts.clear()
    assert sms.one("SELECT sqlembed_alter('sms', ?)", change) == 5
    assert FakeModel.texts == []
    assert sms("SELECT id, distance < 1e-6 FROM knn('sms', 'a fifth', 1)") == [(5, 1)]


def test_words_are_split_as_told_from_then_on(sms: Sql) -> None:
    worded = "SELECT id FROM search('sms', 'winning', 4) WHERE bm25 > 0"
    assert sms(worded) == []
    sms("""SELECT sqlembed_alter('sms', '{"words": "porter unicode61"}')""")
    assert sms(worded) == [2]
    sms("""SELECT sqlembed_alter('sms', '{"words": null}')""")
    assert sms(worded) == []
    assert options(sms) == "{}"


def test_chunks_become_smaller_and_large_again(sms: Sql) -> None:
    sms("UPDATE sms SET body = ? WHERE id = 1", LONG)
    sms("SELECT sqlembed_flush()")
    assert sms("SELECT chunks FROM sqlembed_status") == [5]
    assert sms.one("""SELECT sqlembed_alter('sms', '{"tokens": 12}')""") == 4
    assert sms("SELECT chunks FROM sqlembed_status") == [5]
    assert '"tokens": 12' in options(sms)
    assert sms.one("""SELECT sqlembed_alter('sms', '{"tokens": 12}')""") == 0
    assert sms.one("""SELECT sqlembed_alter('sms', '{"tokens": null}')""") == 4
    assert '"tokens"' not in options(sms)


def test_another_expression(sms: Sql) -> None:
    sms("UPDATE sms SET sender = 'Ann' WHERE id = 1")
    sms("SELECT sqlembed_flush()")
    FakeModel.texts.clear()
    change = """{"expression": "coalesce(sender || ': ', '') || body"}"""
    assert sms.one("SELECT sqlembed_alter('sms', ?)", change) == 4
    assert FakeModel.texts == ["Ann: dinner at eight"]
    assert sms("SELECT id, distance < 1e-6 FROM knn('sms', 'Ann: dinner at eight', 1)") == [(1, 1)]
    sms("UPDATE sms SET sender = 'Ben' WHERE id = 2")
    assert sms("SELECT waiting FROM sqlembed_status") == [1]


def test_several_at_once_and_later(sms: Sql) -> None:
    change = '{"model": "wide", "tokens": 14, "name": "n", "backlog": "later"}'
    assert sms.one("SELECT sqlembed_alter('sms', ?)", change) == 0
    assert sms(SHOWN) == [("n", "fake", "deferred", "body", 4, 4, 0)]
    assert sms.one("SELECT sqlembed_flush()") == 4
    assert sms(SHOWN) == [("n", "wide", "deferred", "body", 4, 4, 0)]
    assert '"tokens": 14' in options(sms)


def test_nothing_to_change_changes_nothing(sms: Sql) -> None:
    for change in ("{}", '{"mode": "deferred"}', '{"name": "sms"}', '{"model": "fake"}'):
        assert sms.one("SELECT sqlembed_alter('sms', ?)", change) == 0
    assert sms("SELECT index_id, state FROM sqlembed_catalog") == [(1, "live")]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ('{"expr": 1}', "OptionError: no option is called 'expr'; the options are name, model, mode, expression, tokens, overlap, words, backlog"),
        ("no json", 'OptionError: options are a JSON object, such as {"tokens": 128}'),
        (None, "InputError: options is a text; got NULL"),
        ('{"tokens": "x"}', "OptionError: option tokens is a whole number"),
        ('{"tokens": 3}', "OptionError: option tokens is a whole number from 10 to 16"),
        ('{"mode": null}', 'OptionError: option mode is "deferred" or "immediate"; got null'),
        ('{"model": "nobody"}', "NotFoundError: no model is called 'nobody'"),
        ('{"expression": "nosuch"}', "NotFoundError: index sms: the expression nosuch cannot be indexed: no such column"),
        ('{"expression": "random()"}', "InputError: the expression random()"),
        ('{"name": "wide"}', "SchemaError: index sms cannot be called wide: there is one already"),
        ('{"name": "SQLembed_shadow_1"}', "OptionError: option name does not begin with sqlembed_"),
        ('{"words": "nosuch"}', "OptionError: the words of index sms cannot be kept with the tokenizer 'nosuch'"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_an_error_in_words(sms: Sql, change: str | None, message: str) -> None:
    sms("""SELECT sqlembed_index('sms', 'body', '{"name": "wide", "model": "wide"}')""")
    before = sms("SELECT name FROM sqlite_schema")
    assert sms.error("SELECT sqlembed_alter('sms', ?)", change).startswith(message)
    assert sms("SELECT name FROM sqlite_schema") == before
    assert sms.error("""SELECT sqlembed_index('sms', 'body', '{"name": "sqlembed_x"}')""").startswith("OptionError: option name")  # fmt: skip
