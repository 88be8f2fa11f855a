"""Write functions.h, which tells the C files what to register, from Python's own registry.

Run while the extension is built, where neither SQLite nor a model may be at hand.
"""

from typing import Any

from sqlembed import __version__, settings
from sqlembed.functions.listing import digest, listing
from sqlembed.index import immediate
from sqlembed.service.frames import PROTOCOL

ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n", "?": "\\?"})

MOST_PARAMETERS = 8
"""Of a table; each is a letter to table.c, and has a place in every cursor."""
MOST_ARGUMENTS = 100
"""Of another function, in SQLite as it comes."""
MOST_COLUMNS = 64
"""Of a table."""

HEAD = """\
/* Generated from sqlembed.functions by sqlembed/extension/generate.py. */
#define PROTOCOL {protocol}
#define VERSION {version}
#define DIGEST {digest}
#define HAS_IMMEDIATE {has_immediate}
#define WATCH_IMMEDIATE {watch}
#define KNOWN {known}
static const char *const SHARED_SETTINGS[] __attribute__((unused)) = {{{shared}}};
enum {{ FUNCTION_COUNT = {count}, MOST_PARAMETERS = {most_parameters} }};
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
        known=literal(known()),
        most_parameters=MOST_PARAMETERS,
        shared=", ".join(map(literal, settings.SHARED)),
        count=len(listing()),
    )
    return (
        head + "".join(f"    {{{initializer(checked(entry))}}},\n" for entry in listing()) + "};\n"
    )


def known() -> str:
    """A statement that can be prepared where the functions are registered already."""
    plain = (each for each in listing() if each["kind"] != "TABLE" and each["least"] == 0)
    return f"SELECT {next(plain)['name']}()"


def checked(entry: dict[str, Any]) -> dict[str, Any]:
    """*entry*, if the C files can register it.

    :raises ValueError: it has more arguments or columns than they have room for
    """
    most = MOST_PARAMETERS if entry["kind"] == "TABLE" else MOST_ARGUMENTS
    if not 0 <= entry["least"] <= entry["most"] <= most:
        raise ValueError(
            f"{entry['name']} takes {entry['least']} to {entry['most']} arguments; the extension"
            f" has room for 0 to {most}"
        )
    if len(entry.get("columns", ())) > MOST_COLUMNS:
        raise ValueError(
            f"{entry['name']} has {len(entry['columns'])} columns; the extension has room for"
            f" {MOST_COLUMNS}"
        )
    return entry


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
        }
        for role in ("restricted", "bounded", "ordered"):
            fields[role] = columns.index(entry[role]) if entry[role] else -1
    else:
        direct = "SQLITE_DIRECTONLY" if entry["direct"] else "SQLITE_INNOCUOUS"
        fields["flags"] = direct + " | SQLITE_DETERMINISTIC" * entry["deterministic"]
        fields["makes_index"] = int(entry.get("makes_index", False))
        fields["optional"] = int(entry.get("optional", False))
    return ", ".join(f".{name} = {value}" for name, value in fields.items())


def literal(text: str) -> str:
    """*text*, of ASCII, as a C string."""
    escaped = (
        text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("?", "\\?")
    )
    return f'"{escaped}"'
