"""A text of sixty pages and short messages, in one table indexed by one call: both are found in.

The text is Python's language reference as pydoc keeps it, which every Python has: its end. The
whole, 200 pages, passes too, and takes three times as long.
"""

import re
from pydoc_data.topics import topics

import datasets
import pytest
from harness import Sql

pytestmark = pytest.mark.model

TEXT_LENGTH = 130_000
MESSAGES = 500
FIND = "SELECT id, text, start, stop, snippet FROM search('writing', ?, 3)"

# A question, what is said in the passage that answers it, and what its snippet shows.
QUESTIONS = [
    (
        "What happens in the else clause of a while loop when its condition is false?",
        "clause, if present, is executed and the loop terminates",
        "[else]",
    ),
    (
        "When is a finally clause executed?",
        'When a "return", "break" or "continue" statement is executed',
        "[finally]",
    ),
    (
        "Which objects are considered false?",
        "constants defined to be false",
        "[considered] [false]",
    ),
    (
        "How much memory does a range take?",
        "will always take the same (small) amount of memory",
        "[range]",
    ),
]


@pytest.fixture(scope="module")
def text() -> str:
    """The reference's topics, the last ones of the alphabet."""
    return "\n\n".join(topics[name] for name in sorted(topics))[-TEXT_LENGTH:]


@pytest.fixture
def writing(real: Sql, text: str) -> Sql:
    """Row 1 is the text, the others are messages."""
    real("CREATE TABLE writing(id INTEGER PRIMARY KEY, body TEXT)")
    real("INSERT INTO writing(body) VALUES (?)", text)
    for message in datasets.sms()[:MESSAGES]:
        real("INSERT INTO writing(body) VALUES (?)", message)
    assert real.one("SELECT sqlembed_index('writing', 'body')") == MESSAGES + 1
    return real


def test_a_long_text_and_short_messages_are_found_in_alike(writing: Sql, text: str) -> None:
    assert writing.one("SELECT chunks - indexed FROM sqlembed_status") > 130

    for question, said, shown in QUESTIONS:
        (id, chunk, start, stop, snippet), *_ = writing(FIND, question)
        assert id == 1, question
        assert said in " ".join(chunk.split()), question
        assert shown in snippet, question
        same = "SELECT substr(body, ? + 1, ? - ?) = ? FROM writing WHERE id = 1"
        assert writing(same, start, stop, start, chunk) == [1]
        assert text[start:stop] == chunk

    messages = dict(writing("SELECT id, body FROM writing WHERE id > 1"))
    numbers = {n for body in messages.values() for n in re.findall(r"\b0\d{10}\b", body)}
    assert len(numbers) > 20
    for number in sorted(numbers)[:20]:
        (id, chunk, start, stop, snippet), *_ = writing(FIND, number)
        assert number in messages[id] and chunk == messages[id][start:stop], number
        assert f"[{number}]" in snippet, number

    # By other words, beside the hundreds of chunks of the long text.
    for query, said in (
        ("where are my garage keys?", "garage keys"),
        ("merry christmas to all of you", "christmas"),
    ):
        assert said in messages.get(writing(FIND, query)[0][0], "").casefold(), query
