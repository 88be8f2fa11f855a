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


def test_interrupted_it_says_how_to_go_on(run, indexed, monkeypatch):
    embed = FakeModel.embed

    def interrupt(self, texts, role):
        if texts == ["see you at dinner"]:
            raise KeyboardInterrupt
        return embed(self, texts, role)

    with monkeypatch.context() as patch:
        patch.setattr(FakeModel, "embed", interrupt)
        result = run("reindex", indexed, "sms", "wide")
    assert result.exit_code == 130
    assert f"to go on: sqlembed reindex {indexed} sms wide" in result.stderr
    assert status(run, indexed)[0] == "fake"
    assert run("reindex", indexed, "sms", "wide").exit_code == 0
    assert status(run, indexed) == ("wide", 4, 0, None)


def test_what_cannot_be_is_an_error_in_words(run, indexed):
    assert "no index is called 'nobody'" in run.failure("reindex", indexed, "nobody", "wide")
    assert "no model is called 'nobody'" in run.failure("reindex", indexed, "sms", "nobody")
    assert "sqlembed pull all-MiniLM-L6-v2" in run.failure("reindex", indexed, "sms", "all-MiniLM-L6-v2")  # fmt: skip
    assert status(run, indexed) == ("fake", 4, 0, None)
