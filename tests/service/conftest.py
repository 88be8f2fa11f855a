"""Fixtures: a service of the test's own, and one that the harmless tests of a file share."""

from collections.abc import Iterator

import pytest
from service.scene import Nursery, Scene


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    """What makes starting a service cheap."""
    made = Nursery()
    yield made
    made.end()


@pytest.fixture
def scene(nursery: Nursery) -> Iterator[Scene]:
    """A place for a service; nothing is started there yet."""
    made = Scene(nursery)
    yield made
    made.end()


@pytest.fixture(scope="module")
def shared(nursery: Nursery) -> Iterator[Scene]:
    """A service that runs, for tests that leave it as it is."""
    made = Scene(nursery)
    made.start()
    yield made
    made.end()
