"""Several models: aliases, and an index's model chosen by how long its texts are."""

from pathlib import Path

import pytest
from harness import Sql, install_fake

from sqlembed.errors import ModelError
from sqlembed.weights import manifest, receipt

MODEL = "SELECT model FROM sqlembed_status WHERE name = ?"


@pytest.fixture
def several(fake_data: Path) -> None:
    """``long`` is for long texts, ``brief`` for short ones; neither is the default."""
    for name, line in (
        ("brief", 'tokens = [0, 8]\naliases = ["sms", "us/brief"]'),
        ("long", "tokens = [9, 4000]"),
        ("longest", "tokens = [9, 9000]"),
        ("middle", "tokens = [9, 10]"),
        ("absent", "tokens = [9, 50]"),
    ):
        install_fake(name)
        path = receipt.gguf_path(name).with_suffix(".toml")
        path.write_text(line + "\n" + path.read_text())
    receipt.gguf_path("absent").unlink()


def indexed(sql: Sql, table: str, *texts: str | None) -> str:
    """The model of an index over *texts* that was left to choose."""
    sql(f"CREATE TABLE {table}(a TEXT, b INTEGER, body TEXT, PRIMARY KEY (a, b)) WITHOUT ROWID")
    for number, text in enumerate(texts):
        sql(f"INSERT INTO {table} VALUES ('x', ?, ?)", number, text)
    sql(f"""SELECT sqlembed_index('{table}', 'body', '{{"model": "auto"}}')""")
    return str(sql.one(MODEL, table))


def test_short_texts_and_long_ones_get_different_models(several: None, sql: Sql) -> None:
    assert indexed(sql, "sms", *["see you at dinner"] * 19, "word " * 30, None) == "brief"
    assert indexed(sql, "mail", *["see you"] * 15, *["word " * 12] * 5) == "long"
    assert sql("SELECT id FROM knn('sms', 'see you at dinner', 1)") != []
    assert sql("SELECT count(*) FROM sqlembed_check()") == [0]


def test_where_no_range_holds_them_it_is_the_default(several: None, sql: Sql) -> None:
    assert indexed(sql, "books", "word " * 9500) == "fake"


def test_a_table_without_texts_counts_as_short(several: None, sql: Sql) -> None:
    assert indexed(sql, "empty") == "brief"
    assert indexed(sql, "nulls", None) == "brief"


def test_the_default_comes_first_where_it_fits(several: None, sql: Sql) -> None:
    path = receipt.gguf_path("fake").with_suffix(".toml")
    path.write_text("tokens = [0, 9999]\n" + path.read_text())
    assert indexed(sql, "sms", "see you") == "fake"


def test_an_index_that_is_there_keeps_its_model(several: None, sql: Sql) -> None:
    assert indexed(sql, "sms", "see you") == "brief"
    sql("INSERT INTO sms VALUES ('y', 1, ?), ('y', 2, ?)", "word " * 12, "word " * 12)
    sql("""SELECT sqlembed_index('sms', 'body', '{"model": "auto", "if_not_exists": true}')""")
    assert sql.one(MODEL, "sms") == "brief"


def test_an_alias_is_the_model(several: None, sql: Sql) -> None:
    assert sql.one("SELECT embed('a b', 'sms') = embed('a b', 'brief')") == 1
    assert sql.one("SELECT similarity(embed('a', 'us/brief'), embed('a', 'sms'))") > 0.999
    sql("CREATE TABLE t(id INTEGER PRIMARY KEY, body TEXT)")
    sql("INSERT INTO t(body) VALUES ('a b')")
    sql("""SELECT sqlembed_index('t', 'body', '{"model": "us/brief"}')""")
    assert sql.one(MODEL, "t") == "brief"
    assert sql("SELECT text FROM knn('t', embed('a b', 'sms'), 1)") == ["a b"]
    assert sql("SELECT name FROM sqlembed_models WHERE loaded AND name <> 'fake'") == ["brief"]
    assert sql.one("SELECT sqlembed_unload('sms')") == 1
    assert sql.one("SELECT sqlembed_cache_clear('sms')") > 0
    assert "no model is called 'SMS'" in sql.error("SELECT embed('a', 'SMS')")


@pytest.fixture
def aliased_default(several: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SQLEMBED_MODEL", "sms")


def test_the_default_may_be_an_alias(aliased_default: None, sql: Sql) -> None:
    assert sql.one("SELECT embed('a b') = embed('a b', 'brief')") == 1
    used = "SELECT name FROM sqlembed_models WHERE used_for LIKE '%embed%'"
    assert sql(used) == ["brief"]


def test_a_models_own_name_comes_before_anothers_alias(several: None) -> None:
    path = receipt.gguf_path("long").with_suffix(".toml")
    path.write_text('aliases = ["brief"]\n' + path.read_text())
    assert manifest.find("brief").name == "brief"


@pytest.mark.parametrize("tokens", ["[8]", "[9, 8]", "[-1, 8]", '["0", 8]', "[0, 1, 2]"])
def test_a_range_that_cannot_be(several: None, tokens: str) -> None:
    path = receipt.gguf_path("long").with_suffix(".toml")
    with pytest.raises(ModelError, match="tokens are"):
        manifest.parse(path.read_text().replace("[9, 4000]", tokens), "long")
