"""Fixtures: a service of the test's own, and one that the harmless tests of a file share."""

from collections.abc import Iterator

import pytest
from service.scene import Nurseries, Scene


@pytest.fixture(scope="session")
def nurseries() -> Iterator[Nurseries]:
    """What makes starting a service or a host cheap."""
    made = Nurseries()
    yield made
    made.end()


@pytest.fixture
def scene(nurseries: Nurseries) -> Iterator[Scene]:
    """A place for a service; nothing is started there yet."""
    made = Scene(nurseries)
    yield made
    made.end()


@pytest.fixture(scope="module")
def shared(nurseries: Nurseries) -> Iterator[Scene]:
    """A service that runs, for tests that leave it as it is."""
    made = Scene(nurseries)
    made.start()
    yield made
    made.end()
