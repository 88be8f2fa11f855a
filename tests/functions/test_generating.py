"""generate: options, cuts and errors on a fake model; what it writes on the real one; every door."""

import json
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from doors_harness import PYTHON, serving
from harness import Sql, install_fake

from sqlembed import extension
from sqlembed.engine import generator as generator_module
from sqlembed.engine.generation import Generation, GenerationOptions
from sqlembed.engine.local import LocalEngine
from sqlembed.weights import manifest

MODEL = "SmolLM2-135M-Instruct"
SOON = 10
"""Seconds in which an interrupt ends a call; a tenth of one on a machine at leisure."""
ENDLESS = '{"json_schema": {"type": "string", "minLength": 20000}, "max_tokens": 8000}'
"""Options of an answer that takes minutes."""
PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 12}, "age": {"type": "integer", "maximum": 99}},
    "required": ["name", "age"],
    "additionalProperties": False,
}  # fmt: skip


class FakeGenerator:
    """Answers a prompt with its words, each a token, as far as it is allowed to."""

    def __init__(self, manifest: manifest.Manifest, path: Path) -> None:
        self.manifest = manifest

    def generate(self, prompt: str, options: GenerationOptions, until: float) -> Generation:
        words = prompt.split()
        most = options.max_tokens or 5
        if prompt == "slow":
            return Generation("half", "time", True, 1, 0, 1)
        cut = len(words) > most
        text = " ".join(words[:most])
        asked = options.max_tokens is not None
        return Generation(text, "length" if cut else "stop", asked, 7, 3, len(words[:most]))

    def count(self, texts: list[str]) -> list[int]:
        return [len(text.split()) for text in texts]

    def waiting(self) -> dict[str, int]:
        return {"generation": 0}

    def close(self) -> None: ...


@pytest.fixture
def writes(sql: Sql, monkeypatch: pytest.MonkeyPatch) -> Sql:
    """SQL with a fake generator installed."""
    monkeypatch.setattr(generator_module, "Generator", FakeGenerator)
    install_fake("writer", "generator", 1)
    return sql


def test_an_answer_is_a_text_and_null_gives_null(writes: Sql) -> None:
    assert writes.one("SELECT generate('one two')") == "one two"
    assert writes.one("SELECT generate('one two', NULL)") == "one two"
    assert writes.one('SELECT generate(\'one\', \'{"model": "writer", "stop": null}\')') == "one"
    assert writes.one("SELECT generate(NULL)") is None
    assert writes.one("SELECT generate(NULL, 'no JSON')") is None
    assert writes("SELECT used_for FROM sqlembed_models WHERE name = 'writer'") == ["generate"]


def test_a_cut_that_was_asked_for_gives_what_there_is(writes: Sql) -> None:
    assert writes.one("SELECT generate('a b c', '{\"max_tokens\": 2}')") == "a b"
    assert writes.one("SELECT generate('slow', '{\"seconds\": 1}')") == "half"


def test_a_cut_that_nobody_asked_for_is_an_error(writes: Sql) -> None:
    assert writes.error("SELECT generate('a b c d e f')").startswith(
        "AnswerCutError: the answer was cut after 5 tokens (its prompt has 7), and nobody had set"
    )
    found = json.loads(writes.one("SELECT generate('a b c d e f', '{\"details\": true}')"))
    assert found == {
        "text": "a b c d e", "finish_reason": "length",
        "prompt_tokens": 7, "cached_tokens": 3, "completion_tokens": 5,
    }  # fmt: skip


