"""``sqlembed reindex``."""

import json

import apsw
import pytest
from harness import FAILING, FakeModel

import sqlembed
from sqlembed.cli import storing

LATER = """SELECT sqlembed_reindex('sms', 'wide', '{"backlog": "later"}')"""


@pytest.fixture(autouse=True)
def small_steps(monkeypatch):
    monkeypatch.setattr(storing, "FEWEST_ROWS", 1)
    monkeypatch.setattr(storing, "MOST_ROWS", 2)


def status(run, app):
    (row,) = json.loads(run("status", app, "--json").stdout)
    return row["model"], row["indexed"], row["waiting"], row["reindexing"]


def test_it_stores_every_row_and_then_searches_use_it(run, indexed):
    result = run("reindex", indexed, "sms", "wide")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith("sms: 4 rows in ")
    assert status(run, indexed) == ("wide", 4, 0, None)
    assert run("reindex", indexed, "sms", "wide").stdout.startswith("sms: 0 rows")


def test_a_flush_goes_on_with_what_was_begun(run, indexed):
    sqlembed.connect(indexed).execute(LATER).fetchall()
    assert "sms is made anew: wide, 0 % filled" in run("status", indexed).stderr
    assert run("flush", indexed).stdout.startswith("sms: 4 rows")
    assert status(run, indexed) == ("wide", 4, 0, None)


def test_rows_that_fail_stop_no_others(run, indexed):
    db = apsw.Connection(indexed)
    db.execute("UPDATE sms SET body = ? WHERE id = 2", (FAILING,))
    db.close()
    assert "the row of key 2 cannot be stored" in run.failure("reindex", indexed, "sms", "wide")
    assert status(run, indexed) == ("wide", 3, 1, None)


def test_so_many_that_it_cannot_take_its_place(run, indexed, monkeypatch):
    monkeypatch.setattr("sqlembed.index.reindex.FAILED_ROWS", 0)
    embed = FakeModel.embed

    def narrow(self, texts, role):
        if self.manifest.name == "wide" and "late again" in texts:
            raise RuntimeError("too much for wide")
        return embed(self, texts, role)

    monkeypatch.setattr(FakeModel, "embed", narrow)
    assert "index sms stays as it is: 1 rows" in run.failure("reindex", indexed, "sms", "wide")
    assert status(run, indexed) == ("fake", 4, 0, "wide, 75 % filled, 1 rows fail")


def test_interrupted_it_says_how_to_go_on(run, indexed, monkeypatch):
    def interrupted(connection, *_):
        connection.execute("SELECT sqlembed_flush('sms', 2)").fetchall()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("sqlembed.cli.reindex.fill_next", interrupted)
        result = run("reindex", indexed, "sms", "wide")
    assert result.exit_code == 130
    assert f"to go on: sqlembed reindex {indexed} sms wide" in result.stderr
    assert status(run, indexed) == ("fake", 4, 0, "wide, 50 % filled")
    assert run("reindex", indexed, "sms", "wide").stdout.startswith("sms: 2 rows")
    assert status(run, indexed) == ("wide", 4, 0, None)


def test_what_cannot_be_is_an_error_in_words(run, indexed):
    assert "no index is called 'nobody'" in run.failure("reindex", indexed, "nobody", "wide")
    assert "no model is called 'nobody'" in run.failure("reindex", indexed, "sms", "nobody")
    assert "sqlembed pull all-MiniLM-L6-v2" in run.failure("reindex", indexed, "sms", "all-MiniLM-L6-v2")  # fmt: skip
    assert status(run, indexed) == ("fake", 4, 0, None)
