"""The pages leave nothing out: functions, columns, options, manifest keys, settings, errors, links."""

import inspect
import re
from dataclasses import fields
from pathlib import Path
from urllib.parse import unquote

import pytest
from pages import PAGES, ROOT

from sqlembed import errors, settings
from sqlembed.functions import ALL
from sqlembed.functions.registry import Function, Procedure, Scalar, Table
from sqlembed.index.options import CHOICES, Options
from sqlembed.weights import manifest

INTERNAL = {"sqlembed_store", "sqlembed_work"}
"""For the triggers of immediate mode, and for the worker."""
PUBLIC = [function for function in ALL if function.name not in INTERNAL]
TESTS = "\n".join(path.read_text() for path in (ROOT / "tests" / "functions").glob("test_*.py"))
FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


def page(name: str) -> str:
    return (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8")


def section(function: Function) -> str:
    """What docs/sql.md says of *function*."""
    found = re.search(
        rf"^### {function.name}$(.*?)(?=^### |^## |\Z)", page("sql"), re.MULTILINE | re.DOTALL
    )
    assert found, f"docs/sql.md has no heading '### {function.name}'"
    return found[1]


def named(function: Function) -> str:
    return function.name


@pytest.mark.parametrize("function", PUBLIC, ids=named)
def test_a_function_has_a_section_with_an_example(function: Function) -> None:
    text = section(function)
    examples = "".join(re.findall(r"^```sql\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
    assert function.name in examples, f"no example calls {function.name}"
    assert f"`{function.name}" in FENCED.sub("", text)


@pytest.mark.parametrize("function", PUBLIC, ids=named)
def test_a_function_is_called_by_a_test(function: Function) -> None:
    called = rf"\b{function.name}\(|FROM {function.name}\b"
    assert re.search(called, TESTS), f"no test under tests/functions calls {function.name}"


@pytest.mark.parametrize("function", PUBLIC, ids=named)
def test_a_section_says_where_the_function_may_be_used(function: Function) -> None:
    match function:
        case Procedure() | Scalar(direct_only=True):
            expected = "statements only"
        case Scalar(deterministic=True):
            expected = "deterministic"
        case _:
            expected = "queries"
    assert f"**Use**: {expected}" in section(function)


@pytest.mark.parametrize(
    "function", [each for each in PUBLIC if isinstance(each, Table)], ids=named
)
def test_every_column_and_parameter_is_described(function: Table) -> None:
    text = section(function)
    for column in function.columns:
        assert f"`{column}`" in text, column
    for parameter in function.parameters:
        assert parameter in text, parameter


def test_every_option_of_an_index_is_in_the_table() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \| .+ \|$", page("sql"), re.MULTILINE)
    described = dict(rows)
    for field in fields(Options):
        assert field.name in described, field.name
        for choice in CHOICES.get(field.name, ()):
            assert str(choice).lower() in described[field.name], (field.name, choice)


@pytest.mark.parametrize("part", ["Manifest", "Source", "Hub", "Server", "Probe", "Dense"])
def test_every_manifest_key_is_described(part: str) -> None:
    headings = {"Manifest": "## The manifest", "Probe": "`[[probe]]`", "Dense": "`[[dense]]`"}
    heading = headings.get(part, f"`[{part.lower()}]`")
    table = (
        page("models").partition(f"\n{heading}\n")[2].partition("\n\n`[")[0].partition("\n## ")[0]
    )
    for field in fields(getattr(manifest, part)):
        names = {"probes": "probe", "inputs": "in", "outputs": "out"}
        key = names.get(field.name, field.name)
        if key in ("whole", "sampled"):  # which no file has
            continue
        assert f"`{key}`" in table, key


def test_every_setting_is_described() -> None:
    variables = set(re.findall(r"SQLEMBED_[A-Z_]+", inspect.getsource(settings)))
    assert variables
    for variable in variables:
        assert f"| `{variable}` |" in page("python"), variable


def test_every_error_is_in_the_tree() -> None:
    tree = (errors.__doc__ or "").partition("::\n\n")[2].partition("\n\nA message")[0]
    assert inspect.cleandoc(tree) in page("python")
    for name, _ in inspect.getmembers(errors, inspect.isclass):
        assert re.search(rf"\b{name}\b", page("python")), name


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_inside_the_repository_lead_somewhere(path: Path) -> None:
    for link in LINK.findall(FENCED.sub("", path.read_text(encoding="utf-8"))):
        if link.startswith("http"):
            continue
        file, _, anchor = link.partition("#")
        target = (path.parent / unquote(file)).resolve() if file else path
        assert target.exists(), link
        if anchor:
            text = FENCED.sub("", target.read_text(encoding="utf-8"))
            assert anchor in {slug(heading) for heading in HEADING.findall(text)}, link


def slug(heading: str) -> str:
    """A heading's anchor, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