@pytest.mark.parametrize("rule", ['"grammar": "root ::= \\"a\\""', '"json_schema": {}'])
@pytest.mark.parametrize("prompt", ["a b c", "slow"])
def test_a_part_of_what_follows_a_rule_never_comes_back(
    writes: Sql, rule: str, prompt: str
) -> None:
    options = f'{{{rule}, "max_tokens": 2, "seconds": 9}}'
    assert writes.error("SELECT generate(?, ?)", prompt, options).startswith(
        "AnswerCutError: the answer was cut after "
    )
    options = f'{{{rule}, "max_tokens": 2, "seconds": 9, "details": true}}'
    found = json.loads(writes.one("SELECT generate(?, ?)", prompt, options))
    assert found["text"] is None and found["finish_reason"] in ("length", "time")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("[]", "options are a JSON object, such as {\"max_tokens\": 100}; got the text '[]'"),
        (5, "options are a JSON object, such as {\"max_tokens\": 100}; got the integer 5"),
        ('{"max_token": 5}', "no option is called 'max_token'; the options are model, system,"),
        ('{"max_tokens": 0}', "option max_tokens is a whole number from 1 to 2147483647; got 0"),
        ('{"max_tokens": true}', "option max_tokens is a whole number"),
        ('{"temperature": -1}', "option temperature is a number from 0 to 100; got -1"),
        ('{"temperature": NaN}', "option temperature is a number from 0 to 100; got NaN"),
        ('{"seed": 4294967295}', "option seed is a whole number from 0 to 4294967294"),
        ('{"top_p": 2}', "option top_p is a number from 0 to 1; got 2"),
        ('{"stop": [""]}', "option stop is a text, or an array of texts, none of them empty"),
        ('{"json_schema": "x"}', "option json_schema is a JSON schema, an object; got \"x\""),
        ('{"messages": [{"role": "system", "content": "x"}]}', "option messages is an array of turns"),
        ('{"system": ""}', "option system is a text that is not empty; got \"\""),
        ('{"details": 1}', "option details is true or false; got 1"),
        ('{"grammar": "x", "json_schema": {}}', "options grammar and json_schema were both given"),
    ],
)  # fmt: skip
def test_bad_options_are_errors_in_words(writes: Sql, options: Any, message: str) -> None:
    assert writes.error("SELECT generate('x', ?)", options).startswith(f"OptionError: {message}")


def test_models_are_told_apart_by_what_they_do(writes: Sql) -> None:
    assert writes.error("SELECT generate('x', '{\"model\": \"wide\"}')").startswith(
        "InputError: wide is an embedder, and writes no texts"
    )
    for call in ("embed('x', 'writer')", "rerank('x', 'y', 'writer')"):
        assert writes.error(f"SELECT {call}").startswith("InputError: writer is a generator")
    assert writes.error("SELECT generate('x', '{\"model\": \"nobody\"}')").startswith("NotFound")
    assert writes.error("SELECT generate(5)").startswith("InputError: the prompt is a text; got")
    assert writes.one("SELECT token_count('a b', 'writer')") == 2


def test_without_a_generator_it_says_how_to_get_one(sql: Sql) -> None:
    assert sql.error("SELECT generate('x')") == (
        "ModelMissingError: no model that writes is on this machine; get one with:"
        f" sqlembed pull {MODEL}"
    )


def test_a_setting_names_the_generator(writes: Sql, monkeypatch: pytest.MonkeyPatch) -> None:
    install_fake("another", "generator", 1)
    assert writes("SELECT name FROM sqlembed_models WHERE used_for = 'generate'") == ["another"]
    monkeypatch.setenv("SQLEMBED_GENERATOR", "writer")
    assert writes("SELECT name FROM sqlembed_models WHERE used_for = 'generate'") == ["writer"]


# On the real model.


def asked(sql: Sql, prompt: str, **options: Any) -> dict[str, Any]:
    """What ``generate`` gives, with its details."""
    found: dict[str, Any] = json.loads(
        sql.one("SELECT generate(?, ?)", prompt, json.dumps({"details": True, **options}))
    )
    return found


@pytest.mark.model
def test_the_same_is_written_again(real_sql: Sql) -> None:
    first = asked(real_sql, "Write a word.", max_tokens=12)
    assert first == asked(real_sql, "Write a word.", max_tokens=12)
    assert first["text"] and first["completion_tokens"] <= 12
    drawn = [asked(real_sql, "Write a word.", max_tokens=12, temperature=1.5, seed=n) for n in (1, 1, 2)]  # fmt: skip
    assert drawn[0]["text"] == drawn[1]["text"] != drawn[2]["text"]


@pytest.mark.model
def test_json_follows_its_schema(real_sql: Sql) -> None:
    options = {"json_schema": PERSON, "temperature": 1.0, "seed": 3}
    person = json.loads(real_sql.one("SELECT generate('A person?', ?)", json.dumps(options)))
    assert person.keys() == {"name", "age"}
    assert isinstance(person["age"], int) and person["age"] <= 99 and len(person["name"]) <= 12
    cut = asked(real_sql, "A person?", max_tokens=3, **options)
    assert (cut["text"], cut["finish_reason"]) == (None, "length")


