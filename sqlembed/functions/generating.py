"""SQL: a text written by a local chat model. ``generate``.

NULL in, NULL out. The answer is a text, or with the option ``details`` a JSON object.
"""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

from sqlembed.engine.generation import Generation, GenerationOptions, Message
from sqlembed.engine.interface import Engine
from sqlembed.errors import AnswerCutError, OptionError
from sqlembed.functions.registry import Function, Scalar, described, text_argument
from sqlembed.plan import SqlValue

NAMES = tuple(field.name for field in fields(GenerationOptions))
ROLES = ("user", "assistant")
EXAMPLE = '{"max_tokens": 100}'
MOST = 2**31 - 1
MOST_SEED = 2**32 - 2


def generate(engine: Engine, prompt: SqlValue, options: SqlValue = None) -> str | None:
    """``generate(prompt [, options])``: what a chat model answers.

    A cut by a bound that the caller set gives what there is; another is an error, and so is any
    cut of an answer that has to follow a grammar or a schema. With ``details`` neither is.
    """
    if prompt is None:
        return None
    chosen = parse(options)
    found = engine.generate(text_argument(prompt, "the prompt"), chosen)
    whole = not (found.cut and chosen.constrained)
    if chosen.details:
        return _details(found, whole)
    if not whole or (found.cut and not found.asked):
        raise _cut(found, chosen)
    return found.text


def _details(found: Generation, whole: bool) -> str:
    return json.dumps(
        {
            "text": found.text if whole else None,
            "finish_reason": found.finish_reason,
            "prompt_tokens": found.prompt_tokens,
            "cached_tokens": found.cached_tokens,
            "completion_tokens": found.completion_tokens,
        },
        ensure_ascii=False,
    )


def _cut(found: Generation, options: GenerationOptions) -> AnswerCutError:
    if found.finish_reason == "time":
        where = f"after {options.seconds:g} seconds and {found.completion_tokens} tokens"
    else:
        where = f"after {found.completion_tokens} tokens (its prompt has {found.prompt_tokens})"
    if options.constrained:
        rule = "JSON" if options.json_schema is not None else "what the grammar wants"
        return AnswerCutError(
            f"the answer was cut {where}, and a part of it is not {rule}; allow more max_tokens or"
            ' seconds, bound the lengths in the schema or grammar, or say {"details": true}, which'
            " gives null for it"
        )
    return AnswerCutError(
        f"the answer was cut {where}, and nobody had set that bound; set max_tokens, and what"
        ' there is until there is given; {"details": true} tells how an answer ended'
    )


def parse(text: SqlValue) -> GenerationOptions:
    """Read options from a JSON object; NULL gives the defaults.

    :raises OptionError: not a JSON object, an unknown option, or a value not allowed
    """
    if text is None:
        return GenerationOptions()
    try:
        given = json.loads(text)  # type: ignore[arg-type]
    except (ValueError, TypeError, RecursionError) as error:
        raise _no_object(text) from error
    if not isinstance(given, dict):
        raise _no_object(text)
    for name in given:
        if name not in NAMES:
            raise OptionError(f"no option is called {name!r}; the options are {', '.join(NAMES)}")
    read = {name: CHECKS[name](name, value) for name, value in given.items() if value is not None}
    if "grammar" in read and "json_schema" in read:
        raise OptionError("options grammar and json_schema were both given; an answer follows one")
    return GenerationOptions(**read)


def _no_object(text: SqlValue) -> OptionError:
    return OptionError(f"options are a JSON object, such as {EXAMPLE}; got {described(text)}")


def _wrong(name: str, expected: str, value: object) -> OptionError:
    return OptionError(f"option {name} is {expected}; got {json.dumps(value)[:60]}")


def _text(name: str, value: Any) -> str:
    if isinstance(value, str) and value:
        return value
    raise _wrong(name, "a text that is not empty", value)


def _whole(least: int, most: int) -> Callable[[str, Any], int]:
    def check(name: str, value: Any) -> int:
        if isinstance(value, int) and not isinstance(value, bool) and least <= value <= most:
            return value
        raise _wrong(name, f"a whole number from {least} to {most}", value)

    return check


def _number(least: float, most: float) -> Callable[[str, Any], float]:
    def check(name: str, value: Any) -> float:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if number and math.isfinite(value) and least <= value <= most:
            return float(value)
        raise _wrong(name, f"a number from {least:g} to {most:g}", value)

    return check


def _stop(name: str, value: Any) -> tuple[str, ...]:
    each = [value] if isinstance(value, str) else value
    if isinstance(each, list) and all(isinstance(stop, str) and stop for stop in each):
        return tuple(each)
    raise _wrong(name, "a text, or an array of texts, none of them empty", value)


def _messages(name: str, value: Any) -> tuple[Message, ...]:
    expected = 'an array of turns, such as {"role": "user", "content": "..."}; role is ' + (
        " or ".join(ROLES) + ", and what the model is told before is the option system"
    )
    if not isinstance(value, list):
        raise _wrong(name, expected, value)
    for turn in value:
        good = isinstance(turn, dict) and turn.keys() == {"role", "content"}
        if not good or turn["role"] not in ROLES or not isinstance(turn["content"], str):
            raise _wrong(name, expected, turn)
    return tuple(Message(turn["role"], turn["content"]) for turn in value)


def _schema(name: str, value: Any) -> Mapping[str, Any]:
    if isinstance(value, dict):
        return value
    raise _wrong(name, "a JSON schema, an object", value)


def _flag(name: str, value: Any) -> bool:
    if isinstance(value, bool):
        return value
    raise _wrong(name, "true or false", value)


CHECKS: dict[str, Callable[[str, Any], Any]] = {
    "model": _text,
    "system": _text,
    "messages": _messages,
    "max_tokens": _whole(1, MOST),
    "seconds": _number(0, MOST),
    "temperature": _number(0, 100),
    "seed": _whole(0, MOST_SEED),
    "top_k": _whole(0, MOST),
    "top_p": _number(0, 1),
    "min_p": _number(0, 1),
    "stop": _stop,
    "grammar": _text,
    "json_schema": _schema,
    "details": _flag,
}

FUNCTIONS: tuple[Function, ...] = (
    Scalar("generate", generate, 1, 2, deterministic=False, lengthy=True),
)
