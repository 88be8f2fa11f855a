"""The bar: on a terminal, after a second of work, and nowhere else."""

import io

import pytest
from rich.console import Console

from sqlembed.cli import progress
from sqlembed.cli.progress import Bar, RateColumn


def drawn(*, terminal: bool) -> str:
    """What a bar writes over three updates and two stages."""
    file = io.StringIO()
    console = Console(file=file, force_terminal=terminal, width=80)
    with Bar(RateColumn(), console=console) as bar:
        bar.update("downloading", 10, 100)
        bar.update("downloading", 100, 100)
        bar.update("converting", 0, 1)
    return file.getvalue()


def test_short_work_draws_nothing():
    assert drawn(terminal=True).count("downloading") == 0


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "PATIENCE", -1.0)


@pytest.mark.usefixtures("impatient")
def test_long_work_draws_a_bar_on_a_terminal():
    assert "downloading" in drawn(terminal=True)


@pytest.mark.usefixtures("impatient")
def test_nothing_where_there_is_no_terminal():
    assert drawn(terminal=False) == ""
