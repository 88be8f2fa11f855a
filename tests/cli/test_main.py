"""The command itself: help, version, errors, and what it costs to start."""

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

import sqlembed
from sqlembed.cli import VERBS, main, status

HEAVY = ("apsw", "numpy", "llama_cpp", "rich", "gguf", "tokenizers")


def test_help_lists_every_verb(run):
    result = run("--help")
    assert result.exit_code == 0
    for name, summary in VERBS.items():
        assert f"{name} " in result.stdout
        assert summary in result.stdout


@pytest.mark.parametrize("name", VERBS)
def test_every_verb_has_help_that_begins_with_its_summary(run, name):
    result = run(name, "--help")
    assert result.exit_code == 0
    assert VERBS[name] in " ".join(result.stdout.split())


def test_help_twice_says_the_summary_once(run):
    run("status", "--help")
    assert run("status", "--help").stdout.count(VERBS["status"]) == 1


def test_version(run):
    assert run("--version").stdout == f"sqlembed {sqlembed.__version__}\n"


def test_help_imports_nothing_heavy():
    code = (
        "import sys\nfrom sqlembed.cli import main\n"
        "main(['--help'], standalone_mode=False)\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("[]\n")


def test_a_file_per_verb():
    directory = Path(sqlembed.__file__).parent / "cli"
    for name in VERBS:
        assert (directory / f"{name}.py").is_file()


def test_unknown_verb_is_a_usage_error(run):
    result = run("destroy")
    assert result.exit_code == 2
    assert "No such command 'destroy'" in result.stderr


def test_missing_argument_is_a_usage_error(run):
    assert run("index").exit_code == 2


def test_interrupt_exits_with_130(run, app, monkeypatch):
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(status, "records", interrupted)
    result = run("status", app)
    assert result.exit_code == 130
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [["index", "sms", "body"], ["search", "sms", "meal"], ["flush"], ["status"]],
    ids=lambda arguments: arguments[0],
)
def test_missing_database_is_an_error_and_makes_no_file(run, tmp_path, arguments):
    path = tmp_path / "absent.db"
    verb, *rest = arguments
    assert run.failure(verb, str(path), *rest) == f"there is no database file {path}"
    assert not path.exists()


@pytest.mark.parametrize("verb", ["status", "flush", "shell"])
def test_a_file_that_is_no_database(run, tmp_path, verb):
    path = tmp_path / "notes.txt"
    path.write_text("not a database " * 100)
    result = run(verb, str(path), *(["SELECT * FROM x"] if verb == "shell" else []))
    assert result.exit_code == 1
    assert "file is not a database" in result.stderr
    assert "Traceback" not in result.stderr


def test_lazy_package_attributes():
    assert CliRunner().invoke(main, ["--version"]).exit_code == 0
    assert callable(sqlembed.connect)
    with pytest.raises(AttributeError, match="has no attribute 'nope'"):
        _ = sqlembed.nope
