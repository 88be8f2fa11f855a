"""Write functions.h, which tells the C files what to register, from Python's own registry.

Run while the extension is built, where neither SQLite nor a model may be at hand.
"""

from typing import Any

from sqlembed import __version__, settings
from sqlembed.functions.listing import digest, listing
from sqlembed.index import immediate
from sqlembed.service.frames import PROTOCOL

HEAD = """\
/* Generated from sqlembed.functions by sqlembed/extension/generate.py. */
#define PROTOCOL {protocol}
#define VERSION {version}
#define DIGEST {digest}
#define HAS_IMMEDIATE {has_immediate}
#define WATCH_IMMEDIATE {watch}
static const char *const SHARED_SETTINGS[] __attribute__((unused)) = {{{shared}}};
enum {{ FUNCTION_COUNT = {count} }};
static const struct function FUNCTIONS[] __attribute__((unused)) = {{
"""


def functions_h() -> str:
    """The text of the header."""
    head = HEAD.format(
        protocol=PROTOCOL,
        version=literal(__version__),
        digest=literal(digest()),
        has_immediate=literal(immediate.HAS_IMMEDIATE),
        watch=literal(immediate.WATCH),
        shared=", ".join(map(literal, settings.SHARED)),
        count=len(listing()),
    )
    return head + "".join(f"    {{{initializer(entry)}}},\n" for entry in listing()) + "};\n"


def initializer(entry: dict[str, Any]) -> str:
    """A ``struct function`` of one entry of the list."""
    fields = {
        "name": literal(entry["name"]),
        "kind": entry["kind"],
        "least": entry["least"],
        "most": entry["most"],
    }
    if entry["kind"] == "TABLE":
        columns = list(entry["columns"])
        parameters = ", ".join([*map(literal, entry["parameters"]), "0"])
        fields |= {
            "usage": literal(entry["usage"]),
            "declaration": literal(entry["declaration"]),
            "parameters": f"(const char *const[]){{{parameters}}}",
            "columns": len(columns),
            "restricted": columns.index(entry["restricted"]) if entry["restricted"] else -1,
            "ordered": columns.index(entry["ordered"]) if entry["ordered"] else -1,
        }
    else:
        direct = "SQLITE_DIRECTONLY" if entry["direct"] else "SQLITE_INNOCUOUS"
        fields["flags"] = direct + " | SQLITE_DETERMINISTIC" * entry["deterministic"]
        fields["makes_index"] = int(entry.get("makes_index", False))
        fields["optional"] = int(entry.get("optional", False))
    return ", ".join(f".{name} = {value}" for name, value in fields.items())


def literal(text: str) -> str:
    """*text*, of ASCII, as a C string."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
