"""docs/protocol.md: its numbers are those of the Python and the C side, and its client works."""

import re
import sqlite3
import sys
from enum import IntEnum

import pytest
from hosts.machine import ROOT, Machine

from sqlembed import settings
from sqlembed.functions.registry import Pushed
from sqlembed.service import address, conversation, daemon, frames, link, server

PAGE = (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8")
C_FILES = {path.name: path.read_text() for path in (ROOT / "sqlembed/extension").glob("*.[ch]")}


def named(members: type[IntEnum]) -> dict[str, int]:
    return {member.name: member.value for member in members}


def table(heading: str) -> list[list[str]]:
    """The cells of the page's table with this heading, the code marks taken off."""
    body = PAGE.partition(f"\n{heading}\n")[2].partition("\n\n")[0]
    assert body, heading
    lines = body.splitlines()[1:]
    return [[cell.strip().strip("`") for cell in line.strip("| ").split(" | ")] for line in lines]


def c_enum(file: str, first: str) -> dict[str, int]:
    """The members of the enum of a C file that begins with *first*."""
    source = re.sub(r"/\*.*?\*/", "", C_FILES[file], flags=re.DOTALL)
    (body,) = [
        each for each in re.findall(r"enum[^{};]*{([^}]*)}", source) if first in each.split()[0]
    ]
    members: dict[str, int] = {}
    for member in filter(None, map(str.strip, body.split(","))):
        name, _, value = member.partition(" = ")
        members[name] = eval(value) if value else max(members.values(), default=-1) + 1
    return members


def test_types_of_frames() -> None:
    assert {
        row[1]: int(row[0], 16)
        for row in table(["| type | name | from | payload |", "|---|---|---|---|"][0])
    } == named(frames.Type)
    assert c_enum("sqlembed.h", "HELLO") == named(frames.Type)


def test_tags_of_values() -> None:
    assert {row[1]: int(row[0]) for row in table("| tag | name | then |")} == named(frames.Tag)
    c = c_enum("sqlembed.h", "TAG_NULL")
    assert {name.removeprefix("TAG_"): tag for name, tag in c.items()} == named(frames.Tag)


def test_what_is_pushed_down() -> None:
    rows = table("| number | name | value | means |")
    assert {row[1]: int(row[0]) for row in rows} == named(Pushed)
    assert c_enum("table.c", "AMONG") == named(Pushed)


def test_values_in_bytes() -> None:
    rows = table("| SQL | bytes |")
    assert len(rows) == 6
    for literal, expected in rows:
        (value,) = sqlite3.connect(":memory:").execute(f"SELECT {literal}").fetchone()
        assert frames.value(value).hex(" ") == expected, literal
        assert frames.Reader(bytes.fromhex(expected)).value() == value


def test_a_frame_in_bytes() -> None:
    block = PAGE.partition("The frame for `embed('hi')`:\n\n```text\n")[2].partition("```")[0]
    shown = bytes.fromhex("".join(line.partition("  ")[0] for line in block.splitlines()))
    arguments = frames.u16(1), frames.value("hi")
    expected = frames.frame(frames.Type.CALL, frames.text("embed"), *arguments, frames.u16(0))
    assert shown == expected


def test_limits() -> None:
    assert {
        what.replace("`", ""): int(number.replace(",", ""))
        for what, number in table("| what | number |")
    } == {
        "least length in a frame's header": 1,
        "greatest length in a frame's header": frames.MOST_FRAME_BYTES,
        "bytes of a ROWS frame, about": frames.PART_BYTES,
        "calls inside the statements of calls": conversation.MOST_NESTED,
        "open groups of a connection": conversation.MOST_GROUPS,
        "clients of a service": server.MOST_CLIENTS,
        "seconds between two WORKING": server.TICK_SECONDS,
        "seconds without a sign of life": settings.TIMEOUT_SECONDS,
        "seconds without a request until the service ends": settings.IDLE_SECONDS,
        "seconds for a start": link.START_SECONDS,
        "bytes of a socket's path": address.MOST_PATH_BYTES,
    }
    for length in (0, frames.MOST_FRAME_BYTES + 1):
        with pytest.raises(frames.FrameError):
            frames.payload_bytes(length)


def test_both_sides_have_the_same_limits() -> None:
    sizes = c_enum("sqlembed.h", "HEADER_BYTES")
    assert sizes["HEADER_BYTES"] == frames.HEADER.size
    assert sizes["MOST_FRAME_BYTES"] == frames.MOST_FRAME_BYTES
    assert sizes["PART_BYTES"] == frames.PART_BYTES
    assert c_enum("sqlembed.h", "SLICE_MS")["START_MS"] == 1000 * link.START_SECONDS
    seconds = re.search(r"DEFAULT_SECONDS = (\d+)", C_FILES["link.c"])
    assert seconds and int(seconds[1]) == settings.TIMEOUT_SECONDS


def test_the_greeting_and_the_end() -> None:
    said = " ".join(PAGE.split())
    assert f"*protocol*: {frames.PROTOCOL}." in said
    for setting in settings.SHARED:
        assert f"`{setting}`" in said.partition("*settings*:")[2].partition("The service")[0]
    assert f"or had {server.DRAIN_SECONDS:.0f} seconds more" in said
    assert "with `.lock` at its end" in said
    assert daemon.Place(ROOT / "s")._lock_path.name == "s.lock"


@pytest.mark.model
@pytest.mark.parametrize("python", ["/usr/bin/python3", sys.executable])
def test_the_client_of_the_page(machine: Machine, python: str) -> None:
    machine.need(python)
    program, printed = re.findall(r"```(?:python|text)\n(.*?)```", PAGE, re.DOTALL)[-2:]
    assert machine.run(python, "-c", program, "hello") == printed
    assert machine.run(python, "-c", program, "hello") == printed  # of the service that runs now
