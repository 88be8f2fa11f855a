"""SQL: steer the engine. ``sqlembed_load``, ``sqlembed_unload``, ``sqlembed_cache_clear``."""

from sqlembed.engine.interface import Engine
from sqlembed.functions.registry import Function, Scalar, name_argument, text_argument
from sqlembed.plan import SqlValue


def load(engine: Engine, model: SqlValue) -> None:
    """``sqlembed_load(model)``: bring a model into memory now."""
    engine.load(text_argument(model, "the model"))


def unload(engine: Engine, model: SqlValue) -> int:
    """``sqlembed_unload(model)``: give its memory back; 0 if it was not loaded."""
    return int(engine.unload(text_argument(model, "the model")))


def cache_clear(engine: Engine, model: SqlValue = None) -> int:
    """``sqlembed_cache_clear([model])``: forget vectors and scores; how many were forgotten."""
    return engine.cache_clear(name_argument(model, "the model"))


FUNCTIONS: tuple[Function, ...] = tuple(
    Scalar(name, call, least, most, deterministic=False, direct_only=True)
    for name, call, least, most in (
        ("sqlembed_load", load, 1, 1),
        ("sqlembed_unload", unload, 1, 1),
        ("sqlembed_cache_clear", cache_clear, 0, 1),
    )
)
