"""Build the extension for a test, and run hosts that load it."""

import os
import shutil
import subprocess
from pathlib import Path

import sqlite_vec
from hosts.machine import missing

from sqlembed import extension
from sqlembed.extension.generate import functions_h

HERE = Path(__file__).parent
SOURCES = Path(extension.__file__).parent
PYTHON = "/usr/bin/python3"
"""Debian's, whose sqlite3 module can load extensions."""
COMMON = ("-std=c11", "-g", "-fPIC", "-fno-omit-frame-pointer")
SANITIZED = (*COMMON, "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
FAILED_STATEMENTS = 1
"""What the shell gives after a script in which statements failed, as they should."""
LIMIT_SECONDS = 300
"""More than any host here takes, on a busy machine and under valgrind."""


def generated(directory: Path) -> Path:
    """Write functions.h to *directory*, and put vec0 there."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "functions.h").write_text(functions_h(), encoding="ascii")
    if not (directory / "vec0.so").exists():
        (directory / "vec0.so").symlink_to(f"{sqlite_vec.loadable_path()}.so")
    return directory


def compiled(directory: Path, *flags: str, source: Path = SOURCES) -> Path:
    """A ``sqlembed.so`` in *directory*."""
    need("gcc")
    made = generated(directory) / "sqlembed.so"
    sources = sorted(map(str, source.glob("*.c")))
    run(["gcc", *flags, "-fvisibility=hidden", "-shared", "-I", str(directory), *sources,
         "-o", str(made)])  # fmt: skip
    return made


def program(directory: Path, *arguments: str | Path, compiler: str = "gcc") -> Path:
    """A program of our C files inside SQLite's own, so that it can replace what they call."""
    need(compiler)
    made = generated(directory) / "program"
    run([compiler, *SANITIZED, "-DSQLITE_CORE", "-I", str(directory), "-I", str(SOURCES),
         *map(str, arguments), *sorted(map(str, SOURCES.glob("*.c"))), "-lsqlite3", "-o", str(made)])  # fmt: skip
    return made


def need(*programs: str) -> None:
    """Skip the test where one of these is not installed."""
    for each in programs:
        if not shutil.which(each):
            missing(each)


def shell() -> str:
    """SQLite's own, as Debian has it."""
    need("sqlite3")
    return "sqlite3"


def run(
    command: list[str],
    environment: dict[str, str] | None = None,
    script: str | None = None,
    code: int = 0,
) -> str:
    """What *command* printed; another end than *code* fails the test, with all that it said."""
    done = subprocess.run(
        command,
        input=script,
        env=os.environ | (environment or {}),
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
    )
    said = f"{' '.join(command)} gave {done.returncode}\n{done.stdout[-3000:]}{done.stderr[-8000:]}"
    assert done.returncode == code, said
    return done.stdout + done.stderr


def watched_by_asan(library: Path, log: Path) -> dict[str, str]:
    """The environment of a stock host that loads a sanitized *library*.

    The host's own leaks are its business: they go to *log*, where ours can be looked for. The
    library is loaded from the beginning, or the log could not name it after its unloading.
    """
    asan = run(["gcc", "-print-file-name=libasan.so"]).strip()
    return {
        "LD_PRELOAD": f"{Path(asan).resolve()} {library}",
        "ASAN_OPTIONS": f"exitcode=9:detect_leaks=1:fast_unwind_on_malloc=0:malloc_context_size=9:log_path={log}",
        "LSAN_OPTIONS": "exitcode=0",
        "PYTHONMALLOC": "malloc",
    }


def leaks(log: Path) -> list[str]:
    """The leaks in *log* whose stack goes through our library."""
    blocks = [
        block
        for part in log.parent.glob(f"{log.name}.*")
        for block in part.read_text(errors="replace").split("\n\n")
    ]
    ours = [f"/{path.name}:" for path in SOURCES.glob("*.c")]
    return [block for block in blocks if "leak of" in block and any(map(block.__contains__, ours))]
