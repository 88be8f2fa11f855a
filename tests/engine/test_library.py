"""Models are loaded once, kept while used, and unloaded after, or when others need their room."""

from pathlib import Path
from threading import Event, Thread

import pytest
from harness import FakeModel, install_fake

from sqlembed.engine import memory
from sqlembed.engine.library import Library
from sqlembed.engine.local import LocalEngine
from sqlembed.engine.memory import Budget
from sqlembed.errors import BusyError, InputError, ModelError, ModelMissingError, NotFoundError

PATIENCE = 10


@pytest.fixture
def library(fake_data: Path) -> Library:
    return Library("fake")


def test_a_model_in_use_is_not_unloaded(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = Event()
    monkeypatch.setattr(FakeModel, "close", lambda self: closed.set())
    with library.use("fake"):
        thread = Thread(target=library.unload, args=("fake",))
        thread.start()
        assert not closed.wait(0.1)
        with library.use("fake") as again:
            assert again is not None
    thread.join(PATIENCE)
    assert closed.is_set()


def test_many_threads_load_it_once(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    loads: list[int] = []
    start = FakeModel.__init__

    def counted(self: FakeModel, *arguments: object) -> None:
        loads.append(1)
        start(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(FakeModel, "__init__", counted)

    def use() -> None:
        with library.use("fake"):
            pass

    threads = [Thread(target=use) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert loads == [1]


def test_errors_name_the_model(library: Library) -> None:
    with pytest.raises(NotFoundError, match="no model is called 'x'"), library.use("x"):
        pass
    with (
        pytest.raises(ModelMissingError, match="sqlembed pull judge-nli"),
        library.use("judge-nli"),
    ):
        pass
    with pytest.raises(InputError, match="judge-nli is a reranker"), library.embedder("judge-nli"):
        pass


SIZES = {"fake": 40, "other": 40, "wide": 40, "judge": 130}


@pytest.fixture
def small(fake_data: Path, monkeypatch: pytest.MonkeyPatch) -> Library:
    """A library with room for two of three models."""
    install_fake("judge", "reranker", 1)
    monkeypatch.setattr(memory, "needed", lambda manifest, path: SIZES[manifest.name] * 10**6)
    return Library("fake", budget=Budget(100 * 10**6), room_seconds=0.01)


def use(library: Library, *names: str) -> None:
    for name in names:
        with library.use(name):
            pass


def test_the_least_recently_used_model_makes_room(small: Library) -> None:
    use(small, "fake", "other", "fake", "wide")
    assert small.loaded() == ["fake", "wide"]
    assert {state.name: state.bytes for state in small.states() if state.loaded} == {
        "fake": 40 * 10**6,
        "wide": 40 * 10**6,
    }


def test_a_model_in_use_never_makes_room(small: Library) -> None:
    with small.use("fake"):
        use(small, "other", "wide")
        assert small.loaded() == ["fake", "wide"]


def test_where_all_are_in_use_the_error_says_what_takes_the_memory(small: Library) -> None:
    with small.use("fake"), small.use("other"), pytest.raises(BusyError) as busy:
        use(small, "wide")
    assert str(busy.value) == (
        "wide takes 40 MB of memory, and there is no room: models may take 100 MB together,"
        " fake 40 MB, other 40 MB are loaded, and those in use stayed so for 0.01 seconds;"
        " try again later, or raise SQLEMBED_MEMORY (bytes)"
    )
    assert small.loaded() == ["fake", "other"]


def test_a_model_waits_for_another_to_become_idle(small: Library) -> None:
    patient = Library("fake", budget=Budget(100 * 10**6), room_seconds=PATIENCE)
    with patient.use("other"):
        with patient.use("fake"):
            thread = Thread(target=use, args=(patient, "wide"))
            thread.start()
            while not patient._changed._waiters:  # type: ignore[attr-defined]
                pass
            use(patient, "other")  # what is loaded is not held up
        thread.join(PATIENCE)
        assert patient.loaded() == ["other", "wide"]


def test_a_model_larger_than_a_budget_that_was_set_is_refused_at_once(small: Library) -> None:
    use(small, "fake")
    with pytest.raises(ModelError) as refused:
        use(small, "judge")
    assert str(refused.value) == (
        "judge takes 130 MB of memory, and all models together may take 100 MB"
        " (SQLEMBED_MEMORY=100000000): raise that, use a smaller model, or lower SQLEMBED_THREADS,"
        " as each thread takes its part"
    )
    assert small.loaded() == ["fake"]


def test_a_budget_that_is_our_guess_never_forbids_a_model_that_is_alone(
    small: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    budget = Budget(None)
    assert budget.most_bytes > 10**8
    budget.most_bytes = 100 * 10**6
    guessed = Library("fake", budget=budget, room_seconds=0.01)
    with guessed.use("fake"), pytest.raises(BusyError, match="judge takes 130 MB"):
        use(guessed, "judge")
    use(guessed, "judge")
    assert guessed.loaded() == ["judge"]


def test_models_expire(library: Library) -> None:
    use(library, "fake")
    assert library.expire(3600) == []
    with library.use("wide"):
        assert library.expire(0) == ["fake"]
        assert library.loaded() == ["wide"]
    assert library.expire(0) == ["wide"]
    assert library.expire(0) == []


def test_weights_installed_meanwhile_are_noticed_after_a_model_expired(engine: LocalEngine) -> None:
    before, space = engine.embed(["x"], "wide", "document"), engine.space("wide")
    install_fake("wide", "embedder", 64)
    assert engine.space("wide") == space
    assert engine.expire(0) == ["wide"]
    assert engine.space("wide").dimension == 64 and engine.space("wide") != space
    after = engine.embed(["x"], "wide", "document")
    assert [len(before[0]), len(after[0])] == [512, 256]
