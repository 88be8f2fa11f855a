"""Speak to a service byte by byte, as no client of ours would."""

import socket
import struct
from pathlib import Path

HELLO, CALL, WELCOME, VALUE = 0x01, 0x02, 0x21, 0x22
TEXT = 3


def text(words: str) -> bytes:
    return struct.pack("<I", len(words.encode())) + words.encode()


def frame(kind: int, payload: bytes) -> bytes:
    return struct.pack("<IB", len(payload) + 1, kind) + payload


GREETING = frame(HELLO, struct.pack("<H", 1) + text("raw") + text("") + struct.pack("<H", 0))


def asking(words: str) -> bytes:
    """The request for ``embed(words)``."""
    one = struct.pack("<HB", 1, TEXT) + text(words)
    return frame(CALL, text("embed") + one + struct.pack("<H", 0))


def connected(path: Path, greeting: bytes = b"") -> socket.socket:
    """A connection that has said *greeting*."""
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(30)
    connection.connect(str(path))
    connection.sendall(greeting)
    return connection


def everything(connection: socket.socket) -> bytes:
    """What comes until the service closes."""
    heard = b""
    try:
        while part := connection.recv(1 << 16):
            heard += part
    except ConnectionResetError:
        pass  # it closed before it had read all
    connection.close()
    return heard
