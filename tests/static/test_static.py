"""Tables of static vectors: what a text becomes, through every door."""

import json
from pathlib import Path

import numpy as np
import pytest
import tables
from harness import Sql

from sqlembed.engine.library import Library
from sqlembed.engine.table import hashed

REFERENCE = json.loads(Path(__file__).with_name("model2vec.json").read_text(encoding="utf-8"))
VECTORS = dict(zip(tables.WORDS, tables.rows(len(tables.WORDS)), strict=True))


def mean(*words: str) -> np.ndarray:
    return tables.unit(np.mean([VECTORS[word] for word in words], axis=0))


def embedded(sql: Sql, text: str, model: str = "words") -> np.ndarray:
    return np.frombuffer(sql.one("SELECT embed(?, ?)", text, model), "<f4")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("The King's a man.", ("the", "king", "'s", "a", "man", ".")),
        ("Don’t! It’s the U.S. at 10:30", ("do", "n't", "it", "'s", "the", "u.s.", "10:30")),
        ("a\tking\n\nman-woman  xyzzy 👑", ("a", "king", "man", "woman")),
        ("king king queen", ("king", "king", "queen")),
    ],
)
def test_a_text_is_the_mean_of_its_known_words(sql: Sql, text: str, words: tuple[str, ...]) -> None:
    np.testing.assert_allclose(embedded(sql, text), mean(*words), atol=1e-5)


def test_unknown_words_are_tokens_that_count_and_do_not_move_the_mean(sql: Sql) -> None:
    assert sql.one("SELECT token_count('the xyzzy king 👑')") == 4
    assert sql.one("SELECT embed('king xyzzy') = embed('king')") == 1


@pytest.mark.parametrize("text", ["xyzzy", "👑👑", "", " \n", "\x00"])
def test_a_text_with_no_known_word_has_a_vector_of_its_own(sql: Sql, text: str) -> None:
    vector = embedded(sql, text)
    assert abs(np.linalg.norm(vector) - 1) < 1e-6
    assert np.abs([vector @ mean(word) for word in tables.WORDS]).max() < 0.9
    np.testing.assert_allclose(vector, embedded(sql, text.upper() + " "), atol=1e-6)


def test_the_vector_of_an_unknown_word_never_changes() -> None:
    # Stored vectors are compared with it for ever, whatever numpy's version.
    expected = [0.21108, 0.05084, -0.09702, -0.18143]
    np.testing.assert_allclose(hashed("xyzzy", 32)[:4], expected, atol=1e-5)


def test_rows_without_a_known_word_block_no_index_and_are_found(sql: Sql) -> None:
    sql("CREATE TABLE sms(id INTEGER PRIMARY KEY, body TEXT)")
    for body in ("the king", "👑👑", "the queen is a woman", "xyzzy plugh", "🎉"):
        sql("INSERT INTO sms(body) VALUES (?)", body)
    assert sql.one("SELECT sqlembed_index('sms', 'body')") == 5
    assert sql("SELECT failed, coverage FROM sqlembed_status") == [(0, 1.0)]
    assert sql("SELECT id FROM knn('sms', '👑', 1)") == [2]
    assert sql("SELECT id FROM knn('sms', 'plugh xyzzy', 1)") == [4]
    sql("INSERT INTO sms(body) VALUES ('a man')")
    assert sql("SELECT id, distance < 1e-6 FROM knn('sms', 'man a', 1)") == [(6, 1)]
    assert sql("SELECT id FROM search('sms', 'the queen', 1)") == [3]
    assert sql("SELECT count(*) FROM sqlembed_check()") == [0]


def test_a_text_longer_than_the_bound_is_an_error_and_an_index_cuts_it(sql: Sql) -> None:
    long = "the king " * 40
    assert "has 80 tokens, and words reads 64" in sql.error("SELECT embed(?)", long)
    assert sql("SELECT tokens FROM chunks(?, 'words')", long)[0] <= 64
    np.testing.assert_allclose(embedded(sql, "the king " * 32), mean("the", "king"), atol=1e-5)


def test_late_interaction_compares_words(sql: Sql) -> None:
    same = sql.one("SELECT rerank('king xyzzy', 'the king')")
    other = sql.one("SELECT rerank('king xyzzy', 'the woman')")
    assert same > 0.75 > other
    assert sql.one("SELECT rerank('👑', 'the 👑') > rerank('👑', '👑')") == 0


@pytest.mark.parametrize("form", ["plain", "both"])
@pytest.mark.parametrize(("file_type", "least"), [("f32", 1), ("f16", 1), ("q8_0", 0.9999)])
def test_model2vecs_tables_give_what_model2vec_gives(
    sql: Sql, tmp_path: Path, form: str, file_type: str, least: float
) -> None:
    more = form == "both"
    source = tables.model2vec(tmp_path / "m2v", weights=more, mapping=more)
    tables.install("pieces", source, file_type)
    for text, vector in zip(REFERENCE["texts"], REFERENCE["vectors"][form], strict=True):
        assert embedded(sql, text, "pieces") @ tables.unit(np.array(vector)) > least - 1e-5


@pytest.mark.doors("apsw")
@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ('pooling = "cls"', "pooled by the mean and by nothing else; its manifest has 'cls'"),
        ("dimension = 16", "its weights give 32 numbers, its manifest says 16"),
        ('end = "."', "its manifest has 'end'"),
    ],
)
def test_a_manifest_that_does_not_fit_is_refused(
    sql: Sql, models: Path, changed: str, words: str
) -> None:
    path = models / "words.toml"
    key = changed.partition(" ")[0]
    kept = [line for line in path.read_text().splitlines() if line.partition(" ")[0] != key]
    path.write_text("\n".join([*kept, changed]) + "\n")
    assert words in sql.error("SELECT embed('king')")


def test_its_memory_is_computed(models: Path) -> None:
    library = Library("words")
    with library.use("words"):
        size = (models / "words.gguf").stat().st_size
        assert size < library.memory()["words"] < size + 1000 * (len(tables.WORDS) + 2)
