"""The cache file: shared, bounded, and never in the way of an answer."""

import os
import subprocess
import sys
from pathlib import Path

import apsw
import pytest

from sqlembed.engine import cache as cache_module
from sqlembed.engine.cache import Cache
from sqlembed.engine.space import Space

SPACE = Space("m", 2, "f" * 64)


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "cache" / "cache.db")


def keys(count: int) -> list[bytes]:
    return [n.to_bytes(32, "little") for n in range(count)]


def fill(cache: Cache, count: int, size: int = 8) -> None:
    for key in keys(count):
        cache.put(SPACE, "embedding", {key: bytes(size)})


def test_it_remembers_across_openings(path: str) -> None:
    cache = Cache(path, 1 << 20)
    cache.put(SPACE, "embedding", {b"k": b"v"})
    cache.close()
    again = Cache(path, 1 << 20)
    assert again.get([b"k", b"other"], 1) == {b"k": b"v"}
    assert again.holdings() == [("m", "embedding", 1, 1)]
    again.close()


def test_the_first_value_of_a_text_stays_for_everyone(path: str) -> None:
    first, second = Cache(path, 1 << 20), Cache(path, 1 << 20)
    assert first.put(SPACE, "embedding", {b"k": b"first"}) == {b"k": b"first"}
    assert second.put(SPACE, "embedding", {b"k": b"second"}) == {b"k": b"first"}
    first.close()
    second.close()


