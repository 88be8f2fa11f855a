"""``sqlembed index`` and ``sqlembed flush``."""

import json

import apsw
import pytest
from harness import FAILING

import sqlembed
from sqlembed.cli import storing


def test_index_stores_every_row(run, app):
    result = run("index", app, "sms", "body")
    assert result.exit_code == 0
    assert result.stdout.startswith("sms: 4 rows in ")
    assert result.stderr == ""
    (row,) = json.loads(run("status", app, "--json").stdout)
    assert (row["name"], row["indexed"], row["waiting"]) == ("sms", 4, 0)


def test_index_in_many_steps(run, app, monkeypatch):
    monkeypatch.setattr(storing, "FEWEST_ROWS", 1)
    monkeypatch.setattr(storing, "MOST_ROWS", 1)
    assert run("index", app, "sms", "body").stdout.startswith("sms: 4 rows")


def test_rows_that_fail_stop_no_others(run, app, monkeypatch):
    monkeypatch.setattr(storing, "FEWEST_ROWS", 1)
    monkeypatch.setattr(storing, "MOST_ROWS", 1)
    db = apsw.Connection(app)
    db.execute("UPDATE sms SET body = ? WHERE id IN (1, 3)", (FAILING,))
    db.close()
    message = run.failure("index", app, "sms", "body")
    assert "the row of key 1 cannot be stored: the fake model was told to fail" in message
    result = run("status", app)
    assert "sms: 2 rows failed, one of them: the fake model was told to fail" in result.stderr
    assert run("flush", app).stdout.startswith("sms: 0 rows")
    sqlembed.connect(app).execute("SELECT sqlembed_retry()").fetchall()
    assert "the row of key 1 cannot be stored" in run.failure("flush", app)
    (row,) = json.loads(run("status", app, "--json").stdout)
    assert (row["indexed"], row["waiting"], row["failed"]) == (2, 2, 2)


def test_index_with_options(run, app):
    run(
        "index",
        app,
        "sms",
        "body || '!'",
        "--name",
        "loud",
        "--model",
        "wide",
        "--mode",
        "immediate",
    )
    (row,) = json.loads(run("status", app, "--json").stdout)
    assert (row["name"], row["model"], row["dimension"]) == ("loud", "wide", 128)
    assert (row["expression"], row["mode"]) == ("body || '!'", "immediate")


def test_an_index_that_exists(run, indexed):
    assert "index sms exists already" in run.failure("index", indexed, "sms", "body")
    result = run("index", indexed, "sms", "body", "--if-not-exists")
    assert result.stdout.startswith("sms: 0 rows")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere", "body"], "nowhere"),
        (["sms", "colour"], "colour"),
        (["sms", "body", "--model", "nope"], "no model is called 'nope'"),
    ],
)
def test_index_of_what_is_not_there(run, app, arguments, message):
    assert message in run.failure("index", app, *arguments)
    assert json.loads(run("status", app, "--json").stdout) == []


def test_index_with_a_model_that_is_not_installed(run, app):
    message = run.failure("index", app, "sms", "body", "--model", "all-MiniLM-L6-v2")
    assert message.endswith("get it with: sqlembed pull all-MiniLM-L6-v2")


def test_unknown_mode_is_a_usage_error(run, app):
    assert run("index", app, "sms", "body", "--mode", "sometimes").exit_code == 2


def test_interrupted_index_says_how_to_go_on(run, app, monkeypatch):
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("sqlembed.cli.index.store_waiting", interrupted)
    result = run("index", app, "sms", "body")
    assert result.exit_code == 130
    assert f"sqlembed flush {app} sms" in result.stderr
    monkeypatch.undo()


def test_locked_database(run, app, monkeypatch):
    monkeypatch.setattr("sqlembed.doors.apsw_door.BUSY_MILLISECONDS", 1)
    monkeypatch.setattr("sqlembed.doors.plans.BUSY_SECONDS", 0.1)
    other = apsw.Connection(app)
    other.execute("BEGIN EXCLUSIVE")
    message = run.failure("index", app, "sms", "body")
    other.close()
    assert "locked" in message


@pytest.fixture
def waiting(indexed):
    """Two rows wait."""
    db = apsw.Connection(indexed)
    db.execute("INSERT INTO sms(body) VALUES ('one more'), ('and another')")
    db.close()
    return indexed


def test_flush_every_index(run, waiting):
    result = run("flush", waiting)
    assert result.exit_code == 0
    assert result.stdout.startswith("sms: 2 rows in ")
    assert run("flush", waiting).stdout.startswith("sms: 0 rows")


def test_flush_one_index_whatever_its_case(run, waiting):
    assert run("flush", waiting, "SMS").stdout.startswith("sms: 2 rows")


def test_flush_of_an_unknown_index(run, waiting):
    assert run.failure("flush", waiting, "mail").startswith("no index is called 'mail'")


def test_flush_without_indexes(run, app):
    assert run("flush", app).stdout == f"{app} has no index\n"


def test_rows_are_found_by_the_library(run, indexed):
    db = sqlembed.connect(indexed)
    found = db.execute("SELECT id FROM knn('sms', 'dinner at eight', 1)").fetchall()
    db.close()
    assert found == [(1,)]
