"""The SQL functions and tables, written once for every door.

``registry`` says what a function is; each other file here defines some and lists them
in ``FUNCTIONS``. None knows how SQL reaches it or where the engine runs.
"""

from sqlembed.functions import (
    administration,
    changing,
    checking,
    chunking,
    embedding,
    engine,
    generating,
    neighbours,
    ranking,
    searching,
    state,
    working,
)
from sqlembed.functions.registry import Function

ALL: tuple[Function, ...] = (
    *embedding.FUNCTIONS,
    *chunking.FUNCTIONS,
    *ranking.FUNCTIONS,
    *generating.FUNCTIONS,
    *neighbours.FUNCTIONS,
    *searching.FUNCTIONS,
    *administration.FUNCTIONS,
    *changing.FUNCTIONS,
    *checking.FUNCTIONS,
    *engine.FUNCTIONS,
    *state.FUNCTIONS,
    *working.FUNCTIONS,
)
"""Every SQL function and table, in the order of the documentation."""
