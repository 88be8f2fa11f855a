"""Where the service's socket is, and whether who is at its other end is the same user."""

import os
import socket
import stat
import struct
from pathlib import Path

from sqlembed.errors import ServiceError

MOST_PATH_BYTES = 107
"""Of a socket's path; the system has room for no more."""
LOCAL_PEERCRED = 1
"""macOS's name for the peer's credentials; Python's socket module lacks it."""


def check_path(path: Path) -> None:
    """See that a socket can have this path.

    :raises ServiceError: it is too long
    """
    size = len(os.fsencode(path))
    if size > MOST_PATH_BYTES:
        raise ServiceError(
            f"the path of sqlembed's socket has {size} bytes, and a socket's has at most"
            f" {MOST_PATH_BYTES}; set SQLEMBED_SOCKET to a shorter one: {path}"
        )


def prepare(path: Path) -> None:
    """Make the socket's directory, and see that it and what lies there are ours.

    :raises ServiceError: they are not, or something else is in the socket's place
    """
    check_path(path)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        owner = path.parent.stat().st_uid
        if owner not in (os.geteuid(), 0) or (owner == 0 and os.geteuid() != 0 and _open(path)):
            raise ServiceError(
                f"{path.parent} belongs to user {owner}, and this is user {os.geteuid()};"
                " set SQLEMBED_SOCKET to a path in a directory of yours"
            )
        found = path.lstat() if path.exists() or path.is_symlink() else None
    except OSError as error:
        raise ServiceError(f"sqlembed's socket cannot be at {path}: {error}") from error
    if found is not None and not stat.S_ISSOCK(found.st_mode):
        raise ServiceError(
            f"{path} is no socket; remove it, or set SQLEMBED_SOCKET to another path"
        )


def _open(path: Path) -> bool:
    """Whether others may put their own socket there."""
    return bool(path.parent.stat().st_mode & stat.S_IWOTH)


def peer(connection: socket.socket) -> int:
    """The id of the user at the other end."""
    if hasattr(socket, "SO_PEERCRED"):
        size = struct.calcsize("3i")
        found = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
        return int(struct.unpack("3i", found)[1])
    found = connection.getsockopt(0, LOCAL_PEERCRED, 8)  # struct xucred: version, uid
    return int(struct.unpack("II", found)[1])
