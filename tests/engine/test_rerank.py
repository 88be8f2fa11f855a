"""Token vectors of documents in the cache file: the model reads each document once."""

from collections.abc import Callable, Iterator
from pathlib import Path

import apsw
import pytest
from harness import FakeModel

from sqlembed.engine import cache as cache_module
from sqlembed.engine.cache import Cache
from sqlembed.engine.local import LocalEngine

DOCUMENTS = ["dinner at eight", "win a prize now", "see you at dinner"]
FORGET_SCORES = "DELETE FROM entry WHERE kind = 'score'"


@pytest.fixture
def restarted(engine: LocalEngine) -> Iterator[Callable[[], LocalEngine]]:
    """Make another engine on the same cache file, as another process would."""
    made: list[LocalEngine] = []

    def restart() -> LocalEngine:
        FakeModel.texts.clear()
        made.append(LocalEngine())
        return made[-1]

    yield restart
    for each in made:
        each.close()


def in_file(engine: LocalEngine, sql: str) -> None:
    """Change the cache file behind the engine's back."""
    db = apsw.Connection(engine.cache.path)
    db.execute(sql)
    db.close()


def test_after_a_restart_only_the_query_is_read(
    engine: LocalEngine, restarted: Callable[[], LocalEngine]
) -> None:
    engine.rerank("dinner", DOCUMENTS, None)
    again = restarted()
    again.rerank("prize", [*DOCUMENTS, "late again"], None)
    assert FakeModel.texts == ["prize", "late again"]
    assert again.lookups()["fake", "tokens"] == (3, 1)


def test_in_the_same_process_the_file_is_not_asked(engine: LocalEngine) -> None:
    engine.rerank("dinner", DOCUMENTS, None)
    in_file(engine, "DELETE FROM entry")
    FakeModel.texts.clear()
    engine.rerank("prize", DOCUMENTS, None)
    assert FakeModel.texts == ["prize"]


def test_the_file_and_the_model_give_the_same_figure(
    engine: LocalEngine, restarted: Callable[[], LocalEngine]
) -> None:
    fresh = engine.rerank("dinner", DOCUMENTS, None)
    in_file(engine, FORGET_SCORES)
    again = restarted()
    assert again.rerank("dinner", DOCUMENTS, None) == fresh
    assert FakeModel.texts == ["dinner"]


@pytest.mark.parametrize(
    "damaged",
    ["x''", "zeroblob(8)", "zeroblob(length(value))", "substr(value, 1, length(value) - 64)"],
)
def test_a_damaged_value_is_computed_again(
    engine: LocalEngine, restarted: Callable[[], LocalEngine], damaged: str
) -> None:
    fresh = engine.rerank("dinner", DOCUMENTS, None)
    in_file(engine, FORGET_SCORES)
    in_file(engine, f"UPDATE entry SET value = {damaged} WHERE kind = 'tokens'")
    assert restarted().rerank("dinner", DOCUMENTS, None) == fresh
    assert FakeModel.texts == ["dinner", *DOCUMENTS]
    in_file(engine, FORGET_SCORES)
    assert restarted().rerank("dinner", DOCUMENTS, None) == fresh
    assert FakeModel.texts == ["dinner"]


def test_whoever_was_first_is_believed(
    engine: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = engine.space()
    (other,) = FakeModel(engine.library.manifest("fake"), None).tokens(["a prize"], "document")
    engine.cache.put(space, "tokens", {space.tokens_key("dinner"): other.to_bytes()})
    monkeypatch.setattr(engine.cache, "get", lambda keys, intact: {})  # it was not there yet
    assert engine.rerank("a prize", ["dinner"], None) == [pytest.approx(1, abs=1e-5)]


def test_a_locked_file_costs_no_answer(
    engine: LocalEngine, restarted: Callable[[], LocalEngine], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_module, "BUSY_MILLISECONDS", 20)
    fresh = engine.rerank("dinner", DOCUMENTS[:2], None)
    in_file(engine, FORGET_SCORES)
    other = apsw.Connection(engine.cache.path)
    other.execute("BEGIN IMMEDIATE")
    again = restarted()
    assert again.rerank("dinner", DOCUMENTS, None)[:2] == fresh
    assert again.cache.problem is not None and "locked" in again.cache.problem
    other.close(force=True)


def test_without_a_file_nothing_is_lost_but_time(fake_data: Path) -> None:
    (fake_data / "file").write_text("in the way")
    engine = LocalEngine(Cache(str(fake_data / "file" / "cache.db"), 1 << 20))
    first = engine.rerank("dinner", DOCUMENTS, None)
    assert engine.rerank("dinner", DOCUMENTS, None) == first
    assert engine.cache.problem is not None
    engine.close()


def test_two_models_do_not_share(engine: LocalEngine) -> None:
    engine.rerank("dinner", DOCUMENTS, "fake")
    FakeModel.texts.clear()
    engine.rerank("dinner", DOCUMENTS, "wide")
    assert FakeModel.texts == ["dinner", *DOCUMENTS]


def test_what_is_cleared_is_computed_again(engine: LocalEngine) -> None:
    engine.rerank("dinner", DOCUMENTS, None)
    assert engine.cache_clear() == 2 * len(DOCUMENTS)
    FakeModel.texts.clear()
    engine.rerank("dinner", DOCUMENTS, None)
    assert FakeModel.texts == ["dinner", *DOCUMENTS]
