"""Where things live and how much of the machine we take: the only readers of the environment."""

import os
from functools import cache
from pathlib import Path
from typing import Literal, cast, get_args

import platformdirs
import psutil

from sqlembed.errors import OptionError

Arithmetic = Literal["own", "llama.cpp"]

DEFAULT_MODEL = "all-MiniLM-L6-v2"
"""The embedder used where no model is named."""

SUGGESTED_GENERATOR = "SmolLM2-135M-Instruct"
"""The generator that is named where none is installed."""

MEMORY_ONLY = ":memory:"
"""A cache path that keeps nothing on disk."""

CACHE_BYTES = 1 << 30
"""Bound of the cache file, in bytes."""

FRONT_BYTES = 64 << 20
"""Bound of the in-process layer in front of the cache file, in bytes."""

KEEP_ALIVE_SECONDS = 300
"""How long the service keeps a model that nobody uses."""


def data_directory() -> Path:
    """Where weights and the user's own manifests are kept (``SQLEMBED_DATA`` moves it)."""
    moved = os.environ.get("SQLEMBED_DATA")
    return Path(moved) if moved else platformdirs.user_data_path("sqlembed", appauthor=False)


def mirror() -> Path | None:
    """A directory with what a pull would else get from the network (``SQLEMBED_MIRROR``)."""
    named = os.environ.get("SQLEMBED_MIRROR")
    return Path(named) if named else None


def cache_path() -> str:
    """The cache's database file (``SQLEMBED_CACHE`` moves it; ``:memory:`` keeps none)."""
    moved = os.environ.get("SQLEMBED_CACHE")
    directory = platformdirs.user_cache_path("sqlembed", appauthor=False)
    return moved or str(directory / "cache.db")


def cache_bytes() -> int:
    """How large the cache file may grow, in bytes (``SQLEMBED_CACHE_BYTES``)."""
    return _whole_number("SQLEMBED_CACHE_BYTES", CACHE_BYTES)


def keep_alive() -> int:
    """Seconds until the service unloads a model that nobody uses (``SQLEMBED_KEEP_ALIVE``)."""
    return _whole_number("SQLEMBED_KEEP_ALIVE", KEEP_ALIVE_SECONDS)


def memory_bytes() -> int | None:
    """How much memory models may take, in bytes (``SQLEMBED_MEMORY``); None if nobody said."""
    if not os.environ.get("SQLEMBED_MEMORY"):
        return None
    return _whole_number("SQLEMBED_MEMORY", 0)


@cache
def half_of_memory() -> int:
    """Half of this machine's memory, in bytes: what models may take if nobody said."""
    return int(psutil.virtual_memory().total) // 2


def index_memory_bytes() -> int:
    """What a process may remember of stored vectors (``SQLEMBED_INDEX_MEMORY``), in bytes."""
    return _whole_number("SQLEMBED_INDEX_MEMORY", half_of_memory() // 2)


def arithmetic() -> Arithmetic | None:
    """Who computes what our own arithmetic can, too (``SQLEMBED_ARITHMETIC``); None if not said."""
    named = os.environ.get("SQLEMBED_ARITHMETIC")
    for each in get_args(Arithmetic):
        if named == each:
            return cast(Arithmetic, each)
    if named:
        raise OptionError(f"SQLEMBED_ARITHMETIC is own or llama.cpp; got {named!r}")
    return None


def secret(variable: str) -> str | None:
    """The key that a manifest says is in the environment variable *variable*; None if not set."""
    return os.environ.get(variable) or None


def default_model() -> str:
    """The embedder used where no model is named (``SQLEMBED_MODEL``)."""
    return os.environ.get("SQLEMBED_MODEL") or DEFAULT_MODEL


def default_generator() -> str | None:
    """The generator used where no model is named (``SQLEMBED_GENERATOR``); None if nobody said."""
    return os.environ.get("SQLEMBED_GENERATOR") or None


SHARED = ("SQLEMBED_DATA", "SQLEMBED_CACHE", "SQLEMBED_MODEL", "SQLEMBED_GENERATOR")
"""Settings that a program and the service it uses must agree on, where the program has them."""

ENGINES = ("local", "service", "auto")
"""Who computes for Python programs: they themselves, the service, or the service if one runs."""

IDLE_SECONDS = 600
"""How long a service that nobody asks stays, in seconds."""

TIMEOUT_SECONDS = 10
"""How long a service may give no sign of life, in seconds."""


def shared() -> dict[str, str]:
    """What this process takes for each of ``SHARED``."""
    values = (str(data_directory()), cache_path(), default_model(), default_generator() or "")
    return dict(zip(SHARED, values, strict=True))


def engine(named: str | None = None, default: str = ENGINES[0]) -> str:
    """Who computes for Python programs: *named*, or else ``SQLEMBED_ENGINE``, or else *default*."""
    chosen = named or os.environ.get("SQLEMBED_ENGINE") or default
    if chosen not in ENGINES:
        raise OptionError(
            f"an engine (SQLEMBED_ENGINE) is {', '.join(ENGINES[:-1])} or {ENGINES[-1]};"
            f" got {chosen!r}"
        )
    return chosen


def socket_path() -> Path:
    """Where the service listens (``SQLEMBED_SOCKET``); the loadable extension has the same rule."""
    chosen, runtime = os.environ.get("SQLEMBED_SOCKET"), os.environ.get("XDG_RUNTIME_DIR")
    if chosen:
        return Path(chosen)
    user = os.geteuid()
    usual = Path(f"/run/user/{user}")
    # cron and sudo set no XDG_RUNTIME_DIR, and must find the same service.
    if not runtime and usual.is_dir() and usual.stat().st_uid == user:
        runtime = str(usual)
    directory = Path(runtime, "sqlembed") if runtime else Path(f"/tmp/sqlembed-{user}")
    return directory / "service.sock"


def log_path() -> Path:
    """Where the service writes what happens to it (``SQLEMBED_LOG``)."""
    chosen = os.environ.get("SQLEMBED_LOG")
    directory = platformdirs.user_log_path("sqlembed", appauthor=False)
    return Path(chosen) if chosen else directory / "service.log"


def timeout() -> int:
    """How long a service may give no sign of life, in seconds (``SQLEMBED_TIMEOUT``)."""
    return max(1, _whole_number("SQLEMBED_TIMEOUT", TIMEOUT_SECONDS))


def threads() -> int:
    """How many threads compute: the cores we may use, never more (``SQLEMBED_THREADS`` lowers it).

    llama.cpp's threads spin at barriers: one thread more than cores and
    throughput falls by two orders of magnitude.
    """
    try:
        allowed = len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS
        allowed = os.cpu_count() or 1
    cores = min(allowed, psutil.cpu_count(logical=False) or allowed)
    return max(1, min(cores, _whole_number("SQLEMBED_THREADS", cores)))


def _whole_number(variable: str, default: int) -> int:
    value = os.environ.get(variable, str(default))
    if not value.isdecimal():
        raise OptionError(f"the environment variable {variable} is a whole number; got {value!r}")
    return int(value)
