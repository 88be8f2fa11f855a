"""What a text generation is asked for, and what came of it. Imports nothing heavy."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

DEFAULT_MOST_TOKENS = 512
"""Tokens of an answer where nobody set a bound; going on is an error then, and not a cut."""

Finish = Literal["stop", "length", "time"]
"""Why an answer ended: by itself or at a stop string, at a bound of tokens, or out of time."""


@dataclass(frozen=True)
class Message:
    """A turn of a conversation."""

    role: Literal["user", "assistant"]
    content: str


@dataclass(frozen=True)
class GenerationOptions:
    """How to generate; the options of ``generate(prompt, options)`` have these names."""

    model: str | None = None
    """The generator; the default one, if not given."""
    system: str | None = None
    """What the model is told before the conversation; the chat template's own, if not given."""
    messages: tuple[Message, ...] = ()
    """The turns before the prompt."""
    max_tokens: int | None = None
    """Where the answer is cut."""
    seconds: float | None = None
    """How long the whole call may take: waiting, reading the prompt and answering."""
    temperature: float = 0.0
    """0 takes the likeliest token each time."""
    seed: int | None = None
    """What the dice begin with, where the temperature is above 0; drawn anew, if not given."""
    top_k: int = 40
    """Among how many of the likeliest tokens is drawn; 0 for all."""
    top_p: float = 0.95
    """How likely these are together at least; 1 for all."""
    min_p: float = 0.05
    """How likely each is at least, as a part of the likeliest's; 0 for all."""
    stop: tuple[str, ...] = ()
    """Texts that end the answer, and are not part of it."""
    grammar: str | None = None
    """A GBNF or Lark grammar that the whole answer follows."""
    json_schema: Mapping[str, Any] | None = None
    """A JSON schema that the answer, JSON then, follows."""
    details: bool = False
    """Whether the answer comes with how it ended, and what it cost, as a JSON object."""

    @property
    def constrained(self) -> bool:
        """Whether the answer is of use only as a whole."""
        return self.grammar is not None or self.json_schema is not None


@dataclass(frozen=True)
class Generation:
    """An answer."""

    text: str
    finish_reason: Finish
    asked: bool
    """Whether a bound that cut it was the caller's own, and not ours or the model's."""
    prompt_tokens: int
    cached_tokens: int
    """Tokens of the prompt that were not computed again."""
    completion_tokens: int

    @property
    def cut(self) -> bool:
        """Whether more would have come."""
        return self.finish_reason != "stop"
