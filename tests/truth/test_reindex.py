"""Another model for an index of real messages: searched in the middle, and as if made so at the end."""

import datasets
import pytest
from harness import Sql

pytestmark = pytest.mark.model

MESSAGES = 200
QUESTIONS = ("are we having dinner tonight?", "you have won a prize", "I am late, sorry", "call me")
KNN = "SELECT id, round(distance, 4) FROM knn(?, ?, 8) ORDER BY distance, id"
SEARCH = "SELECT id FROM search(?, ?, 5)"


def answers(sql: Sql, index: str) -> list[object]:
    return [(sql(KNN, index, question), sql(SEARCH, index, question)) for question in QUESTIONS]


def test_it_answers_as_before_and_then_as_a_fresh_one(real: Sql) -> None:
    real("CREATE TABLE sms(id INTEGER PRIMARY KEY, body TEXT)")
    for message in datasets.sms()[:MESSAGES]:
        real("INSERT INTO sms(body) VALUES (?)", message)
    model = '{"name": "fresh", "model": "multilingual-e5-small"}'
    real("SELECT sqlembed_index('sms', 'body', '{\"model\": \"all-MiniLM-L6-v2\"}')")
    before = answers(real, "sms")
    real("""SELECT sqlembed_reindex('sms', 'multilingual-e5-small', '{"backlog": "later"}')""")
    assert answers(real, "sms") == before
    real("SELECT sqlembed_flush('sms', 120)")
    assert real("SELECT model, reindexing FROM sqlembed_status") == [
        ("all-MiniLM-L6-v2", "multilingual-e5-small, 60 % filled")
    ]
    assert answers(real, "sms") == before
    assert real.one("SELECT sqlembed_reindex('sms', 'multilingual-e5-small')") == MESSAGES - 120
    real("SELECT sqlembed_index('sms', 'body', ?)", model)
    after = answers(real, "sms")
    assert after != before
    assert after == answers(real, "fresh")
