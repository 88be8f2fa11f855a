"""Every example of docs/*.md and README.md runs, and gives the output that stands below it."""

from pathlib import Path

import pytest
from pages import PAGES, agree, regenerated, surroundings


@pytest.mark.model
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_examples_give_what_the_page_says(page: Path, tmp_path: Path) -> None:
    text = page.read_text(encoding="utf-8")
    with surroundings(tmp_path):
        found = regenerated(text)
    # If this is right: python tests/docs/regenerate.py
    assert found == text


def test_outputs_agree_where_floats_differ_slightly() -> None:
    assert agree("id  distance\n1   0.41\n", "id  distance\n1   0.42\n")
    assert not agree("id  distance\n1   0.41\n", "id  distance\n1   0.43\n")
    assert not agree("id  distance\n1   0.41\n", "id  distance\n2   0.41\n")
    assert not agree("10\n", "11\n")
