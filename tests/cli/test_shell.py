"""``sqlembed shell``: from arguments, and from standard input."""

import subprocess
import sys
from pathlib import Path

import numpy as np

from sqlembed.cli.repl import brief


def test_sql_arguments(run, app):
    result = run("shell", app, "SELECT count(*) FROM sms", "SELECT body FROM sms WHERE id = 2")
    assert result.stdout == "4\nwin a prize now\n"
    assert result.exit_code == 0


def test_every_function_is_there(run, app):
    script = "SELECT sqlembed_index('sms', 'body'); SELECT id FROM knn('sms', 'late again', 1);"
    assert run("shell", app, script).stdout == "4\n4\n"


def test_a_database_is_made(run, tmp_path):
    path = tmp_path / "new.db"
    assert run("shell", str(path), "CREATE TABLE t(x)").exit_code == 0
    assert path.is_file()


def test_the_first_error_ends_the_arguments(run, app):
    result = run("shell", app, "SELECT 1", "SELECT nope FROM sms", "SELECT 2")
    assert result.exit_code == 1
    assert result.stdout == "1\n"
    assert "no such column: nope" in result.stderr


def test_errors_of_ours_are_words(run, app):
    result = run("shell", app, "SELECT embed(x'00')")
    assert result.exit_code == 1
    assert result.stderr.startswith("what is embedded is a text; got a BLOB of 1 bytes")
    assert "Traceback" not in result.stderr


def test_standard_input_goes_on_after_an_error(run, app):
    result = run("shell", app, input="SELECT nope;\nSELECT\n 2;\n")
    assert result.exit_code == 1
    assert result.stdout == "2\n"


def test_standard_input_without_errors(run, app):
    result = run("shell", app, input=".mode csv\nSELECT id FROM sms LIMIT 2;\n.quit\n")
    assert result.exit_code == 0
    assert result.stdout.split() == ["1", "2"]


def test_dot_commands(run, app, tmp_path):
    assert run("shell", app, ".tables").stdout == "sms\n"
    assert "Unknown command" in run("shell", app, ".frobnicate").stderr
    other = str(tmp_path / "other.db")
    assert run("shell", app, f".open {other}", "SELECT token_count('a b')").stdout == "4\n"


def test_vectors_are_shown_in_short(run, app):
    shown = run("shell", app, "SELECT embed('dinner')").stdout
    assert shown.count(",") == 4
    assert shown.endswith("... 64 dimensions]\n")


def test_brief():
    assert brief(np.arange(8, dtype="<f4").tobytes()) == (
        "[0.0000, 1.0000, 2.0000, 3.0000, ... 8 dimensions]"
    )
    assert brief(b"") == "[0 bytes]"
    assert brief(b"abc") == "[3 bytes]"
    assert brief(b"\xff" * 32) == "[32 bytes]"


def test_as_a_program(fake_data: Path, app: str):
    command = Path(sys.executable).with_name("sqlembed")
    done = subprocess.run(
        [command, "shell", app], input="SELECT 1;", capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "1\n", "")