@pytest.mark.model
def test_a_grammar_and_stop_strings(real_sql: Sql) -> None:
    one = asked(real_sql, "Is snow white?", grammar='root ::= "yes" | "no"', max_tokens=9)
    assert one["text"] in ("yes", "no") and one["finish_reason"] == "stop"
    whole = asked(real_sql, "Write a word.", max_tokens=12)["text"]
    middle = whole[len(whole) // 2 :][:3]
    stopped = asked(real_sql, "Write a word.", max_tokens=12, stop=["never this", middle])
    assert stopped["text"] == whole[: whole.index(middle)]
    assert stopped["finish_reason"] == "stop"


@pytest.mark.model
@pytest.mark.doors("apsw")
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"grammar": 'root ::= "a'}, "Unexpected end of input"),
        ({"grammar": "root ::= " + "(" * 200_000}, "recursion"),
        ({"grammar": "root ::= other"}, "Rule 'other' not found"),
        ({"json_schema": {"type": "nothing"}}, "Invalid type: nothing"),
        ({"json_schema": {"if": {}}}, "Unimplemented keys"),
        ({"json_schema": {"$ref": "https://example.org/x"}}, "does not fetch"),
    ],
)
def test_what_cannot_be_followed_is_an_error(
    real_sql: Sql, options: dict[str, Any], words: str
) -> None:
    error = real_sql.error("SELECT generate('x', ?)", json.dumps(options))
    assert error.startswith(f"InputError: option {next(iter(options))} cannot be followed: ")
    assert words in error


@pytest.mark.model
def test_a_prompt_too_long_is_an_error_with_both_numbers(real_sql: Sql) -> None:
    error = real_sql.error("SELECT generate(?)", "word " * 9000)
    assert error.startswith("TextTooLongError: a prompt of 45000 characters has 9031 tokens")
    assert "room for 8192" in error


@pytest.mark.model
def test_time_ends_an_answer(real_sql: Sql) -> None:
    begun = time.monotonic()
    found = asked(real_sql, "Tell me all that you know.", max_tokens=8000, seconds=0.5)
    assert time.monotonic() - begun < SOON
    assert found["finish_reason"] == "time"


@pytest.mark.model
@pytest.mark.doors("apsw", "service")
def test_an_interrupt_ends_it_and_frees_the_model(real_sql: Sql) -> None:
    threading.Timer(0.5, real_sql.db.interrupt).start()
    begun = time.monotonic()
    error = real_sql.error("SELECT generate('Tell me all.', ?)", ENDLESS)
    assert time.monotonic() - begun < SOON
    assert "interrupt" in error.lower()
    assert asked(real_sql, "Write a word.", max_tokens=1, seconds=SOON)["completion_tokens"] == 1


INTERRUPTED = """
import sqlite3, sys, threading, time
db = sqlite3.connect(":memory:", check_same_thread=False)
db.enable_load_extension(True)
db.execute("SELECT load_extension(?)", (sys.argv[1],))
threading.Timer(0.5, db.interrupt).start()
begun = time.monotonic()
try:
    db.execute("SELECT generate('Tell me all.', ?)", (sys.argv[2],)).fetchall()
except sqlite3.OperationalError as error:
    print(error, time.monotonic() - begun < 10)
begun = time.monotonic()
print(len(db.execute("SELECT generate('Hi', '{\\"max_tokens\\": 1}')").fetchall()))
print(time.monotonic() - begun < 10)
"""


@pytest.mark.model
def test_an_interrupt_reaches_it_through_the_extension(
    real_engine: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(real_engine) as socket:
        monkeypatch.setenv("SQLEMBED_SOCKET", str(socket))
        command = [PYTHON, "-c", INTERRUPTED, str(extension.path()), ENDLESS]
        ran = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (ran.stdout, ran.stderr) == ("interrupted True\n1\nTrue\n", "")


@pytest.mark.model
@pytest.mark.doors("apsw")
def test_embedders_answer_while_a_text_is_written(real_sql: Sql, real_engine: LocalEngine) -> None:
    written = threading.Event()

    def write() -> None:
        endless = {"type": "string", "minLength": 20000}
        options = GenerationOptions(json_schema=endless, max_tokens=8000, seconds=8)
        real_engine.generate("Tell me all that you know.", options)
        written.set()

    real_sql("SELECT embed('loaded')")
    thread = threading.Thread(target=write)
    thread.start()
    for number in range(3):
        assert real_sql.one("SELECT embed(?)", f"meanwhile {number}")
    assert not written.is_set()
    thread.join()
