"""A forked child answers, or says in words that it cannot; it never hangs."""

import multiprocessing

import pytest
from harness import Sql

import sqlembed
from sqlembed.engine.cache import Cache
from sqlembed.engine.local import LocalEngine
from sqlembed.errors import ModelError

pytestmark = [pytest.mark.model, pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")]

PATIENCE = 60


def answer(engine: LocalEngine, results: multiprocessing.Queue) -> None:
    try:
        connection = sqlembed.connect(":memory:", engine=engine)
        results.put(len(Sql(connection).one("SELECT embed('in the child')")))
    except ModelError as error:
        results.put(str(error))


def in_a_child(engine: LocalEngine) -> object:
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    child = context.Process(target=answer, args=(engine, results))
    child.start()
    try:
        return results.get(timeout=PATIENCE)
    finally:
        child.join(PATIENCE)


def test_a_child_forked_before_the_model_is_loaded_answers(tmp_path: object) -> None:
    engine = LocalEngine(Cache(f"{tmp_path}/cache.db", 1 << 24))
    engine.cache.get([b"k"], 1)
    assert in_a_child(engine) == 1536
    engine.close()


def test_a_child_forked_afterwards_is_told_so(real: Sql) -> None:
    real("SELECT embed('loaded in the parent')")
    assert "forked" in str(in_a_child(real.engine))
    assert len(real.one("SELECT embed('the parent goes on')")) == 1536
