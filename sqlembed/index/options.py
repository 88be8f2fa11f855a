"""The options of an index, given as JSON; an unknown one is an error."""

import json
from dataclasses import dataclass, fields
from typing import Literal

from sqlembed.errors import OptionError


@dataclass(frozen=True)
class Options:
    """What ``sqlembed_index(table, expression, options)`` can be told."""

    name: str | None = None
    """The index's name; the table's, if not given."""
    model: str | None = None
    """The embedder; the default model, if not given."""
    mode: Literal["deferred", "immediate"] = "deferred"
    """When a changed row's vector is stored: with the next flush, or by the writer at once."""
    backlog: Literal["now", "later"] = "now"
    """Whether the rows that exist are indexed before the call returns."""
    if_not_exists: bool = False
    """Whether an index of that name is left as it is, without an error."""


CHOICES = {
    "mode": ("deferred", "immediate"),
    "backlog": ("now", "later"),
    "if_not_exists": (True, False),
}


def parse(text: str | None) -> Options:
    """Read options from a JSON object; NULL gives the defaults.

    :raises OptionError: not a JSON object, an unknown option, or a value not allowed
    """
    if text is None:
        return Options()
    try:
        given = json.loads(text)
    except (ValueError, TypeError, RecursionError) as error:
        raise OptionError(
            f'options are a JSON object, such as {{"model": "..."}}; got {text!r}'
        ) from error
    if not isinstance(given, dict):
        raise OptionError(f'options are a JSON object, such as {{"model": "..."}}; got {text!r}')
    known = [field.name for field in fields(Options)]
    for name, value in given.items():
        if name not in known:
            raise OptionError(f"no option is called {name!r}; the options are {', '.join(known)}")
        if name not in CHOICES and not (isinstance(value, str) and value):
            raise OptionError(f"option {name} is a text that is not empty; got {json.dumps(value)}")
        if name in CHOICES and value not in CHOICES[name]:
            allowed = " or ".join(json.dumps(choice) for choice in CHOICES[name])
            raise OptionError(f"option {name} is {allowed}; got {json.dumps(value)}")
    return Options(**given)
