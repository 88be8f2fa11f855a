"""chunks(), and indexes that are told how to cut: through SQL, on the fake model and real weights."""

import json
from itertools import pairwise
from pathlib import Path

import pytest
from harness import FakeModel, Sql, install_fake

LONG = (
    "One two three four. Five six seven eight. Nine ten eleven twelve. Thirteen fourteen fifteen."
)
LICENCE = (Path(__file__).parents[2] / "LICENSE-APACHE").read_text()
SCRIPTS = {
    "Arabic": "ذهبت إلى السوق صباح اليوم. اشتريت الخبز واللبن! هل تريد شيئا؟ " * 40,
    "Hebrew, pointed": "בְּרֵאשִׁית בָּרָא אֱלֹהִים אֵת הַשָּׁמַיִם וְאֵת הָאָרֶץ. " * 60,
    "Chinese": "我今天早上去了市场。买了面包和牛奶！你要什么吗？" * 60,
    "Thai": "ภาษาไทยไม่มีช่องว่างระหว่างคำ" * 200,
    "families": "👨‍👩‍👧‍👦👩🏽‍🚀🏳️‍🌈🇩🇪" * 300,
    "marks": "e\u0301a\u0308\u0323o\u0302\u0301" * 500,
}


def test_a_text_that_fits_is_one_chunk(sql: Sql) -> None:
    assert sql("SELECT ordinal, start, stop, tokens, text FROM chunks('one two three')") == [
        (0, 0, 13, 5, "one two three")
    ]
    assert sql("SELECT ordinal, start, stop, tokens, text FROM chunks('')") == [(0, 0, 0, 2, "")]
    assert FakeModel.texts == []


def test_null_gives_no_rows(sql: Sql) -> None:
    assert sql("SELECT * FROM chunks(NULL)") == []
    assert sql("SELECT * FROM chunks(NULL, 5, 'nonsense')") == []
    assert len(sql("SELECT * FROM chunks('a', NULL, NULL)")) == 1


def test_a_long_text_is_cut_where_substr_finds_it_again(sql: Sql) -> None:
    rows = sql("""SELECT start, stop, tokens, substr(?1, start + 1, stop - start) = text,
        token_count(text) FROM chunks(?1)""", LONG)  # fmt: skip
    assert [row[:2] for row in rows] == [
        (0, LONG.index("Thirteen")),
        (LONG.index("twelve."), len(LONG)),  # one token is repeated: a tenth of 16
    ]
    assert all(row[2] == row[4] <= 16 and row[3] for row in rows)


def test_the_size_and_the_overlap_can_be_told(sql: Sql) -> None:
    query = "SELECT text FROM chunks(?, 'fake', ?)"
    small = sql(query, LONG, '{"tokens": 10, "overlap": 0}')
    assert "".join(small) == LONG
    assert small == [LONG[: LONG.index("Nine")], LONG[LONG.index("Nine") :]]
    overlapping = sql(query, LONG, '{"tokens": 14, "overlap": 4}')
    assert overlapping[0].endswith("Nine ten eleven twelve. ")
    assert overlapping[1] == "Nine ten eleven twelve. Thirteen fourteen fifteen."


