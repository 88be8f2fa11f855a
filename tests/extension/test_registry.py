"""A function that is new in the registry needs no C: the list is made into a header, and that is all."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from extension import compiled

from sqlembed.extension import generate
from sqlembed.functions import listing
from sqlembed.functions.registry import Aggregate, Procedure, Restriction, Scalar, Table
from sqlembed.plan import Plan, Row, SqlValue, Statement
from sqlembed.service import conversation


def backwards(_: Any, text: str, again: int = 1) -> str:
    return text[::-1] * again


def tables(_: Any, pattern: str) -> Plan[SqlValue]:
    rows = yield Statement("SELECT count(*) FROM sqlite_master WHERE name LIKE ?", (pattern,))
    return rows[0][0]


class Longest:
    """The longest of a group's texts."""

    def __init__(self, _: Any) -> None:
        self.found = ""

    def step(self, value: SqlValue) -> None:
        self.found = max(self.found, str(value), key=len)

    def final(self) -> SqlValue:
        return self.found


def letters(_: Any, restriction: Restriction, text: str, step: int | None) -> Plan[Iterable[Row]]:
    ((upper,),) = yield Statement("SELECT upper(?)", (text,))
    rows = [(letter, float(at)) for at, letter in enumerate(str(upper)) if at % (step or 1) == 0]
    allowed = restriction.among
    kept = [row for row in rows if allowed is None or row[0] in allowed]
    return kept[: restriction.limit]


ADDED = (
    Scalar("dummy_backwards", backwards, 1, 2),
    Procedure("dummy_tables", tables, 1, 1),
    Aggregate("dummy_longest", Longest),
    Table("dummy_letters", ("letter", "place"), letters, ("text", "step"), 1, "letter", "place"),
    Table("dummy_all", ("letter", "place"), lambda _, r: letters(_, r, "wxyz", None)),
)
SQL = """\
CREATE TABLE words(word);
INSERT INTO words VALUES ('ab'), ('wxyz'), ('"?\\');
SELECT dummy_backwards('abc'), dummy_backwards('xy', 2);
SELECT dummy_tables('w%');
SELECT dummy_longest(word), dummy_longest(dummy_backwards(word)) FROM words;
SELECT letter, place FROM dummy_letters('hello', 2);
SELECT place FROM dummy_letters('hello') WHERE letter IN ('L', 'H') AND place > 0;
SELECT letter FROM dummy_letters('hello') LIMIT 2;
SELECT w.word, d.letter FROM words w JOIN dummy_letters(w.word, 3) d;
SELECT group_concat(letter, '') FROM dummy_all;
SELECT length(embed('dinner'));
SELECT letter FROM dummy_letters;
"""
PRINTED = """\
cba|yxyx
1
wxyz|zyxw
H|0.0
L|2.0
O|4.0
2.0
3.0
H
E
ab|A
wxyz|W
wxyz|Z
"?\\|"
WXYZ
256
"""


def test_functions_are_added_without_c(
    service: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "ALL", (*listing.ALL, *ADDED))
    for function in ADDED:
        monkeypatch.setitem(conversation.FUNCTIONS, function.name, function)
    library = compiled.compiled(tmp_path, *compiled.COMMON, "-Wall", "-Wextra", "-Werror")
    script = f".load {library}\n{SQL}"
    command = [compiled.shell(), "-batch"]
    said = compiled.run(command, script=script, code=compiled.FAILED_STATEMENTS)
    assert said.startswith(PRINTED)
    assert "dummy_letters(text [, step]): text is missing" in said.removeprefix(PRINTED)


def test_an_extension_of_other_functions_says_so(
    sanitized: Path, service: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "ALL", (*listing.ALL, *ADDED))
    log = tmp_path / "log"
    script = f".load {sanitized}\nSELECT embed('x');"
    command = [compiled.shell(), "-batch"]
    environment = compiled.watched_by_asan(sanitized, log)
    said = compiled.run(command, environment, script, compiled.FAILED_STATEMENTS)
    assert "end that one, and the next call starts the new one: sqlembed serve --stop" in said
    assert compiled.leaks(log) == []


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"kind": "SCALAR", "least": 0, "most": 101}, "takes 0 to 101 arguments"),
        ({"kind": "SCALAR", "least": 3, "most": 2}, "takes 3 to 2 arguments"),
        ({"kind": "TABLE", "least": 0, "most": 9, "columns": ["x"]}, "takes 0 to 9 arguments"),
        ({"kind": "TABLE", "least": 0, "most": 1, "columns": ["x"] * 65}, "has 65 columns"),
    ],
)
def test_what_c_has_no_room_for_is_not_built(entry: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        generate.checked({"name": "dummy", **entry})