@pytest.fixture
def hours(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hours pass between two looks at the clock, so that every use is noted; few go at a time."""
    clock = iter(range(0, 10**9, 2 * cache_module.FRESH_SECONDS))
    monkeypatch.setattr(cache_module.time, "time", lambda: next(clock))
    monkeypatch.setattr(cache_module, "EVICTED_ENTRIES", 4)


@pytest.mark.usefixtures("hours")
def test_it_is_bounded_and_the_least_recently_used_goes(path: str) -> None:
    cache = Cache(path, 40 * cache_module.PAGE_BYTES)
    first = keys(1)
    for key in keys(400):
        cache.put(SPACE, "embedding", {key: bytes(4000)})
        assert cache.get(first, 4000), "what is used all the time is never evicted"
    found = cache.get(keys(400), 4000)
    assert 50 < len(found) < 180
    assert keys(400)[-1] in found and keys(400)[1] not in found
    cache.close()
    assert os.path.getsize(path) < 44 * cache_module.PAGE_BYTES


def kinds(cache: Cache) -> dict[str, int]:
    return {holding.kind: holding.entries for holding in cache.holdings()}


def test_token_vectors_go_before_vectors(path: str) -> None:
    cache = Cache(path, 100 * cache_module.PAGE_BYTES)
    fill(cache, 240, 4000)
    for key in keys(500)[240:]:
        assert cache.put(SPACE, "tokens", {key: bytes(10_000)}) == {key: bytes(10_000)}
    held = kinds(cache)
    assert held["embedding"] == 240 and 0 < held["tokens"] < 40
    assert cache.get(keys(500)[-1:], 10_000), "the last one came when there was room"
    cache.close()
    assert os.path.getsize(path) < 104 * cache_module.PAGE_BYTES


def test_token_vectors_use_room_that_nobody_needs(path: str) -> None:
    cache = Cache(path, 100 * cache_module.PAGE_BYTES)
    for key in keys(60):
        cache.put(SPACE, "tokens", {key: bytes(10_000)})
    assert kinds(cache) == {"tokens": 60}
    cache.close()


@pytest.mark.usefixtures("hours")
def test_vectors_leave_token_vectors_their_share(path: str) -> None:
    cache = Cache(path, 100 * cache_module.PAGE_BYTES)
    used = {key: bytes(10_000) for key in keys(410)[400:]}
    cache.put(SPACE, "tokens", used)
    for key in keys(400):
        cache.put(SPACE, "embedding", {key: bytes(8000)})
        assert cache.get(used, 10_000) == used
    assert kinds(cache)["embedding"] < 200
    cache.close()


def test_a_value_too_large_for_the_bound_is_not_stored(path: str) -> None:
    cache = Cache(path, 100 * cache_module.PAGE_BYTES)
    assert cache.put(SPACE, "tokens", {b"k": bytes(10**6)}) == {b"k": bytes(10**6)}
    assert cache.holdings() == [] and cache.problem is None
    cache.close()


def test_clearing_by_model(path: str) -> None:
    cache = Cache(path, 1 << 20)
    fill(cache, 3)
    cache.put(Space("n", 2, "e" * 64), "score", {b"s": b"v"})
    assert cache.clear("m") == 3
    assert cache.holdings() == [("n", "score", 1, 1)]
    assert cache.clear() == 1
    cache.close()


@pytest.mark.parametrize(
    "content", [b"not a database at all" * 100, b"SQLite format 3\0" + b"\xff" * 5000]
)
def test_a_damaged_file_is_set_aside(path: str, content: bytes) -> None:
    Path(path).parent.mkdir()
    Path(path).write_bytes(content)
    cache = Cache(path, 1 << 20)
    assert cache.get([b"k"], 1) == {}
    assert cache.problem is not None and "set aside" in cache.problem
    assert Path(path + ".damaged").read_bytes() == content
    assert cache.put(SPACE, "embedding", {b"k": b"v"}) == {b"k": b"v"}
    assert cache.get([b"k"], 1) == {b"k": b"v"}
    assert cache.problem is None
    cache.close()


def test_damage_in_the_middle_costs_no_answer(path: str) -> None:
    cache = Cache(path, 1 << 22)
    fill(cache, 200, 1000)
    cache.close()
    content = bytearray(Path(path).read_bytes())
    content[cache_module.PAGE_BYTES :] = os.urandom(len(content) - cache_module.PAGE_BYTES)
    Path(path).write_bytes(content)
    cache = Cache(path, 1 << 22)
    assert cache.get(keys(5), 1000) == {}
    assert cache.put(SPACE, "embedding", {b"k": b"v"}) == {b"k": b"v"}
    cache.close()


def test_a_locked_file_costs_no_answer(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_module, "BUSY_MILLISECONDS", 20)
    cache = Cache(path, 1 << 20)
    fill(cache, 1)
    other = apsw.Connection(path)
    other.execute("BEGIN IMMEDIATE")
    assert cache.put(SPACE, "embedding", {b"k": b"v"}) == {b"k": b"v"}
    assert cache.problem is not None and "locked" in cache.problem
    other.execute("ROLLBACK")
    assert cache.get(keys(1), 8) == {keys(1)[0]: bytes(8)}
    fill(cache, 1)
    assert cache.problem is None
    other.close()
    cache.close()


def test_a_directory_that_cannot_be_made_costs_no_answer(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    cache = Cache(str(tmp_path / "file" / "cache.db"), 1 << 20)
    assert cache.put(SPACE, "embedding", {b"k": b"v"}) == {b"k": b"v"}
    assert cache.get([b"k"], 1) == {}
    assert cache.holdings() == [] and cache.clear() == 0
    assert cache.problem is not None


def test_a_full_disk_costs_no_answer(path: str) -> None:
    cache = Cache(path, 1 << 30)
    fill(cache, 1)
    assert cache._connection is not None
    cache._connection.execute("PRAGMA max_page_count = 1")  # what SQLite says of a full disk
    assert cache.put(SPACE, "embedding", {b"k": bytes(100_000)}) == {b"k": bytes(100_000)}
    assert cache.problem is not None and "full" in cache.problem
    assert cache.get(keys(1), 8) == {keys(1)[0]: bytes(8)}
    cache.close()


def test_a_value_of_another_width_is_damaged_and_forgotten(path: str) -> None:
    cache = Cache(path, 1 << 20)
    cache.put(SPACE, "embedding", {b"k": b"short"})
    assert cache.get([b"k"], 8) == {}
    assert cache.put(SPACE, "embedding", {b"k": bytes(8)}) == {b"k": bytes(8)}
    assert cache.get([b"k"], 8) == {b"k": bytes(8)}
    cache.close()


def test_what_is_not_intact_is_forgotten(path: str) -> None:
    cache = Cache(path, 1 << 20)
    cache.put(SPACE, "tokens", {b"k": b"bad", b"l": b"good"})
    assert cache.get([b"k", b"l"], lambda value: value != b"bad") == {b"l": b"good"}
    assert cache.put(SPACE, "tokens", {b"k": b"good"}) == {b"k": b"good"}
    cache.close()


def test_many_processes_share_it(path: str) -> None:
    program = f"""
import sys
from sqlembed.engine.cache import Cache
from sqlembed.engine.space import Space
cache = Cache({path!r}, 1 << 24)
space = Space("m", 2, "f" * 64)
me = sys.argv[1].encode()
for n in range(200):
    key = n.to_bytes(32, "little")
    kept = cache.put(space, "embedding", {{key: me}})[key]
    assert cache.get([key], 1) == {{key: kept}}
assert cache.problem is None, cache.problem
cache.close()
"""
    processes = [subprocess.Popen([sys.executable, "-c", program, str(n)]) for n in range(4)]
    assert [process.wait(60) for process in processes] == [0] * 4
    cache = Cache(path, 1 << 24)
    assert cache.holdings()[0].entries == 200
    cache.close()


def test_memory_keeps_no_file(tmp_path: Path) -> None:
    cache = Cache(":memory:", 1 << 20)
    fill(cache, 1)
    assert cache.get(keys(1), 8)
    cache.close()
    assert list(tmp_path.iterdir()) == []
