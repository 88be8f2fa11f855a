"""embed, embed_query, embed_each, token_count, vec_mean: through SQL, on the fake model."""

import json

import numpy as np
import pytest
from harness import FakeModel, Sql


def vector(blob: bytes) -> np.ndarray:
    return np.frombuffer(blob, "<f4")


def test_embed_gives_a_unit_vector_that_sqlite_vec_reads(sql: Sql) -> None:
    blob = sql.one("SELECT embed('hello there')")
    assert len(blob) == 64 * 4
    assert np.linalg.norm(vector(blob)) == pytest.approx(1, abs=1e-6)
    assert len(json.loads(sql.one("SELECT vec_to_json(embed('hello there'))"))) == 64
    assert sql.one("SELECT vec_distance_cosine(embed('a b'), embed('a b'))") == pytest.approx(
        0, abs=1e-6
    )


@pytest.mark.parametrize(
    "call", ["embed(NULL)", "embed_query(NULL)", "token_count(NULL)", "embed(NULL, 'fake')"]
)
def test_null_in_null_out(sql: Sql, call: str) -> None:
    assert sql.one(f"SELECT {call}") is None


def test_the_empty_text_is_a_text(sql: Sql) -> None:
    assert len(sql.one("SELECT embed('')")) == 256


def test_the_same_text_is_computed_once(sql: Sql) -> None:
    for _ in range(3):
        sql("SELECT embed('hello')")
    assert FakeModel.texts == ["hello"]


def test_embed_is_called_once_in_a_statement_over_many_rows(sql: Sql) -> None:
    sql("CREATE TABLE t(v)")
    for n in range(20):
        sql("INSERT INTO t VALUES (embed(?))", f"row {n}")
    FakeModel.texts.clear()
    assert len(sql("SELECT vec_distance_cosine(embed('question'), v) FROM t")) == 20
    assert FakeModel.texts == ["question"]


def test_a_query_is_not_a_document_where_prompts_differ(sql: Sql) -> None:
    assert sql.one("SELECT embed('x', 'other') = embed_query('x', 'other')") == 0
    assert sql.one("SELECT embed('x', 'fake') = embed_query('x', 'fake')") == 1


def test_models_have_their_own_vectors(sql: Sql) -> None:
    assert sql.one("SELECT embed('x', 'other') = embed('x', 'fake')") == 0
    assert len(sql.one("SELECT embed('x', 'wide')")) == 512


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("embed(5)", "InputError: what is embedded is a text; got the integer 5; convert it: CAST(x AS TEXT)"),
        ("embed(x'00')", "InputError: what is embedded is a text; got a BLOB of 1 bytes"),
        ("embed('x', 'fak')", "NotFoundError: no model is called 'fak'; the models are"),
        ("embed('x', 7)", "InputError: the model is a name; got the integer 7"),
        ("embed('x', '../fake')", "NotFoundError: no model is called '../fake'"),
        ("embed('x', 'judge')", "NotFoundError: no model is called 'judge'"),
        ("embed()", "SQLError: wrong number of arguments to function embed()"),
        ("token_count(1.5)", "InputError: what is counted is a text; got the number 1.5"),
        ("vec_mean('x')", "VectorError: vec_mean() takes vectors, as embed() gives them; got the text 'x'"),
        ("vec_mean(x'000000')", "VectorError: vec_mean()'s vector is a BLOB of 3 bytes"),
    ],
)  # fmt: skip
def test_bad_input_is_an_error_in_words(sql: Sql, call: str, message: str) -> None:
    assert sql.error(f"SELECT {call}").startswith(message)


def test_a_missing_model_names_the_command_that_gets_it(sql: Sql) -> None:
    error = sql.error("SELECT embed('x', 'all-MiniLM-L6-v2')")
    assert error.startswith("ModelMissingError") and "sqlembed pull all-MiniLM-L6-v2" in error


def test_embed_works_in_views_triggers_and_generated_columns(sql: Sql) -> None:
    sql("CREATE TABLE t(body, v AS (embed(body)) STORED)")
    sql("CREATE VIEW near AS SELECT body, vec_distance_cosine(v, embed('b')) AS d FROM t")
    sql("CREATE TABLE log(v)")
    sql("CREATE TRIGGER keep AFTER INSERT ON t BEGIN INSERT INTO log VALUES (embed(NEW.body)); END")
    sql("INSERT INTO t(body) VALUES ('a'), ('b')")
    assert sql("SELECT body FROM near ORDER BY d") == ["b", "a"]
    assert sql.one("SELECT count(*) FROM log JOIN t ON log.v = t.v") == 2
    sql("PRAGMA trusted_schema = OFF")
    assert sql("SELECT body FROM near ORDER BY d") == ["b", "a"]


def test_what_changes_state_is_refused_in_a_schema(sql: Sql) -> None:
    for call in (
        "sqlembed_flush()",
        "sqlembed_cache_clear()",
        "sqlembed_unload('fake')",
        "sqlembed_drop('x')",
    ):
        sql(f"CREATE VIEW bad AS SELECT {call} AS x")
        assert "unsafe use" in sql.error("SELECT * FROM bad")
        sql("DROP VIEW bad")


def test_token_count(sql: Sql) -> None:
    assert sql("SELECT token_count('one two three'), token_count('', 'wide')") == [(5, 2)]


def test_embed_each_embeds_in_one_batch_and_isolates_what_fails(sql: Sql) -> None:
    rows = sql(
        """SELECT ordinal, embedding = embed('a b'), error FROM embed_each('["a b", null, 5, "c"]')"""
    )
    assert rows == [
        (0, 1, None),
        (1, None, None),
        (2, None, "an element is a text or null; got 5"),
        (3, 0, None),
    ]
    assert FakeModel.texts == ["a b", "c"]
    assert sql("SELECT * FROM embed_each(NULL)") == []
    assert sql("SELECT length(embedding) FROM embed_each('[\"x\"]', 'wide')") == [512]


@pytest.mark.parametrize("bad", ["no json", "{}", "5"])
def test_embed_each_takes_a_json_array(sql: Sql, bad: str) -> None:
    assert sql.error("SELECT * FROM embed_each(?)", bad).startswith(
        "InputError: embed_each() takes a JSON array"
    )
    assert "texts is missing" in sql.error("SELECT * FROM embed_each")


def test_vec_mean_is_the_centroid_of_each_group(sql: Sql) -> None:
    sql("CREATE TABLE t(g, v)")
    for group, text in ((1, "a"), (1, "b"), (2, "c")):
        sql("INSERT INTO t VALUES (?, embed(?))", group, text)
    sql("INSERT INTO t VALUES (2, NULL), (3, NULL)")
    means = dict(sql("SELECT g, vec_mean(v) FROM t GROUP BY g"))
    a, b, c = (vector(sql.one("SELECT embed(?)", text)) for text in "abc")
    assert np.allclose(vector(means[1]), (a + b) / 2, atol=1e-6)
    assert np.allclose(vector(means[2]), c, atol=1e-6)
    assert means[3] is None
    assert sql.one("SELECT vec_mean(v) FROM t WHERE false") is None
    mixed = "SELECT vec_mean(v) FROM (SELECT embed('a') AS v UNION ALL SELECT embed('a', 'other'))"
    assert "SpaceError: vec_mean() got a vector of fake and one of other" in sql.error(mixed)
    sql("INSERT INTO t VALUES (1, vec_slice(embed('x', 'wide'), 0, 32))")
    assert "has 32 dimensions, expected 64" in sql.error("SELECT vec_mean(v) FROM t WHERE g = 1")
