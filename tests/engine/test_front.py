"""The in-process layer: bounded, the least recently used goes first."""

from sqlembed.engine.front import ENTRY_OVERHEAD, Front

ENTRY = ENTRY_OVERHEAD + 2 + 8


def filled(count: int, most: int) -> Front:
    front = Front(ENTRY * most)
    for n in range(count):
        front.put(f"{n:02}", bytes(8))
    return front


def test_it_remembers() -> None:
    front = Front()
    front.put("a", b"vector")
    assert front.get("a") == b"vector"
    assert front.get("b") is None
    assert front.hits == 1


def test_it_is_bounded() -> None:
    front = filled(99, 10)
    assert sum(front.get(f"{n:02}") is not None for n in range(99)) <= 11


def test_what_is_used_stays() -> None:
    front = Front(ENTRY * 10)
    for n in range(99):
        front.put(f"{n:02}", bytes(8))
        front.get("00")
    assert front.get("00") is not None
    assert front.get("01") is None


def test_it_forgets_when_told() -> None:
    front = filled(3, 10)
    front.clear()
    assert front.get("00") is None
