"""rerank and similarity: through SQL, on fake models."""

import pytest
from harness import FakeModel, Sql, install_fake


def test_without_a_cross_encoder_late_interaction_ranks(sql: Sql) -> None:
    scores = sql(
        "SELECT rerank('evening meal', ?), rerank('evening meal', ?)", "the evening meal", "a car"
    )
    assert scores[0][0] > scores[0][1]
    assert sql.one("SELECT rerank('same words', 'same words')") == pytest.approx(1, abs=1e-5)
    assert sql("SELECT used_for FROM sqlembed_models WHERE name = 'fake'") == ["embed and rerank"]


def test_an_installed_cross_encoder_is_used_and_shown(sql: Sql) -> None:
    install_fake("judge", "reranker", 1)
    assert sql.one("SELECT rerank('a b', 'a c')") == 0.5
    assert dict(sql("SELECT name, used_for FROM sqlembed_models WHERE used_for IS NOT NULL")) == {
        "fake": "embed",
        "judge": "rerank",
    }
    assert sql.error("SELECT embed('x', 'judge')").startswith("InputError: judge is a reranker")
    assert sql.error("SELECT sqlembed_index('t', 'x', '{\"model\": \"judge\"}')").startswith(
        "NotFoundError"
    )


def test_scores_are_cached(sql: Sql) -> None:
    first = sql.one("SELECT rerank('a', 'b')")
    FakeModel.texts.clear()
    assert sql.one("SELECT rerank('a', 'b')") == first
    assert FakeModel.texts == []
    assert sql.one("SELECT rerank('b', 'a')") is not None
    assert FakeModel.texts


def test_the_model_can_be_named(sql: Sql) -> None:
    assert sql.one("SELECT rerank('a b', 'b c', 'wide')") != sql.one(
        "SELECT rerank('a b', 'b c', 'fake')"
    )
    assert sql.error("SELECT rerank('a', 'b', 'nobody')").startswith("NotFoundError")


@pytest.mark.parametrize("call", ["rerank(NULL, 'a')", "rerank('a', NULL)", "similarity(NULL, 'a')", "similarity('a', NULL)"])  # fmt: skip
def test_null_in_null_out(sql: Sql, call: str) -> None:
    assert sql.one(f"SELECT {call}") is None


def test_similarity_of_texts_and_vectors(sql: Sql) -> None:
    assert sql.one("SELECT similarity('a b', 'a b')") == pytest.approx(1, abs=1e-6)
    assert sql.one("SELECT similarity('a b', embed('a b'))") == pytest.approx(1, abs=1e-6)
    assert sql.one("SELECT similarity(vec_f32('[1,0]'), vec_f32('[0,2]'))") == pytest.approx(0)
    assert sql.one("SELECT similarity(vec_f32('[1,0]'), vec_f32('[-3,0]'))") == pytest.approx(-1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("similarity(5, 'a')", "InputError: similarity()'s first argument is a text; got the integer 5"),
        ("similarity('a', x'0102')", "VectorError: similarity()'s second argument is a BLOB of 2 bytes"),
        ("similarity(embed('a'), embed('a', 'wide'))", "SpaceError: similarity() got a vector of fake and one of wide"),
        ("similarity(embed('a'), vec_f32('[1,2]'))", "VectorError: similarity()'s second vector has 2 dimensions, expected 64"),
        ("similarity(embed('a'), embed('a', 'other'))", "SpaceError: similarity() got a vector of fake and one of other"),
        ("similarity('a', zeroblob(256))", "VectorError: similarity()'s second argument holds only zeros"),
        ("similarity('a', x'0000c07f')", "VectorError: similarity()'s second argument holds NaN"),
        ("rerank('a', 5)", "InputError: rerank()'s document is a text; got the integer 5"),
        ("rerank(x'00', 'a')", "InputError: rerank()'s query is a text; got a BLOB of 1 bytes"),
    ],
)  # fmt: skip
def test_bad_input_is_an_error_in_words(sql: Sql, call: str, message: str) -> None:
    assert sql.error(f"SELECT {call}").startswith(message)
