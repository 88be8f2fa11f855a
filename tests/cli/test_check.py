"""``sqlembed check``."""

import json
from pathlib import Path

import apsw

import sqlembed
from sqlembed.index import check


def damage(path: str, sql: str) -> None:
    db = sqlembed.connect(path)
    db.execute(sql).fetchall()
    db.close()


def test_all_is_well(run, indexed):
    result = run("check", indexed)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == "sms: 4 rows, 4 chunks: all is well\n"
    assert run("check", indexed, "SMS", "--json").stdout == "[]\n"
    damage(indexed, "INSERT INTO sms(body) VALUES ('new')")
    assert run("check", indexed).stdout == "sms: 4 rows, 4 chunks, 1 waiting: all is well\n"


def test_what_is_wrong_is_said_and_repaired(run, indexed):
    damage(indexed, "DELETE FROM sqlembed_chunk_1 WHERE key = 2; CREATE TABLE sqlembed_key_9(x)")
    result = run("check", indexed)
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert lines[0] == "sms:"
    assert lines[1].startswith("  1 words (such as 2): ")
    assert lines[2].startswith("  1 missing (such as 2): rows with a text that are not indexed")
    assert lines[3] == f"{indexed}:"
    assert lines[4].startswith("  1 left over (such as sqlembed_key_9): ")
    found = json.loads(run("check", indexed, "--json").stdout)
    assert [(row["name"], row["kind"], row["count"]) for row in found][-2:] == [
        ("sms", "missing", 1),
        (None, "left over", 1),
    ]
    result = run("check", indexed, "--repair")
    assert result.exit_code == 0
    assert result.stdout == "sms: 4 rows, 4 chunks: all is well\n"
    assert "3 things put right" in result.stderr
    assert "sms: 1 rows stored" in result.stderr
    assert run("check", indexed, "--repair").stderr == ""


def test_what_cannot_be_repaired(run, indexed):
    damage(indexed, "ALTER TABLE sms RENAME TO messages")
    assert run("check", indexed).exit_code == 1
    assert "index sms cannot be repaired" in run.failure("check", indexed, "--repair")


def test_a_check_changes_nothing(run, indexed):
    Path(indexed).chmod(0o444)
    damaged = Path(indexed).read_bytes()
    assert run("check", indexed).exit_code == 0
    assert Path(indexed).read_bytes() == damaged


def test_a_check_of_nothing(run, app, indexed):
    assert run.failure("check", app + "x").startswith("there is no database file")
    assert run.failure("check", indexed, "mail").startswith("no index is called 'mail'")


def test_without_indexes(run, app):
    result = run("check", app)
    assert (result.exit_code, result.stdout) == (0, f"{app} has no index\n")


def test_a_writer_need_not_wait_for_a_whole_check(run, indexed, monkeypatch):
    writer, chosen, writes = apsw.Connection(indexed), check.chosen, []

    def after_a_write(name):  # between two parts: in one transaction it would be locked
        writer.execute("UPDATE sms SET body = body || '!' WHERE id = 1")
        writes.append(name)
        return (yield from chosen(name))

    monkeypatch.setattr(check, "chosen", after_a_write)
    assert run("check", indexed).exit_code == 0
    assert len(writes) > 4
    writer.close()
