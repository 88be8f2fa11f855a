"""``examples/answer.py``: an answer from the rows that were found, on real messages and models."""

import re
import subprocess
import sys
from pathlib import Path

import answer
import pytest
from harness import Sql

import sqlembed

TEXTS = (
    "Shall we get a pizza after the film?",
    "The plumber comes on Friday at nine",
    "Your parcel is with the neighbour",
    'He said "no", {and} that\'s\nall: 7',
    "Gran is out of hospital",
)


@pytest.fixture
def messages(tmp_path: Path) -> str:
    """The path of a database with an index of some messages."""
    path = str(tmp_path / "app.db")
    db = sqlembed.connect(path)
    db.execute("CREATE TABLE sms(id INTEGER PRIMARY KEY, body TEXT)")
    db.executemany("INSERT INTO sms VALUES (?, ?)", [(n * 7, t) for n, t in enumerate(TEXTS, 1)])
    db.execute("SELECT sqlembed_index('sms', 'body')")
    db.close()
    return path


@pytest.mark.model
def test_an_answer_names_only_rows_that_were_found(messages: str) -> None:
    db = sqlembed.connect(messages)
    found = answer.answer(db, "sms", "When does the plumber come?", rows=3)
    assert found is not None and found.text and 1 <= len(found.ids) <= 3
    near = Sql(db)("SELECT id FROM search('sms', 'When does the plumber come?', 3)")
    assert set(found.ids) <= set(near)
    db.execute("DELETE FROM sms")
    assert answer.answer(db, "sms", "When does the plumber come?") is None
    db.close()


@pytest.mark.model
def test_it_runs_as_a_program(messages: str) -> None:
    command = [sys.executable, answer.__file__, messages, "sms", "Where is my parcel?"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120)
    first, *lines = ran.stdout.splitlines()
    rows = [line for line in lines if re.match(r"  \d+: ", line)]  # the others go on with a text
    assert first and rows and ran.stderr == ""
    assert all(any(text.split("\n")[0] in row for text in TEXTS) for row in rows)
