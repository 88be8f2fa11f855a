"""Fixtures: a database with every function, on a fake model for logic or real weights for truth."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from weakref import WeakSet

import pytest
from doors_harness import DOORS, Host, HostSql, Told, serving
from harness import FAKES, FakeModel, Sql, install_fake

import sqlembed
from sqlembed.doors import apsw_door
from sqlembed.engine import library as library_module
from sqlembed.engine import metrics
from sqlembed.engine.cache import Cache
from sqlembed.engine.local import LocalEngine
from sqlembed.weights import receipt


@pytest.fixture
def fake_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A data directory of its own with fake models; ``fake`` is the default."""
    monkeypatch.setenv("SQLEMBED_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("SQLEMBED_CACHE", str(tmp_path / "cache" / "cache.db"))
    monkeypatch.setenv("SQLEMBED_MODEL", "fake")
    monkeypatch.setattr(library_module, "Model", FakeModel)
    monkeypatch.setattr(apsw_door, "_engine", None)
    monkeypatch.setattr(metrics, "_sources", WeakSet())  # the engines of other tests
    FakeModel.texts.clear()
    for name, kind, dimension, query in FAKES:
        if kind == "embedder":
            install_fake(name, kind, dimension, query)
    yield tmp_path / "data"
    if apsw_door._engine is not None:
        apsw_door._engine.close()


@pytest.fixture
def engine(fake_data: Path, tmp_path: Path) -> Iterator[LocalEngine]:
    """An engine on fake models, its cache empty."""
    made = LocalEngine()
    yield made
    made.close()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run what uses ``sql`` through every door, or those that ``doors`` names."""
    if "door" in metafunc.fixturenames:
        marker = metafunc.definition.get_closest_marker("doors")
        metafunc.parametrize("door", marker.args if marker else DOORS)


@pytest.fixture(scope="session")
def host() -> Iterator[Host]:
    """A real program that loads the extension."""
    made = Host()
    yield made
    made.end()


@pytest.fixture
def sql(
    door: str,
    engine: LocalEngine,
    tmp_path: Path,
    host: Host,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Sql]:
    """SQL on a database file with every function, on fake models, through *door*."""
    yield from through(door, engine, tmp_path, host, monkeypatch)


def through(
    door: str, engine: LocalEngine, tmp_path: Path, host: Host, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Sql]:
    """SQL on a database file with every function of *engine*, through *door*; closed in the end."""
    path = str(tmp_path / "app.db")
    if door == "apsw":
        opened = Sql(sqlembed.connect(path, engine=engine), engine)
        yield opened
        opened.close()
        return
    with serving(engine) as socket:
        monkeypatch.setenv("SQLEMBED_SOCKET", str(socket))
        if door == "service":
            opened = Sql(sqlembed.connect(path, engine="service"), engine)
        else:
            opened = HostSql(host, path, engine, Told(monkeypatch), socket)
        yield opened
        opened.close()


@pytest.fixture
def sms(sql: Sql) -> Sql:
    """SQL on that database with a small table of messages, indexed."""
    sql("CREATE TABLE sms(id INTEGER PRIMARY KEY, body TEXT, sender TEXT)")
    for body in ("dinner at eight", "win a prize now", "see you at dinner", "late again"):
        sql("INSERT INTO sms(body) VALUES (?)", body)
    sql("SELECT sqlembed_index('sms', 'body')")
    return sql


# Real weights. They are pulled by `make test`, never by a test.


@pytest.fixture(scope="session")
def real_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalEngine]:
    """An engine on the installed real weights, with a cache of its own for the session."""
    directory = tmp_path_factory.mktemp("real")
    made = LocalEngine(Cache(str(directory / "cache.db"), 1 << 28))
    yield made
    made.close()


@pytest.fixture
def real(real_engine: LocalEngine, tmp_path: Path) -> Iterator[Sql]:
    """SQL on a database file with real weights."""
    connection = sqlembed.connect(str(tmp_path / "real.db"), engine=real_engine)
    yield Sql(connection, real_engine)
    connection.close(force=True)


@pytest.fixture
def real_sql(
    door: str,
    real_engine: LocalEngine,
    tmp_path: Path,
    host: Host,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Sql]:
    """SQL on a database file with every function, on real weights, through *door*."""
    yield from through(door, real_engine, tmp_path, host, monkeypatch)


@pytest.fixture
def damaged_copy(tmp_path: Path) -> Path:
    """A data directory with a copy of the real default model, for a test to damage."""
    source = receipt.gguf_path("all-MiniLM-L6-v2")
    target = tmp_path / "damaged" / "models"
    target.mkdir(parents=True)
    for path in (source, source.with_suffix(".json")):
        shutil.copy(path, target)
    return target.parent
