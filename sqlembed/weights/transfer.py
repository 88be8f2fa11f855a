"""Get one file over HTTP into a partial file that grows, going on where an earlier try stopped."""

import errno
import os
import re
import shutil
import time
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import BinaryIO

import httpx2

from sqlembed.errors import ModelError, ModelFileError

TRIES = 5
"""Requests in a row that bring nothing, before it is given up."""
PAUSE = 0.5
"""Seconds before the second of these; twice as long before each next one."""
RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")
UNREACHABLE = httpx2.TransportError
"""What a server raises that cannot be reached, or breaks off."""

Check = Callable[[httpx2.Response], object]
"""Raises an error of its own where the status is one."""


def transfer(
    client: httpx2.Client,
    url: str,
    headers: dict[str, str],
    partial: Path,
    size: int | None,
    check: Check,
    progress: Callable[[int], None],
    timeout: float,
) -> None:
    """Bring *partial* to its full size; what is there already is not asked for.

    :param size: the bytes in all, if they are known
    :param progress: called with the bytes that are there
    :param timeout: seconds without a byte until a try is given up
    :raises ModelError: the server breaks off again and again; what came is kept
    :raises ModelFileError: the file is longer or shorter than *size*
    :raises OSError: the disk is full; what came is kept
    """
    if size is not None and partial.is_file() and partial.stat().st_size > size:
        partial.unlink()
    # Whatever is compressed on its way cannot be gone on with in the middle.
    headers = {**headers, "Accept-Encoding": "identity"}
    with partial.open("ab", buffering=0) as file:
        failures = 0
        while size is None or file.tell() < size:
            begun = file.tell()
            _make_sure_of_room(partial, None if size is None else size - begun)
            error: Exception | None = None
            try:
                size = _request(client, url, headers, file, size, check, progress, timeout)
                if file.tell() == size:
                    return
            except UNREACHABLE as caught:
                error = caught
            failures = 0 if file.tell() > begun else failures + 1
            if failures == TRIES:
                raise ModelError(
                    f"the server broke off {TRIES} times at {file.tell()} of {size} bytes"
                    f" ({error or 'it ends the answer early'}); what came is kept, and the next"
                    " pull goes on from there"
                )
            time.sleep(PAUSE * 2**failures)


def _request(
    client: httpx2.Client,
    url: str,
    headers: dict[str, str],
    file: BinaryIO,
    size: int | None,
    check: Check,
    progress: Callable[[int], None],
    timeout: float,
) -> int | None:
    """Append what one request brings; returns the bytes in all, as far as they are known."""
    at = file.tell()
    if at:
        headers = {**headers, "Range": f"bytes={at}-"}
    with client.stream("GET", url, headers=headers, timeout=timeout) as response:
        if response.status_code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            _empty(file)
            raise ModelFileError(
                f"the server has no more than {at} bytes, expected {size}; what came is removed,"
                " since it is another file"
            )
        check(response)
        told, total = _told(response)
        if told not in (0, at):
            raise ModelFileError(f"the server sends the file from byte {told}, asked for from {at}")
        if told != at:  # it knows no ranges, and sends all
            _empty(file)
            at = 0
        if size is not None and total not in (None, size):
            raise ModelFileError(f"the server sends {total} bytes, expected {size}")
        size = total if size is None else size
        progress(at)
        # As they come: pieces of a given size would be lost where their rest never comes.
        for piece in response.iter_raw():
            at += len(piece)
            if size is not None and at > size:
                _empty(file)
                raise ModelFileError(
                    f"the server sends more than {size} bytes, which it said it has"
                )
            _write(file, piece)
            progress(at)
        # An answer without a length ends with its connection, whole or not; the digest tells.
        return at if size is None and "Content-Length" not in response.headers else size


def _told(response: httpx2.Response) -> tuple[int, int | None]:
    """Where the answer begins in the file, and the bytes that the file has in all, if they say."""
    if response.status_code == HTTPStatus.PARTIAL_CONTENT:
        found = RANGE.fullmatch(response.headers.get("Content-Range", ""))
        if found is None:
            raise ModelFileError("the server sends a part of the file, and does not say which")
        return int(found[1]), None if found[2] == "*" else int(found[2])
    length = response.headers.get("Content-Length", "")
    return 0, int(length) if length.isdecimal() else None


def _empty(file: BinaryIO) -> None:
    file.seek(0)
    file.truncate()


def _write(file: BinaryIO, piece: bytes) -> None:
    """Write all of *piece*: an unbuffered file may take less where the disk is nearly full."""
    rest = memoryview(piece)
    while rest:
        rest = rest[file.write(rest) :]


def _make_sure_of_room(partial: Path, needed: int | None) -> None:
    if needed is not None and shutil.disk_usage(partial.parent).free < needed:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(partial))