def test_it_joins_with_a_table(sql: Sql) -> None:
    sql("CREATE TABLE t(id INTEGER PRIMARY KEY, body)")
    sql("INSERT INTO t VALUES (1, 'short'), (2, ?), (3, NULL)", LONG)
    joined = "SELECT t.id, c.ordinal FROM t, chunks(t.body) AS c ORDER BY 1, 2"
    assert sql(joined) == [(1, 0), (2, 0), (2, 1)]
    assert sql("SELECT count(embed(text)) FROM chunks(?)", LONG) == [2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("5", "InputError: what is cut into chunks is a text; got the integer 5; convert it"),
        ("x'00'", "InputError: what is cut into chunks is a text; got a BLOB of 1 bytes"),
        ("'a', 5", "InputError: the model is a name; got the integer 5"),
        ("'a', 'nobody'", "NotFoundError: no model is called 'nobody'"),
        ("'a', 'judge'", "InputError: judge is a reranker"),
        ("'a', 'fake', 5", "InputError: options is a text; got the integer 5"),
        ("'a', 'fake', 'x'", "OptionError: options are a JSON object, such as {\"tokens\": 128}; got 'x'"),
        ("'a', 'fake', '[]'", "OptionError: options are a JSON object"),
        ("'a', 'fake', '{\"size\": 5}'", "OptionError: no option is called 'size'; the options are tokens, overlap"),
        ("'a', 'fake', '{\"tokens\": \"5\"}'", 'OptionError: option tokens is a whole number; got "5"'),
        ("'a', 'fake', '{\"tokens\": true}'", "OptionError: option tokens is a whole number; got true"),
        ("'a', 'fake', '{\"tokens\": 12.5}'", "OptionError: option tokens is a whole number; got 12.5"),
        ("'a', 'fake', '{\"tokens\": null}'", "OptionError: option tokens is a whole number; got null"),
        ("'a', 'fake', '{\"tokens\": 9}'", "OptionError: option tokens is a whole number from 10 to 16, which fake reads; got 9"),
        ("'a', 'fake', '{\"tokens\": 17}'", "OptionError: option tokens is a whole number from 10 to 16, which fake reads; got 17"),
        ("'a', 'fake', '{\"overlap\": 8}'", "OptionError: option overlap is a whole number from 0 to less than half of the 16 tokens of a chunk; got 8"),
        ("'a', 'fake', '{\"overlap\": -1}'", "OptionError: option overlap is a whole number from 0"),
    ],
)  # fmt: skip
def test_bad_input_is_an_error_in_words(sql: Sql, arguments: str, message: str) -> None:
    install_fake("judge", "reranker", 1)
    assert sql.error(f"SELECT * FROM chunks({arguments})").startswith(message)


def test_the_text_must_be_given(sql: Sql) -> None:
    error = sql.error("SELECT * FROM chunks")
    assert "chunks(original [, model] [, options]): original is missing" in error


def indexed(sql: Sql, options: dict[str, object]) -> None:
    sql("CREATE TABLE t(id INTEGER PRIMARY KEY, body)")
    sql("INSERT INTO t VALUES (1, ?)", LONG)
    sql("SELECT sqlembed_index('t', 'body', ?)", json.dumps(options))


def test_an_index_keeps_how_its_texts_are_cut(sql: Sql) -> None:
    indexed(sql, {"tokens": 10, "overlap": 0})
    assert sql("SELECT chunks FROM sqlembed_status") == [2]
    (kept,) = sql("SELECT options FROM sqlembed_catalog")
    assert json.loads(kept) | {"tokens": 10, "overlap": 0} == json.loads(kept)
    sql("INSERT INTO t VALUES (2, ?)", LONG.replace("Five", "Fifty"))
    row = "SELECT id, text FROM knn('t', 'Fifty', 1)"
    found = [(2, "One two three four. Fifty six seven eight. ")]
    assert sql(row) == found
    assert sql("SELECT sqlembed_flush()") == [1]
    assert sql(row) == found
    assert sql("SELECT chunks FROM sqlembed_status") == [4]


def test_a_search_computes_what_was_remembered_only_whole(sql: Sql) -> None:
    indexed(sql, {"tokens": 10, "overlap": 0})
    short = "A bee sees dew on leaves. Every fox gets his ink."
    sql("SELECT embed(?)", short)
    sql("INSERT INTO t VALUES (2, ?)", short)
    assert sql("SELECT text, coverage FROM knn('t', 'A bee sees dew', 1)") == [
        ("A bee sees dew on leaves. ", 1.0)
    ]


