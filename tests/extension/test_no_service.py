"""The sanitized extension where the service cannot be had, or is none: words, no leak, and it goes on."""

import socket
import struct
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from threading import Thread

import pytest
from extension import compiled
from service.raw import WELCOME, frame, text

from sqlembed.service.frames import PROTOCOL

ASK = "SELECT embed('dinner');"
Asked = Callable[..., list[str]]
GREETED = frame(WELCOME, struct.pack("<H", PROTOCOL) + text("1") + struct.pack("<I", 1))
NONSENSE = "sent an answer without sense"
ENDED = "ended while it was asked"


@pytest.fixture
def short() -> Iterator[Path]:
    """A directory whose path leaves room for a socket's."""
    with tempfile.TemporaryDirectory(prefix="sqe", dir="/tmp") as directory:
        yield Path(directory)


@pytest.fixture
def asked(sanitized: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Asked:
    """What a shell prints for SQL, errors last; nothing may leak, and the shell goes on."""

    def ask(
        sql: str,
        socket: Path,
        command: str | Path = "false",
        code: int = compiled.FAILED_STATEMENTS,
    ) -> list[str]:
        monkeypatch.setenv("SQLEMBED_COMMAND", str(command))
        monkeypatch.setenv("SQLEMBED_SOCKET", str(socket))
        log = tmp_path / "log"
        environment = compiled.watched_by_asan(sanitized, log)
        script = f".load {sanitized}\n{sql}\nSELECT 'the end';"
        shell = [compiled.shell(), "-batch", str(tmp_path / "app.db")]
        lines = compiled.run(shell, environment, script, code).splitlines()
        assert compiled.leaks(log) == []
        lines.remove("the end")
        return lines

    return ask


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("exit 1", "cannot be started: "),
        ("echo no room >&2; echo at all >&2; exit 3", "cannot be started: no room at all"),
        ("yes 'many words' | head -2000 >&2; exit 3", "cannot be started: many words many"),
        ("kill -9 $$", "cannot be started: "),
        ("exit 0", "was started and is gone again"),
        ("exec 2>&-; exit 4", "cannot be started: "),
        (None, "No such file or directory; set SQLEMBED_COMMAND"),
    ],
)
def test_start(asked: Asked, short: Path, script: str | None, words: str) -> None:
    command = short / "command"
    if script:
        command.write_text(f"#!/bin/sh\n{script}\n")
        command.chmod(0o755)
    (said,) = asked(ASK, short / "s", command)
    assert words in said


def test_paths(asked: Asked, short: Path) -> None:
    assert "a socket's has at most 107" in asked(ASK, short / ("long" * 30))[0]
    assert "cannot connect" in asked(ASK, Path("/dev/null/s"))[0]


def test_immediate_mode_does_without(asked: Asked, service: Path, short: Path) -> None:
    table = "CREATE TABLE t(id INTEGER PRIMARY KEY, body);"
    index = "SELECT sqlembed_index('t', 'body', json_object('mode', 'immediate'));"
    assert asked(table + index, service, code=0) == ["0"]
    insert = "INSERT INTO t(body) VALUES ('dinner');"
    count = "SELECT count(*) FROM sqlembed_queue;"
    assert asked(insert * 2 + count, short / "s", code=0) == ["2"]


def u32(number: int) -> bytes:
    return struct.pack("<I", number)


LIES = [
    (b"", None),  # it was just leaving: another is started
    (GREETED[:7], None),
    (GREETED[:-3] + b"?", ENDED),
    (b"HTTP/1.1 400 Bad Request\r\n\r\n", "without sense or over 64 MB"),
    (u32(0) + b"\0" * 9, "without sense or over 64 MB"),
    (frame(WELCOME, struct.pack("<H", PROTOCOL + 1)), "what answers at sqlembed's socket is not its service"),
    (frame(WELCOME, b""), "what answers at sqlembed's socket is not its service"),
    (frame(0x24, text("x") + text("in words")), "in words"),
    (frame(0x24, text("x") + u32(99)), "what answers at sqlembed's socket is not its service"),
    (GREETED, None),  # it may not have read the call, which is sent once more
    (GREETED + frame(0x25, b"")[:-1], ENDED),
    (GREETED + frame(0x25, b"") * 3, ENDED),  # it works on it: not once more
    (GREETED + u32(2**26) + b"\x22", None),
    (GREETED, ENDED),
    (GREETED + frame(0x22, b"\x04" + u32(99)), NONSENSE),
    (GREETED + frame(0x22, b"\x00\x00"), NONSENSE),
    (GREETED + frame(0x22, b"\x09"), NONSENSE),
    (GREETED + frame(0x23, b""), NONSENSE),
    (GREETED + frame(0x11, struct.pack("<HI", 0, 1)), NONSENSE),
    (GREETED + frame(0x31, text("SELECT 1")), "sent a request without sense"),
    (GREETED + frame(0x32, text("SELECT 1") + struct.pack("<HI", 0, 2**32 - 1)), "sent a request without sense"),
    (GREETED + frame(0x33, b"") * 2, "sent a request without sense"),
    (GREETED + frame(0x22, b"\x01" + b"\1" * 8), "72340172838076673"),
]  # fmt: skip


def test_liars(asked: Asked, short: Path) -> None:
    """What greets and answers as no service does, one after another."""
    path = short / "s"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        listener.settimeout(compiled.LIMIT_SECONDS)
        thread = Thread(target=lie, args=(listener,))
        thread.start()
        expected = [words for _, words in LIES if words]
        said = asked(f"{ASK}\n" * len(expected), path, "true")
        thread.join()
    assert len(said) == len(expected)
    for line, words in zip(said, [expected[-1], *expected[:-1]], strict=True):
        assert words in line


def lie(listener: socket.socket) -> None:
    for words, _ in LIES:
        connection, _ = listener.accept()
        with connection, suppress(ConnectionError):
            connection.sendall(words)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(1 << 16):
                pass
