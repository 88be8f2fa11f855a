"""A prompt for each role, and for each task that the manifest names."""

import numpy as np
import pytest
import tiny_decoder as tiny
from harness import Sql

PROMPTS = {"query": "query : ", "document": "document : ", "clustering": "at ", "night": "night "}
PIECES = {piece: number for number, piece in enumerate(tiny.PIECES)}


@pytest.fixture(autouse=True)
def with_prompts(models: object) -> None:
    tiny.install("tiny", "nomic-bert", prompts=PROMPTS, dimensions=[16])


def expected(prompt: str) -> np.ndarray:
    ids = [2, *(PIECES[word] for word in f"{prompt}the red fox".split()), 3]
    return tiny.unit(tiny.forward("nomic-bert", ids, causal=False).mean(0))


@pytest.mark.parametrize(
    ("call", "prompt"),
    [
        ("embed(?)", PROMPTS["document"]),
        ("embed(?, NULL, NULL)", PROMPTS["document"]),
        ("embed_query(?)", PROMPTS["query"]),
        ("embed(?, NULL, 'query')", PROMPTS["query"]),
        ("embed(?, 'tiny', 'clustering')", PROMPTS["clustering"]),
        ("embed(?, 'tiny', 'night')", PROMPTS["night"]),
    ],
)
def test_a_text_has_its_prompt_in_front(sql: Sql, call: str, prompt: str) -> None:
    for _ in range(2):  # computed, and remembered
        vector = np.frombuffer(sql.one(f"SELECT {call}", "the red fox"), "<f4")
        assert vector @ expected(prompt) > 0.9999
    others = [expected(other) for other in PROMPTS.values() if other != prompt]
    assert all(vector @ other < 0.999 for other in others)


def test_tasks_have_entries_of_their_own_in_the_cache(sql: Sql) -> None:
    for task in ("clustering", "night", "query", None):
        sql("SELECT embed('fox', 'tiny', ?)", task)
    assert sql.one("SELECT entries FROM sqlembed_cache") == 4


def test_a_task_at_a_width(sql: Sql) -> None:
    vector = np.frombuffer(sql.one("SELECT embed(?, 'tiny:16', 'night')", "the red fox"), "<f4")
    assert vector @ tiny.unit(expected(PROMPTS["night"])[:16]) > 0.9999


@pytest.mark.parametrize("task", ["'summary'", "''", "'documents'"])
def test_an_unknown_task_names_the_known(sql: Sql, task: str) -> None:
    said = sql.error(f"SELECT embed('a', 'tiny', {task})")
    assert "OptionError" in said and "it has clustering, document, night, query" in said


def test_a_task_is_a_name(sql: Sql) -> None:
    assert "the task is a name; got the integer 3" in sql.error("SELECT embed('a', NULL, 3)")
