"""A disk that goes wrong: a VFS over SQLite's own, that fails, shortens or loses what it is told to.

With a write-ahead log SQLite needs shared memory, which APSW's files do not have: such a database
is opened with ``locking_mode = EXCLUSIVE``, as its only user.
"""

import os
import random
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, NoReturn

import apsw

CALLS = ("write", "sync", "truncate", "open", "delete", "read")
EFFECTS = ("fail", "short", "full", "cut", "kill")
"""What becomes of a call: an error; half of it and an error; no room; the power goes; kill -9."""
SECTORS = (512, 4096)
"""Bytes that a disk writes wholly or not at all."""
CODES = {
    "write": apsw.SQLITE_IOERR_WRITE,
    "sync": apsw.SQLITE_IOERR_FSYNC,
    "truncate": apsw.SQLITE_IOERR_TRUNCATE,
    "open": apsw.SQLITE_CANTOPEN,
    "delete": apsw.SQLITE_IOERR_DELETE,
    "read": apsw.SQLITE_IOERR_READ,
}


class Fault(NamedTuple):
    """What goes wrong, and when."""

    call: str
    """One of ``CALLS``, or ``any`` that changes something."""
    number: int
    """Of the call, from 1."""
    effect: str
    """One of ``EFFECTS``."""
    lasting: bool = False
    """Whether all such calls fail from then on."""


class Unsynced:
    """What a file held when it was synced last, as far as it has been changed since."""

    def __init__(self, path: str, sector: int) -> None:
        """Nothing has changed yet."""
        self.path, self.sector = path, sector
        self.size = os.path.getsize(path) if os.path.exists(path) else 0
        self.before: dict[int, bytes] = {}

    def keep(self, start: int, stop: int) -> None:
        """Remember these bytes, which are about to change."""
        sector = self.sector
        with open(self.path, "rb") as file:
            for number in range(start // sector, (min(stop, self.size) + sector - 1) // sector):
                if number not in self.before:
                    file.seek(number * sector)
                    self.before[number] = file.read(min(sector, self.size - number * sector))

    def lose(self, chance: random.Random) -> None:
        """Have some of what was changed be as it was before."""
        if not os.path.exists(self.path):
            return
        share = chance.choice((0.0, 0.5, 1.0))
        now = os.path.getsize(self.path)
        size = chance.choice((now, self.size))
        with open(self.path, "r+b") as file:
            for number in range(self.size // self.sector, now // self.sector + 1):
                start, stop = max(self.size, number * self.sector), (number + 1) * self.sector
                if start < min(stop, now) and chance.random() < share:
                    file.seek(start)
                    length = min(stop, now) - start
                    file.write(chance.choice((bytes(length), chance.randbytes(length))))
            for number, content in self.before.items():
                if size > now or chance.random() < share:
                    file.seek(number * self.sector)
                    file.write(content)
            file.truncate(size)


class Disk(apsw.VFS):
    """The VFS; one fault at a time, and it counts calls."""

    def __init__(self, name: str = "faulty", seed: int = 0) -> None:
        """Be known to SQLite as *name*."""
        super().__init__(name, "")
        self.name = name
        self._chance = random.Random(seed)
        self.set(None)

    def set(self, fault: Fault | None) -> None:
        """Count anew, and go wrong as *fault* says; or no more."""
        self.fault = fault
        self.counts: Counter[str] = Counter()
        self.happened = self.off = False
        self.unsynced: dict[str, Unsynced] = {}
        self.deleted: dict[str, bytes] = {}
        self.sector = self._chance.choice(SECTORS)

    def lose(self) -> None:
        """After the power went, and all is closed: have the files be what a disk may hold."""
        for path, content in self.deleted.items():
            if not os.path.exists(path) and self._chance.random() < 0.5:
                Path(path).write_bytes(content)
        for each in self.unsynced.values():
            each.lose(self._chance)
        self.set(None)

    def call(self, call: str, half: Callable[[], None] | None = None) -> None:
        """Count a call, and raise if it is to go wrong."""
        if self.off:
            self._raise(call)
        self.counts[call] += 1
        if call not in ("read", "open"):
            self.counts["any"] += 1
        fault = self.fault
        if (
            fault is None
            or fault.call not in (call, "any")
            or (fault.call == "any" and call in ("read", "open"))
        ):
            return
        count = self.counts[fault.call]
        if count < fault.number or (count > fault.number and not fault.lasting):
            return
        self.happened = True
        if fault.effect == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if fault.effect == "cut":
            self.off = True
        if fault.effect == "short" and half is not None:
            half()
        if fault.effect == "full":
            raise apsw.FullError("database or disk is full")
        self._raise(call)

    def _raise(self, call: str) -> NoReturn:
        kind = apsw.CantOpenError if call == "open" else apsw.IOError
        error = kind("unable to open database file" if call == "open" else "disk I/O error")
        error.extendedresult = CODES[call]  # type: ignore[union-attr]
        raise error

    def changing(self, path: str | None, start: int, stop: int) -> None:
        """Note that a file is about to change."""
        if path is not None and self.fault is not None and self.fault.effect == "cut":
            if path not in self.unsynced:
                self.unsynced[path] = Unsynced(path, self.sector)
            self.unsynced[path].keep(start, stop)

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> "File":  # noqa: N802
        """Open a file."""
        if not isinstance(name, str) and name is not None:
            name = name.filename()
        self.call("open")
        return File(self, name, flags)

    def xDelete(self, name: str, syncdir: bool) -> None:  # noqa: N802
        """Delete a file; unless the directory is synced, a power cut may bring it back."""
        self.call("delete")
        if not syncdir and os.path.exists(name):
            self.deleted[name] = Path(name).read_bytes()
        self.unsynced.pop(name, None)
        super().xDelete(name, syncdir)


class File(apsw.VFSFile):
    """A file of that disk."""

    def __init__(self, disk: Disk, name: str | None, flags: list[int]) -> None:
        """Open *name*; None is a temporary one."""
        super().__init__("", name, flags)
        self._disk, self._name = disk, name

    def xRead(self, amount: int, offset: int) -> bytes:  # noqa: N802
        """Read."""
        self._disk.call("read")
        return super().xRead(amount, offset)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        """Write."""
        write, half = super().xWrite, len(data) // 2
        self._disk.call("write", lambda: write(data[:half], offset))
        self._disk.changing(self._name, offset, offset + len(data))
        super().xWrite(data, offset)

    def xTruncate(self, size: int) -> None:  # noqa: N802
        """Make it shorter."""
        self._disk.call("truncate")
        self._disk.changing(self._name, size, 1 << 62)
        super().xTruncate(size)

    def xSync(self, flags: int) -> None:  # noqa: N802
        """Have what was written last."""
        self._disk.call("sync")
        if self._name is not None:
            self._disk.unsynced.pop(self._name, None)
        super().xSync(flags)
