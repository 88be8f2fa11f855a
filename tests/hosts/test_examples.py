"""Every file of examples/hosts, run in its host, where the first call starts the service."""

import json

import pytest
from hosts.machine import EXAMPLES, ROOT, Machine

pytestmark = pytest.mark.model

DINNER, LUNCH = "Dinner at 8?", "Are you coming home for lunch?"


def example(name: str) -> str:
    return str(EXAMPLES / name)


def test_every_example_is_run_by_a_test() -> None:
    run = {"shell.sql", "python.py", "perl.pl", "sqlite_utils.sh", "datasette.sh", "triggers.sh"}
    assert {path.name for path in EXAMPLES.iterdir() if path.is_file()} == run | {"datasette.yaml"}


def test_the_sqlite3_shell(machine: Machine) -> None:
    machine.need("sqlite3")
    script = (EXAMPLES / "shell.sql").read_text()
    assert machine.lines("sqlite3", "app.db", stdin=script) == [
        "3",
        "distance  body",
        "--------  ------------------------------",
        f"0.4       {DINNER}",
        f"0.58      {LUNCH}",
    ]


def test_recommending_by_what_was_liked(machine: Machine) -> None:
    machine.need("sqlite3")
    path = machine.directory / "library.db"
    lines = machine.lines("sh", "-c", f"cd '{ROOT}' && sqlite3 '{path}' < examples/recommend.sql")
    assert lines[0] == "1"
    second = lines.index(next(line for line in lines[2:] if line.startswith("recommended")))
    first = [line.split()[:2] for line in lines[3:second]]
    assert {("lzma", "bz2"), ("tarfile", "zipfile"), ("ftplib", "poplib")} <= set(map(tuple, first))
    assert [name for name, *_ in first].count("gzip") == 0 and len(first) == 5
    assert {"ftplib", "email"} <= {line.split()[0] for line in lines[second + 2 :]}


def test_arithmetic_with_words(machine: Machine) -> None:
    machine.need("sqlite3")
    path = machine.directory / "words.db"
    lines = machine.lines("sh", "-c", f"cd '{ROOT}' && sqlite3 '{path}' < examples/analogy.sql")
    assert lines[0] == "1"
    first = [line.rsplit(maxsplit=3) for line in lines[3:] if line.split()[-3] == "1"]
    assert [(analogy.strip(), word) for analogy, _, word, _ in first] == [
        ("king - man + woman", "queen"),
        ("paris - france + italy", "rome"),
        ("walking - walk + swim", "swimming"),
    ]


def test_debians_python(machine: Machine) -> None:
    machine.need("/usr/bin/python3")
    found = machine.lines("/usr/bin/python3", example("python.py"), "app.db", machine.extension)
    assert found == ["3 rows indexed", f"0.40  {DINNER}", f"0.58  {LUNCH}"]


def test_perl(machine: Machine) -> None:
    machine.need("perl")
    found = machine.lines("perl", example("perl.pl"), "app.db", machine.extension)
    assert found == ["3 rows indexed", f"0.40  {DINNER}", f"0.58  {LUNCH}"]


def test_sqlite_utils(machine: Machine) -> None:
    machine.need("sqlite-utils")
    assert machine.lines("sh", example("sqlite_utils.sh"), "app.db") == [
        '[{"indexed": 3}]',
        "  distance  body",
        "----------  ------------------------------",
        f"      0.4   {DINNER}",
        f"      0.58  {LUNCH}",
    ]


def test_datasette(machine: Machine) -> None:
    machine.need("datasette", "sqlite3", "curl")
    indexed, added, *nearest = map(
        json.loads, machine.lines("sh", example("datasette.sh"), "app.db")
    )
    assert (indexed["message"], added["message"]) == ("Indexed", "Added")
    assert nearest == [{"distance": 0.4, "body": DINNER}, {"distance": 0.58, "body": LUNCH}]


def test_what_programs_without_sqlembed_write_is_found_by_the_next_with_it(
    machine: Machine,
) -> None:
    machine.need("sqlite3", "/usr/bin/python3")
    assert machine.lines("sh", example("triggers.sh"), "app.db") == [
        "3 rows indexed",
        "3 changes wait for their vectors",
        "My keys are at the office, let me in",
        "The train is on time after all",
        "the dinner is gone",
        "3 rows stored",
    ]
