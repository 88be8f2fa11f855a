"""``sqlembed search`` and ``sqlembed status``."""

import json
from pathlib import Path

import apsw
import pytest

from sqlembed.cli.tables import aligned


def test_nearest_first(run, indexed):
    lines = run("search", indexed, "sms", "dinner at eight", "-k", "2").stdout.splitlines()
    assert lines[0] == "distance\tid\ttext"
    assert lines[1] == "0.0000\t1\tdinner at eight"
    assert len(lines) == 3


def test_json(run, indexed):
    first, *_ = json.loads(run("search", indexed, "sms", "dinner at eight", "--json").stdout)
    assert first["id"] == 1
    assert first["text"] == "dinner at eight"
    assert first["distance"] == pytest.approx(0, abs=1e-6)
    assert (first["start"], first["stop"], first["coverage"]) == (0, 15, 1.0)


def test_rerank(run, indexed):
    found = json.loads(
        run("search", indexed, "sms", "see you", "-k", "3", "--rerank", "--json").stdout
    )
    assert found[0]["text"] == "see you at dinner"
    scores = [row["score"] for row in found]
    assert scores == sorted(scores, reverse=True)
    header = run("search", indexed, "sms", "see you", "--rerank").stdout.splitlines()[0]
    assert header == "score\tdistance\tid\ttext"


def test_a_new_row_is_found_and_the_file_stays_as_it_is(run, indexed):
    db = apsw.Connection(indexed)
    db.execute("INSERT INTO sms(body) VALUES ('the parcel came')")
    db.close()
    before = Path(indexed).read_bytes()
    assert "the parcel came" in run("search", indexed, "sms", "the parcel came", "-k", "1").stdout
    assert Path(indexed).read_bytes() == before


def test_a_read_only_file(run, indexed):
    Path(indexed).chmod(0o400)
    assert run("search", indexed, "sms", "dinner").exit_code == 0


@pytest.mark.parametrize("k", ["0", "-1", "5000"])
@pytest.mark.parametrize("rerank", [[], ["--rerank"]])
def test_k_out_of_range(run, indexed, k, rerank):
    message = run.failure("search", indexed, "sms", "dinner", "-k", k, *rerank)
    assert message == f"k is a whole number from 1 to 4096; got the integer {k}"


def test_unknown_index(run, indexed):
    message = run.failure("search", indexed, "mail", "dinner")
    assert message == "no index is called 'mail'; the indexes are sms"


def test_lines_are_cut_to_the_width():
    rows = [{"n": 1, "text": "short"}, {"n": 10, "text": "a text  of\nmany words " * 9}]
    assert aligned(["n", "text"], rows, 24) == [
        " n  text",
        " 1  short",
        "10  a text of many word…",
    ]


def test_wide_letters_are_cut_too():
    (_, line) = aligned(["n", "text"], [{"n": 1, "text": "語" * 40}], 23)
    assert line == "1  " + "語" * 9 + " …"


def test_status(run, indexed):
    header, row = run("status", indexed).stdout.splitlines()
    assert header.split("\t")[0] == "name"
    shown = dict(zip(header.split("\t"), row.split("\t"), strict=True))
    assert int(shown.pop("bytes")) > 10_000
    assert shown == {
        "name": "sms", "source": "sms", "expression": "body", "model": "fake",
        "mode": "deferred", "indexed": "4", "chunks": "4", "waiting": "0",
        "failed": "0",
    }  # fmt: skip


def test_status_without_indexes(run, app):
    result = run("status", app)
    assert "no index" in result.stdout
    assert json.loads(run("status", app, "--json").stdout) == []


def test_status_says_what_is_wrong(run, indexed):
    db = apsw.Connection(indexed)
    db.execute("DROP TABLE sms")
    db.close()
    result = run("status", indexed)
    assert "no longer watches table sms" in result.stderr