def test_what_an_index_was_not_told_it_does_not_keep(sms: Sql) -> None:
    (kept,) = sms("SELECT options FROM sqlembed_catalog")
    assert set(json.loads(kept)) == {"words"}


@pytest.mark.parametrize("backlog", ["now", "later"])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tokens": 17}, "OptionError: option tokens is a whole number from 10 to 16"),
        ({"tokens": "12"}, 'OptionError: option tokens is a whole number; got "12"'),
        ({"tokens": 10, "overlap": 5}, "OptionError: option overlap is a whole number from 0 to less than half of the 10"),
    ],
)  # fmt: skip
def test_an_index_that_could_not_be_filled_is_not_made(
    sql: Sql, backlog: str, options: dict[str, object], message: str
) -> None:
    sql("CREATE TABLE t(id INTEGER PRIMARY KEY, body)")
    given = json.dumps({"backlog": backlog, **options})
    assert sql.error("SELECT sqlembed_index('t', 'body', ?)", given).startswith(message)
    assert sql("SELECT name FROM sqlite_schema WHERE name LIKE 'sqlembed%'") == []


def test_an_option_of_a_newer_sqlembed_is_refused(sms: Sql) -> None:
    sms("""UPDATE sqlembed_catalog SET options = '{"colour": "blue"}'""")
    assert "an index was made with the option colour" in sms.error("SELECT * FROM knn('sms', 'x')")


def test_a_changed_text_computes_only_its_changed_chunks(sql: Sql) -> None:
    sql("CREATE TABLE t(id INTEGER PRIMARY KEY, body)")
    sql("INSERT INTO t VALUES (1, ?)", LICENCE)
    sql("SELECT sqlembed_index('t', 'body')")
    first = len(FakeModel.texts)
    assert first > 100
    FakeModel.texts.clear()
    sql("UPDATE t SET body = replace(body, 'January 2004', 'in the January of 2004')")
    sql("SELECT sqlembed_flush()")
    assert 1 <= len(FakeModel.texts) < 10
    stored = sql("SELECT start, stop FROM sqlembed_chunk_1 ORDER BY ordinal")
    assert stored == sql("SELECT c.start, c.stop FROM t, chunks(t.body) AS c ORDER BY c.ordinal")


@pytest.mark.model
@pytest.mark.parametrize("model", ["all-MiniLM-L6-v2", "multilingual-e5-small"])
@pytest.mark.parametrize("text", [*SCRIPTS.values(), LICENCE], ids=[*SCRIPTS, "English"])
def test_every_script_is_cut_to_size_by_the_real_tokenizer(
    real: Sql, model: str, text: str
) -> None:
    rows = real(
        """SELECT ordinal, start, stop, tokens, token_count(text, ?2),
            substr(?1, start + 1, stop - start) = text FROM chunks(?1, ?2, '{"tokens": 64}')""",
        text, model,
    )  # fmt: skip
    assert rows[0][1] == 0 and rows[-1][2] == len(text)
    for before, after in pairwise(rows):
        assert before[1] < after[1] <= before[2] < after[2]
    for ordinal, (n, _, _, tokens, counted, same) in enumerate(rows):
        assert (n, same) == (ordinal, 1)
        assert tokens == counted <= 64


@pytest.mark.model
def test_the_best_chunk_of_a_long_text_is_found(real: Sql) -> None:
    real("CREATE TABLE t(id INTEGER PRIMARY KEY, body)")
    real("INSERT INTO t VALUES (1, ?), (2, 'Dinner at eight')", LICENCE)
    real("""SELECT sqlembed_index('t', 'body', '{"tokens": 96, "overlap": 12}')""")
    ((id_, text, start, stop),) = real(
        "SELECT id, text, start, stop FROM knn('t', 'may I use the names of the trademarks?', 1)"
    )
    assert id_ == 1 and LICENCE[start:stop] == text
    assert "6. Trademarks." in text
