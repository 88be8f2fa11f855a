"""Who imports whom: the layers of ARCHITECTURE.md, checked on every file."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "sqlembed"
FILES = sorted(path for path in PACKAGE.rglob("*.py"))

FORBIDDEN = {
    "errors.py": ["sqlembed"],
    "plan.py": ["sqlembed", "apsw"],
    "vectors.py": ["sqlembed.engine", "sqlembed.index", "apsw"],
    "weights": ["sqlembed.engine", "sqlembed.index", "sqlembed.functions", "sqlembed.doors", "apsw"],
    "engine": ["sqlembed.index", "sqlembed.functions", "sqlembed.doors", "sqlembed.service", "sqlembed.plan"],
    "service": ["sqlembed.doors", "sqlembed.cli", "sqlembed.engine.model", "sqlembed.engine.two_stage", "sqlembed.engine.llama", "sqlembed.engine.llama_rows", "sqlembed.engine.generator", "sqlembed.engine.llama_generation", "apsw"],
    "service/frames.py": ["sqlembed.engine", "sqlembed.functions", "sqlembed.index"],
    "extension": ["sqlembed.engine", "sqlembed.doors", "sqlembed.cli", "apsw"],
    "index": ["sqlembed.functions", "sqlembed.doors", "sqlembed.service", "sqlembed.engine.model", "sqlembed.engine.two_stage", "sqlembed.engine.llama", "sqlembed.engine.llama_rows", "sqlembed.engine.generator", "sqlembed.engine.llama_generation"],
    "functions": ["sqlembed.doors", "sqlembed.service", "sqlembed.engine.model", "sqlembed.engine.two_stage", "sqlembed.engine.llama", "sqlembed.engine.llama_rows", "sqlembed.engine.generator", "sqlembed.engine.llama_generation", "sqlembed.weights.pull"],
    "worker": ["sqlembed.engine", "sqlembed.functions", "sqlembed.service", "sqlembed.cli"],
    "doors": ["sqlembed.engine.model", "sqlembed.engine.two_stage", "sqlembed.engine.llama", "sqlembed.engine.llama_rows", "sqlembed.engine.generator", "sqlembed.engine.llama_generation", "sqlembed.weights", "sqlembed.cli"],
}  # fmt: skip
ONLY = {
    # quantizer.py is a program of its own: nothing imports it
    "llama_cpp": [
        "engine/llama.py",
        "engine/llama_rows.py",
        "engine/llama_generation.py",
        "weights/quantizer.py",
    ],
    "llguidance": ["engine/grammar.py"],
    "jinja2": ["engine/llama_generation.py"],
    "sqlite_vec": ["doors/apsw_door.py", "cli/doctor.py"],
    "httpx2": ["engine/endpoint.py", "weights/transfer.py"],
    "regex": ["engine/boundary.py"],
    "tokenizers": ["engine/tokenize.py", "weights", "cli/doctor.py"],
    "huggingface_hub": ["weights/hub.py"],
    "apsw": [
        "doors",
        "cli",
        "worker/database.py",
        "engine/cache.py",
        "engine/words.py",
        "__init__.py",
    ],
    "prometheus_client": ["engine/metrics.py"],
    "rich": ["cli"],
    "click": ["cli"],
}


def imported(path: Path) -> set[str]:
    """The full names of what a file imports, anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def within(name: str, layer: str) -> bool:
    return name == layer or name.startswith((layer + ".", layer + "/"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_a_file_imports_only_what_its_layer_may(path: Path) -> None:
    place = path.relative_to(PACKAGE).as_posix()
    names = imported(path)
    for layer, forbidden in FORBIDDEN.items():
        if within(place, layer):
            for name in names:
                assert not any(within(name, other) for other in forbidden), (
                    f"{place} imports {name}"
                )
    for library, places in ONLY.items():
        if not any(within(place, allowed) for allowed in places):
            assert not any(within(name, library) for name in names), f"{place} imports {library}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_a_file_says_what_it_is_for_and_can_be_read_in_one_sitting(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    first = ast.get_docstring(ast.parse(text))
    assert first and first.splitlines()[0].endswith((".", "``"))
    assert len(text.splitlines()) <= 400


LATE = ("gguf", "huggingface_hub", "httpx2", "llguidance")
"""Packages that most programs need nothing of, and that take long to import."""


def test_opening_a_connection_imports_nothing_that_it_does_not_need() -> None:
    program = "import sys, sqlembed; sqlembed.connect(':memory:'); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not set(LATE) & set(done.stdout.split())
