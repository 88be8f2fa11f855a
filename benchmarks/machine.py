"""What the figures were measured on, and whether it is quiet."""

import os
import platform
import time
from dataclasses import dataclass
from datetime import date
from importlib.metadata import version
from pathlib import Path

import apsw
import psutil
from report import tell

from sqlembed import settings

QUIET = 0.5
"""The load below which a run begins."""
PATIENCE_SECONDS = 300
NOTED_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile", "asimd", "sve")
PACKAGES = ("sqlembed", "llama-cpp-python", "sqlite-vec", "apsw", "numpy")


@dataclass(frozen=True)
class Machine:
    """Where and when a run was made."""

    date: str
    cpu: str
    cores: int
    flags: str
    system: str
    versions: str
    load: float
    """The load average when it began."""
    others: float = 0.0
    """The share of the cores that other processes took during the run."""

    def line(self) -> str:
        """It in one line."""
        return (
            f"{self.date}: {self.cpu}, {self.cores} cores ({self.flags}), {self.system};"
            f" {self.versions}; load {self.load:.2f} when it began, other processes took"
            f" {self.others:.0%} of the cores"
        )


def describe() -> Machine:
    """The machine, now."""
    pairs = (line.partition(":") for line in _cpuinfo().splitlines())
    facts = {name.strip(): value.strip() for name, _, value in pairs}
    flags = facts.get("flags", facts.get("Features", "")).split()
    versions = [f"Python {platform.python_version()}", f"SQLite {apsw.sqlite_lib_version()}"]
    versions += [f"{name} {version(name)}" for name in PACKAGES]
    return Machine(
        date.today().isoformat(),
        facts.get("model name") or platform.processor() or platform.machine(),
        settings.threads(),
        ", ".join(flag for flag in NOTED_FLAGS if flag in flags) or platform.machine(),
        f"{platform.system()} {platform.release().split('-')[0]}",
        ", ".join(versions),
        os.getloadavg()[0],
    )


def await_quiet() -> None:
    """Wait until others leave the machine alone, five minutes at most."""
    until = time.monotonic() + PATIENCE_SECONDS
    while (load := os.getloadavg()[0]) >= QUIET:
        if time.monotonic() > until:
            tell(f"The load is still {load:.2f}: the figures will be off, the ratios less so.")
            return
        tell(f"waiting for quiet: load {load:.2f}")
        time.sleep(15)


class Others:
    """How much of the machine went to processes that are not ours."""

    def __init__(self) -> None:
        """Begin to watch."""
        self._begun = time.monotonic(), _busy(), _own()

    def share(self) -> float:
        """The share of all cores since then."""
        begun, busy, own = self._begun
        taken = (_busy() - busy) - (_own() - own)
        return max(0.0, taken / (time.monotonic() - begun) / (os.cpu_count() or 1))


def _busy() -> float:
    every = psutil.cpu_times()
    return every.user + every.nice + every.system


def _own() -> float:
    """Seconds of this process and of those that it waited for."""
    return sum(os.times()[:4])


def _cpuinfo() -> str:
    path = Path("/proc/cpuinfo")
    return path.read_text() if path.is_file() else ""
