"""How well search finds: tables on the terminal and in docs/quality.md. ``make quality``."""

import argparse
import tempfile
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace

import apsw
import numpy as np
import numpy.typing as npt
import report
import texts
from report import tell
from rich import box
from rich.table import Table

import sqlembed
from quality import byhand, judged
from quality.legs import LEGS, Corpus
from quality.sets import Question, Set, all_sets
from sqlembed import settings
from sqlembed.cli.pull import install
from sqlembed.engine.cache import Cache
from sqlembed.engine.local import LocalEngine
from sqlembed.weights import receipt

MODELS = ("all-MiniLM-L6-v2", "multilingual-e5-small")
BY_HAND = "by hand"
DEPTH = 10
"""An answer below this place does not count."""
DRAWS = 2000
PAGE = texts.ROOT / "docs" / "quality.md"
BEGIN, END = "<!-- figures: make quality -->\n", "<!-- end of figures -->"

Numbers = npt.NDArray[np.float64]
Row = list[str]


def main() -> None:
    """Measure, print, and unless it is quick, write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="20 questions a set; keeps nothing")
    quick = parser.parse_args().quick
    chosen = [replace(s, questions=s.questions[: 20 if quick else None]) for s in all_sets()]
    parts = []
    with tempfile.TemporaryDirectory() as work:
        engine = LocalEngine(Cache(f"{work}/cache.db", settings.cache_bytes()))
        for model in MODELS:
            if not receipt.gguf_path(model).is_file():
                tell(install(model))
            title = f"{model}: MRR@{DEPTH}"
            head, rows = searches(engine, model, chosen)
            parts.append(shown(title, head, rows))
        parts.append(shown("vectors alone", ["", *MODELS], judgements(engine)))
        engine.close()
    if not quick:
        keep(parts)


def searches(engine: LocalEngine, model: str, chosen: Sequence[Set]) -> tuple[Row, list[Row]]:
    """A row for each set: how high each leg puts the right text."""
    legs = list(LEGS)
    hand: dict[str, list[list[int]]] = {}
    if model == settings.default_model():  # the other's weights are here in 4 bits only
        hand = byhand.rankings(chosen, DEPTH)
        legs += [BY_HAND] if hand else []
    rows = []
    for each in chosen:
        tell(f"{model}: {each.name}")
        with closing(Corpus(engine, each.texts, model)) as corpus:
            found = [corpus.rankings(question.text) for question in each.questions]
        by_leg = {leg: [ranking[leg] for ranking in found] for leg in LEGS}
        by_leg |= {BY_HAND: hand[each.name]} if hand else {}
        figures = [interval(ranks(by_leg[leg], each.questions)) for leg in legs]
        rows.append([each.name, f"{len(each.questions)} / {len(each.texts):,}", *figures])
    return ["set", "asked / texts", *legs], rows


def ranks(found: Sequence[Sequence[int]], questions: Sequence[Question]) -> Numbers:
    """The reciprocal place of each question's first right text, 0 if it is not near the top."""
    return np.array([
        next((1 / place for place, n in enumerate(ids[:DEPTH], 1) if n in question.right), 0.0)
        for ids, question in zip(found, questions, strict=True)
    ])  # fmt: skip


def judgements(engine: LocalEngine) -> list[Row]:
    """What the vectors say of spam and of likeness, a column a model."""
    with closing(sqlembed.connect(":memory:", engine=engine)) as connection:
        return [
            ["spam: F1", *(spam(connection, model) for model in MODELS)],
            ["likeness: Pearson's r", *(likeness(connection, model) for model in MODELS)],
        ]


def spam(connection: apsw.Connection, model: str) -> str:
    """How well the nearest messages tell spam."""
    truth, said = judged.spam(connection, model)
    return drawn(len(truth), lambda chosen: judged.f1(truth[chosen], said[chosen]))


def likeness(connection: apsw.Connection, model: str) -> str:
    """How well cosines agree with people."""
    people, ours = judged.likeness(connection, model)
    return drawn(len(people), lambda chosen: judged.correlation(people, ours, chosen))


def interval(values: Numbers) -> str:
    """The mean of *values* and its 95% interval."""
    return drawn(len(values), lambda chosen: float(values[chosen].mean()))


def drawn(count: int, figure: Callable[[npt.NDArray[np.int64]], float]) -> str:
    """A *figure* over *count* things, and its 95% interval when they are drawn anew."""
    chance = np.random.default_rng(1)
    draws = [figure(chance.integers(0, count, count)) for _ in range(DRAWS)]
    low, high = np.percentile(draws, [2.5, 97.5])
    return f"{figure(np.arange(count)):.3f} ({low:.2f}-{high:.2f})"


def shown(title: str, head: Row, rows: list[Row]) -> str:
    """Print a table; the same in Markdown."""
    grid = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", title_style="bold")
    for name in head:
        grid.add_column(name, no_wrap=True)
    for row in rows:
        grid.add_row(*row)
    report.console.print(grid)
    lines = [head, ["---"] * len(head), *rows]
    return f"**{title}**\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines)


def keep(parts: Sequence[str]) -> None:
    """Write the figures into the page, between its markers."""
    head, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    _, _, tail = rest.partition(END)
    figures = "\n\n".join(parts)
    PAGE.write_text(f"{head}{BEGIN}\n{figures}\n\n{END}{tail}", encoding="utf-8")


if __name__ == "__main__":
    main()
