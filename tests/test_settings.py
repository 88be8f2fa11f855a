"""The environment moves files and lowers numbers; nonsense is an error in words."""

import os
from collections.abc import Callable

import pytest

from sqlembed import settings
from sqlembed.errors import OptionError


def test_the_environment_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("DATA", "/d"), ("CACHE", "/c/x.db"), ("MODEL", "m"), ("CACHE_BYTES", "5")):
        monkeypatch.setenv(f"SQLEMBED_{name}", value)
    assert str(settings.data_directory()) == "/d"
    assert settings.cache_path() == "/c/x.db"
    assert settings.default_model() == "m"
    assert settings.cache_bytes() == 5


def test_memory_and_keep_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SQLEMBED_MEMORY", raising=False)
    monkeypatch.delenv("SQLEMBED_KEEP_ALIVE", raising=False)
    assert settings.memory_bytes() is None and settings.half_of_memory() > 1 << 27
    assert settings.keep_alive() == settings.KEEP_ALIVE_SECONDS
    monkeypatch.setenv("SQLEMBED_MEMORY", "7")
    monkeypatch.setenv("SQLEMBED_KEEP_ALIVE", "0")
    assert settings.memory_bytes() == 7 and settings.keep_alive() == 0


def test_there_are_never_more_threads_than_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SQLEMBED_THREADS", "9999")
    assert 1 <= settings.threads() <= len(os.sched_getaffinity(0))
    monkeypatch.setenv("SQLEMBED_THREADS", "0")
    assert settings.threads() == 1


@pytest.mark.parametrize(
    "name, read",
    [
        ("SQLEMBED_THREADS", settings.threads),
        ("SQLEMBED_CACHE_BYTES", settings.cache_bytes),
        ("SQLEMBED_MEMORY", settings.memory_bytes),
        ("SQLEMBED_KEEP_ALIVE", settings.keep_alive),
    ],
)
def test_nonsense_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, read: Callable[[], object]
) -> None:
    monkeypatch.setenv(name, "many")
    with pytest.raises(OptionError, match=f"{name} is a whole number; got 'many'"):
        read()
