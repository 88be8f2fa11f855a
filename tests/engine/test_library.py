"""Models are loaded once, kept while used, and unloaded after."""

from pathlib import Path
from threading import Event, Thread

import pytest
from harness import FakeModel

from sqlembed.engine.library import Library
from sqlembed.errors import InputError, ModelMissingError, NotFoundError

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
