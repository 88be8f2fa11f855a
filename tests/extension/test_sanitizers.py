"""The extension in stock hosts, watched by AddressSanitizer, UndefinedBehaviorSanitizer and valgrind."""

import shutil
from pathlib import Path

from extension import compiled

BROAD = (compiled.HERE / "broad.sql").read_text()
HOST = compiled.HERE / "host.py"


def script(library: Path, sql: str = BROAD) -> str:
    return f".load {library}\n" + sql.replace("LIBRARY", str(library))


def test_shell(sanitized: Path, service: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    environment = compiled.watched_by_asan(sanitized, log)
    said = compiled.run(
        [compiled.shell(), str(tmp_path / "app.db")],
        environment,
        script(sanitized),
        compiled.FAILED_STATEMENTS,
    )
    assert "the end" in said
    assert compiled.leaks(log) == []


def test_python(sanitized: Path, service: Path, tmp_path: Path) -> None:
    compiled.need(compiled.PYTHON)
    log = tmp_path / "log"
    environment = compiled.watched_by_asan(sanitized, log)
    command = [compiled.PYTHON, str(HOST), str(sanitized)]
    assert compiled.run(command, environment) == ""
    assert compiled.leaks(log) == []
    compiled.run([*command, "no_standard_files"], environment)


def test_a_leak_would_be_seen(service: Path, tmp_path: Path) -> None:
    source = tmp_path / "leaky"
    shutil.copytree(compiled.SOURCES, source, ignore=shutil.ignore_patterns("*.so", "*.py"))
    leaky = source / "extension.c"
    leaky.write_text(leaky.read_text().replace("  buffer_free(&door->request);\n", ""))
    library = compiled.compiled(tmp_path / "built", *compiled.SANITIZED, source=source)
    log = tmp_path / "log"
    environment = compiled.watched_by_asan(library, log)
    compiled.run(
        [compiled.shell(), ":memory:"], environment, script(library, "SELECT length(embed('x'));")
    )
    assert len(compiled.leaks(log)) == 1


def test_valgrind(service: Path, tmp_path: Path) -> None:
    """Uninitialized memory, which the sanitizers do not see."""
    compiled.need("valgrind")
    library = compiled.compiled(tmp_path / "plain", *compiled.COMMON, "-O1")
    command = ["valgrind", "--quiet", "--error-exitcode=9", "--leak-check=full",
               "--keep-debuginfo=yes", compiled.shell(), str(tmp_path / "app.db")]  # fmt: skip
    smaller = script(library, BROAD.split("-- values that do not fit")[0])
    compiled.run(command, None, smaller, compiled.FAILED_STATEMENTS)
