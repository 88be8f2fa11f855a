"""``sqlembed search`` and ``sqlembed status``."""

import json
from pathlib import Path

import apsw
import pytest

from sqlembed.cli.tables import aligned


def test_the_best_first_and_why(run, indexed):
    header, first, *others = run("search", indexed, "sms", "dinner at eight").stdout.splitlines()
    assert header == "score\twhy\tid\tsnippet"
    score, *rest = first.split("\t")
    assert float(score) > 1
    assert rest == ["meaning 1, words 1", "1", "[dinner] [at] [eight]"]
    assert [line.split("\t")[1] for line in others] == [
        "meaning 2, words 2",
        "meaning 3",
        "meaning 4",
    ]
    assert len(run("search", indexed, "sms", "dinner", "-k", "2").stdout.splitlines()) == 3


def test_json(run, indexed):
    first, *_ = json.loads(run("search", indexed, "sms", "dinner at eight", "--json").stdout)
    assert (first["rank"], first["id"], first["text"]) == (1, 1, "dinner at eight")
    assert first["distance"] == pytest.approx(0, abs=1e-6)
    assert (first["start"], first["stop"], first["coverage"]) == (0, 15, 1.0)
    assert first["bm25"] > 0 and first["rerank"] == pytest.approx(1, abs=1e-3)


def test_by_meaning_alone(run, indexed):
    arguments = ("search", indexed, "sms", "dinner at eight", "--vectors")
    lines = run(*arguments, "-k", "2").stdout.splitlines()
    assert lines[0] == "distance\tid\ttext"
    assert lines[1] == "0.0000\t1\tdinner at eight"
    assert len(lines) == 3
    assert set(json.loads(run(*arguments, "--json").stdout)[0]) >= {"id", "distance", "coverage"}


def test_rerank(run, indexed):
    for count, reranked in (("0", 0), ("2", 2)):
        arguments = ("search", indexed, "sms", "see you", "-k", "1", "--rerank", count, "--json")
        found = json.loads(run(*arguments).stdout)
        assert found[0]["text"] == "see you at dinner"
        assert (found[0]["rerank"] is not None) == (reranked > 0)
    message = run.failure("search", indexed, "sms", "see you", "--rerank", "900")
    assert message == "option rerank is a whole number from 0 to 200; got 900"


def test_explain(run, indexed):
    lines = run("search", indexed, "sms", "win dinner", "-k", "2", "--explain").stdout.splitlines()
    assert lines[0] == "step\tmilliseconds\tdetail"
    assert [line.split("\t")[0] for line in lines[-2:]] == ["rank 1", "rank 2"]
    assert "has win" in lines[-2] + lines[-1]


def test_a_query_that_is_no_utf8(run, indexed):
    message = run.failure("search", indexed, "sms", "dinner \udcff")
    assert message == "the command line is not valid UTF-8: 'dinner \\udcff'"


def test_options_that_exclude_each_other(run, indexed):
    for option in (["--explain"], ["--rerank", "5"]):
        result = run("search", indexed, "sms", "dinner", "--vectors", *option)
        assert result.exit_code == 2
        assert "--vectors goes without --rerank and --explain" in result.stderr


def test_rows_that_were_not_searched_are_told_of(run, indexed, monkeypatch):
    monkeypatch.setattr("sqlembed.index.fresh.MOST_CHUNKS", 1)
    db = apsw.Connection(indexed)
    for n in range(5):
        db.execute("INSERT INTO sms(body) VALUES (?)", (f"new {n}",))
    db.close()
    told = run("search", indexed, "sms", "dinner").stderr
    assert (
        told
        == f"56% of the rows were searched; the others wait for: sqlembed flush {indexed} sms\n"
    )


def test_a_new_row_is_found_and_the_file_stays_as_it_is(run, indexed):
    db = apsw.Connection(indexed)
    db.execute("INSERT INTO sms(body) VALUES ('the parcel came')")
    db.close()
    before = Path(indexed).read_bytes()
    assert "[parcel]" in run("search", indexed, "sms", "the parcel came", "-k", "1").stdout
    assert Path(indexed).read_bytes() == before


def test_a_read_only_file(run, indexed):
    Path(indexed).chmod(0o400)
    assert run("search", indexed, "sms", "dinner").exit_code == 0


@pytest.mark.parametrize("k", ["0", "-1", "5000"])
@pytest.mark.parametrize("options", [[], ["--vectors"], ["--explain"]])
def test_k_out_of_range(run, indexed, k, options):
    message = run.failure("search", indexed, "sms", "dinner", "-k", k, *options)
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
