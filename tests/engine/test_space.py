"""Keys: one for each text of each role of each space."""

import dataclasses

import pytest

from sqlembed.engine.space import KEY_BYTES, Space
from sqlembed.weights.manifest import Manifest
from sqlembed.weights.stack import Dense

MANIFEST = Manifest(
    name="m", summary="", kind="embedder", architecture="bert", dimension=4, context=8,
    pooling="mean", licence="", homepage="",
)  # fmt: skip
SPACE = Space.of(MANIFEST, "a" * 64)


def test_the_same_facts_make_the_same_key() -> None:
    assert SPACE.key("query", "text") == Space.of(MANIFEST, "a" * 64).key("query", "text")
    assert len(SPACE.key("query", "text")) == KEY_BYTES


@pytest.mark.parametrize(
    "change",
    [
        {"pooling": "cls"},
        {"dimension": 5},
        {"context": 9},
        {"prompts": {"query": "q: "}},
        {"attention": "causal"},
        {"start": "[CLS]"},
        {"end": "[SEP]"},
        {"dense": (Dense("d", 4, 4),)},
        {"dense": (Dense("d", 4, 4, activation="tanh"),)},
        {"reading": "yes_no"},
        {"template": "{query} {document}"},
        {"dimensions": (3,), "dimension": 3, "whole": "m"},
    ],
)
def test_whatever_changes_a_vector_changes_the_space(change: dict[str, object]) -> None:
    other = Space.of(dataclasses.replace(MANIFEST, **change), "a" * 64)  # type: ignore[arg-type]
    assert other.fingerprint != SPACE.fingerprint
    assert other.key("query", "text") != SPACE.key("query", "text")


def test_spaces_of_indexes_that_exist_stay_as_they_are() -> None:
    """As it was before attention, ends, heads and widths were settings."""
    assert SPACE.fingerprint == "63840f7bb18a7a0b2a144e196cdda03940335eb06834aeee5463c8db72afdc91"


def test_a_layer_norm_counts_where_a_vector_is_cut() -> None:
    normed = dataclasses.replace(MANIFEST, dimensions=(2,), layer_norm=True)
    plain = dataclasses.replace(MANIFEST, dimensions=(2,))
    assert Space.of(normed, "a" * 64) == Space.of(plain, "a" * 64) == SPACE
    assert Space.of(normed.at(2), "a" * 64) != Space.of(plain.at(2), "a" * 64)


def test_a_cut_vector_is_not_one_of_a_model_of_that_dimension() -> None:
    cut = dataclasses.replace(MANIFEST, dimensions=(2,)).at(2)
    small = dataclasses.replace(MANIFEST, dimension=2)
    assert Space.of(cut, "a" * 64).fingerprint != Space.of(small, "a" * 64).fingerprint


def test_other_weights_are_another_space() -> None:
    assert Space.of(MANIFEST, "b" * 64).fingerprint != SPACE.fingerprint


def test_a_summary_is_not_part_of_it() -> None:
    assert Space.of(dataclasses.replace(MANIFEST, summary="new"), "a" * 64) == SPACE


def test_roles_pairs_and_tokens_do_not_meet() -> None:
    made = {
        SPACE.key("query", "a b"), SPACE.key("document", "a b"), SPACE.tokens_key("a b"),
        SPACE.pair_key("a", " b"), SPACE.pair_key("a ", "b"), SPACE.pair_key("a b", ""),
    }  # fmt: skip
    assert len(made) == 6
