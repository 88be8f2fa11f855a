"""The list of functions as plain data: what the loadable extension registers.

Its digest tells whether a client and a service mean the same functions.
"""

import json
from hashlib import sha256
from typing import Any

from sqlembed.functions import ALL
from sqlembed.functions.registry import Aggregate, Function, Procedure, Scalar, Table


def listing() -> list[dict[str, Any]]:
    """Every function: its name, kind, and what a door must know to register it."""
    return [_entry(function) for function in ALL]


def digest() -> str:
    """Hexadecimal SHA-256 of the list."""
    return sha256(json.dumps(listing(), sort_keys=True).encode()).hexdigest()


def _entry(function: Function) -> dict[str, Any]:
    entry: dict[str, Any] = {"name": function.name}
    match function:
        case Scalar(least=least, most=most):
            entry |= {"kind": "SCALAR", "least": least, "most": most}
            entry |= {"deterministic": function.deterministic, "direct": function.direct_only}
        case Procedure(least=least, most=most):
            entry |= {"kind": "PROCEDURE", "least": least, "most": most}
            entry |= {"deterministic": False, "direct": True}
            entry |= {"makes_index": function.makes_index, "optional": function.optional}
        case Aggregate():
            entry |= {"kind": "AGGREGATE", "least": 1, "most": 1}
            entry |= {"deterministic": False, "direct": False}
        case Table(columns=columns):
            entry |= {"kind": "TABLE", "least": function.least, "most": len(function.parameters)}
            entry |= {"columns": columns, "parameters": function.parameters}
            entry |= {"restricted": function.restricted, "bounded": function.bounded}
            entry |= {"ordered": function.ordered}
            entry |= {"usage": function.usage, "declaration": function.declaration}
    return entry
