"""Keys: one for each text of each role of each space."""

import dataclasses

import pytest

from sqlembed.engine.space import KEY_BYTES, Space
from sqlembed.weights.manifest import Manifest

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
    ],
)
def test_whatever_changes_a_vector_changes_the_space(change: dict[str, object]) -> None:
    other = Space.of(dataclasses.replace(MANIFEST, **change), "a" * 64)  # type: ignore[arg-type]
    assert other.fingerprint != SPACE.fingerprint
    assert other.key("query", "text") != SPACE.key("query", "text")


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
