"""Downloads that are kept until the model is installed, each under what it is.

A file has a digest as its key, so a download that was broken off goes on only if the hub still
means the same bytes, and what is whole is not asked for again.
"""

import hashlib
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sqlembed.errors import ModelFileError

SHA256 = re.compile(r"[0-9a-f]{64}")
GIT_BLOB = re.compile(r"[0-9a-f]{40}")
PIECE = 1 << 20

Kind = Literal["sha256", "git", "unknown"]


@dataclass(frozen=True)
class Identity:
    """What a file is: the digest that tells it from any other."""

    kind: Kind
    """``sha256`` of its bytes; ``git``: the sha1 that git gives a blob; ``unknown``: an entity tag
    that is a server's own affair, and checks nothing."""
    value: str

    @property
    def key(self) -> str:
        """Its name in a directory."""
        if self.kind == "unknown":
            return hashlib.sha256(self.value.encode()).hexdigest()
        return self.value


def identity(tag: str) -> Identity:
    """What the hub's entity tag *tag* says: a large file's sha256, or git's of a small one."""
    if SHA256.fullmatch(tag):
        return Identity("sha256", tag)
    return Identity("git" if GIT_BLOB.fullmatch(tag) else "unknown", tag)


class Kept:
    """A directory of downloads; for one process at a time."""

    def __init__(self, directory: Path) -> None:
        """Take what is in *directory*, which need not exist."""
        self._directory = directory

    def whole(self, what: Identity) -> Path:
        """Where the file is once it is whole and checked."""
        return self._directory / what.key

    def partial(self, what: Identity) -> Path:
        """Where the file grows; the directory exists then."""
        self._directory.mkdir(parents=True, exist_ok=True)
        return self._directory / f"{what.key}.partial"

    def forget_others(self, wanted: Collection[Identity]) -> None:
        """Remove what is none of *wanted*: the hub has other files now."""
        names = {path.name for each in wanted for path in (self.whole(each), self.partial(each))}
        there = self._directory.iterdir() if self._directory.is_dir() else ()
        for path in there:
            if path.name not in names:
                path.unlink()

    def finish(self, what: Identity, name: str, report: Callable[[int, int], None]) -> Path:
        """Check the grown file, and give where it is from now on.

        :param name: what it is called, for messages
        :param report: called with the bytes read and the bytes in all
        :raises ModelFileError: it is another file; it is removed, as no part can be trusted
        """
        partial = self.partial(what)
        try:
            check(partial, what, name, report)
        except ModelFileError:
            partial.unlink()
            raise
        return partial.replace(self.whole(what))


def check(
    path: Path, what: Identity, name: str, report: Callable[[int, int], None] | None = None
) -> None:
    """Make sure that the file at *path* is *what* it should be.

    :raises ModelFileError: it is not
    """
    if what.kind == "unknown":
        return
    size = path.stat().st_size
    digest = hashlib.sha256()
    if what.kind == "git":
        digest = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
    done = 0
    with path.open("rb") as file:
        while piece := file.read(PIECE):
            digest.update(piece)
            done += len(piece)
            if report is not None:
                report(done, size)
    if digest.hexdigest() != what.value:
        raise ModelFileError(
            f"{name} is not the file that it should be: its {what.kind} digest is"
            f" {digest.hexdigest()}, expected {what.value}; nothing was installed"
        )
