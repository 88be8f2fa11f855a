"""The options of an index, given as JSON; an unknown one is an error."""

import json
from collections.abc import Collection
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from sqlembed.engine.chunk import Chunking
from sqlembed.errors import OptionError, SchemaError


@dataclass(frozen=True)
class Options:
    """What ``sqlembed_index(table, expression, options)`` can be told."""

    name: str | None = None
    """The index's name; the table's, if not given."""
    model: str | None = None
    """The embedder; the default model, if not given; ``auto`` chooses by the texts' lengths."""
    mode: Literal["deferred", "immediate"] = "deferred"
    """When a changed row's vector is stored: with the next flush, or by the writer at once."""
    backlog: Literal["now", "later"] = "now"
    """Whether the rows that exist are indexed before the call returns."""
    if_not_exists: bool = False
    """Whether an index of that name is left as it is, without an error."""
    tokens: int | None = None
    """The most tokens of a chunk; what the model reads, if not given."""
    overlap: int | None = None
    """The most tokens that a chunk repeats of the one before; a tenth, if not given."""

    words: str | None = "unicode61 remove_diacritics 2"
    """How FTS5 splits texts into words; None to keep no words, and search by meaning alone."""

    @property
    def lasting(self) -> "Lasting":
        """What the index keeps."""
        return Lasting(self.tokens, self.overlap, self.words)


@dataclass(frozen=True)
class Lasting:
    """The options that an index keeps in the catalog's column ``options``."""

    tokens: int | None = None
    overlap: int | None = None
    words: str | None = None
    """None for an index made before words were kept, too."""

    @property
    def chunking(self) -> Chunking:
        """How its texts are cut."""
        return Chunking(self.tokens, self.overlap)

    def to_json(self) -> str:
        """Those that were given."""
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        return json.dumps({name: value for name, value in given.items() if value is not None})

    @classmethod
    def from_json(cls, text: str) -> "Lasting":
        """The reverse.

        :raises SchemaError: there is one that only a newer sqlembed knows
        """
        given = json.loads(text)
        known = {field.name for field in fields(cls)}
        if unknown := sorted(given.keys() - known):
            raise SchemaError(
                f"an index was made with the option {unknown[0]}, which this sqlembed does not"
                " know; upgrade sqlembed"
            )
        return cls(**given)


@dataclass(frozen=True)
class Changes:
    """What ``sqlembed_alter(index, options)`` was told; what was not stays as it is."""

    given: dict[str, Any]

    def new(self, name: str, old: Any) -> Any:
        """The option *name*, which is *old* now."""
        return self.given.get(name, old)

    @property
    def rebuild(self) -> bool:
        """Whether any says how texts become vectors or words."""
        return not self.given.keys() <= {"name", "mode", "backlog"}

    def lasting(self, old: Lasting) -> Lasting:
        """What the index keeps, which is *old* now."""
        names = [field.name for field in fields(Lasting)]
        return replace(old, **{name: self.given[name] for name in names if name in self.given})


CHOICES = {
    "mode": ("deferred", "immediate"),
    "backlog": ("now", "later"),
    "if_not_exists": (True, False),
}
NUMBERS = ("tokens", "overlap")
EXAMPLE = '{"model": "..."}'
CHANGEABLE = ("name", "model", "mode", "expression", "tokens", "overlap", "words", "backlog")
LATER = ("backlog",)
OURS = "sqlembed_"
"""How no name of an index may begin."""


def parse(text: str | None) -> Options:
    """Read options from a JSON object; NULL gives the defaults.

    :raises OptionError: not a JSON object, an unknown option, or a value not allowed
    """
    if text is None:
        return Options()
    given = read(text, [field.name for field in fields(Options)], EXAMPLE)
    for name, value in given.items():
        _check(name, value)
    return Options(**given)


def parse_changes(text: str) -> Changes:
    """Read what is to change from a JSON object; null gives a number its default again.

    :raises OptionError: as for :func:`parse`
    """
    given = read(text, CHANGEABLE, '{"tokens": 128}')
    for name, value in given.items():
        if value is not None or name not in NUMBERS:
            _check(name, value)
    return Changes(given)


def is_later(text: str | None) -> bool:
    """Whether the only option that there is, ``backlog``, leaves the rows waiting.

    :raises OptionError: as for :func:`parse`
    """
    given = {} if text is None else read(text, LATER, '{"backlog": "later"}')
    for name, value in given.items():
        _check(name, value)
    return given.get("backlog") == "later"


def _check(name: str, value: Any) -> None:
    """See that an option may have this value."""
    if name == "words" and value is None:
        return
    if name in NUMBERS:
        whole_number(name, value)
    elif name not in CHOICES and not (isinstance(value, str) and value):
        raise OptionError(f"option {name} is a text that is not empty; got {json.dumps(value)}")
    elif name in CHOICES and value not in CHOICES[name]:
        allowed = " or ".join(json.dumps(choice) for choice in CHOICES[name])
        raise OptionError(f"option {name} is {allowed}; got {json.dumps(value)}")
    if name == "name" and value.lower().startswith(OURS):
        raise OptionError(
            f"option name does not begin with {OURS}, as sqlembed's own names do; got"
            f" {json.dumps(value)}"
        )


def read(text: str, known: Collection[str], example: str) -> dict[str, Any]:
    """The options in a JSON object, their values not looked at.

    :raises OptionError: not a JSON object, or an option that is not among *known*
    """
    try:
        given = json.loads(text)
    except (ValueError, TypeError, RecursionError) as error:
        raise _no_object(text, example) from error
    if not isinstance(given, dict):
        raise _no_object(text, example)
    for name in given:
        if name not in known:
            raise OptionError(f"no option is called {name!r}; the options are {', '.join(known)}")
    return given


def whole_number(name: str, value: Any) -> int:
    """*value*, of the option *name*, if it is a whole number.

    :raises OptionError: it is something else
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise OptionError(f"option {name} is a whole number; got {json.dumps(value)}")


def _no_object(text: str, example: str) -> OptionError:
    return OptionError(f"options are a JSON object, such as {example}; got {text!r}")
