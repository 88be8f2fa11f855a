"""Answer a question from the rows that a search found, and say which rows those are.

    python examples/answer.py app.db sms "When does the class start?"

Everything is one SQL statement. The rows found go into the prompt with their ids, and a JSON schema
lets the model name only ids that were found, so that each answer can be looked up. What a small
model makes of the rows may still be wrong: read what it names.
"""

import argparse
import json
from dataclasses import dataclass
from typing import Any

import apsw

import sqlembed

ROWS = 5
ANSWER = """
WITH found AS MATERIALIZED (
    SELECT id, text FROM search(:index, :question, :rows)
),
-- Where no row is found there is nothing to ask, and no row here.
asked AS MATERIALIZED (
    SELECT 'Messages:' || char(10) || group_concat(id || ': ' || text, char(10)) || char(10)
               || 'Question: ' || :question AS prompt,
           json_group_array(id) AS ids
    FROM found HAVING count(*)
)
SELECT generate(prompt, json_object(
    'system', 'Answer the question in one sentence, only from the messages. Name the ids of the'
        || ' messages that say so.',
    'max_tokens', 200,
    'json_schema', json_object(
        'type', 'object',
        'properties', json_object(
            'ids', json_object(
                'type', 'array', 'minItems', 1, 'maxItems', 3,
                'items', json_object('enum', json(ids))),
            'answer', json_object('type', 'string', 'minLength', 1, 'maxLength', 200)),
        'required', json_array('ids', 'answer'),
        'additionalProperties', json('false'))))
FROM asked"""
"""What comes first in the schema is written first: the model chooses its rows, then it answers."""


@dataclass(frozen=True)
class Answer:
    """What the model made of the rows."""

    text: str
    ids: list[Any]
    """The rows that it names, each among those found."""


def answer(db: apsw.Connection, index: str, question: str, rows: int = ROWS) -> Answer | None:
    """Answer *question* from the best *rows* of *index*; None where none is found."""
    given = {"index": index, "question": question, "rows": rows}
    written = db.execute(ANSWER, given).get
    if written is None:
        return None
    found = json.loads(written)
    return Answer(found["answer"], list(dict.fromkeys(found["ids"])))


def main() -> None:
    """Read the command line, and answer."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("database")
    parser.add_argument("index")
    parser.add_argument("question")
    given = parser.parse_args()
    db = sqlembed.connect(given.database)
    found = answer(db, given.index, given.question)
    if found is None:
        print("nothing was found")
        return
    print(found.text)
    texts = "SELECT id, text FROM search(?, ?, ?) WHERE id IN (SELECT value FROM json_each(?))"
    shown = (given.index, given.question, ROWS, json.dumps(found.ids))
    for id_, text in db.execute(texts, shown):
        print(f"  {id_}: {text}")


if __name__ == "__main__":
    main()
