"""Print how near each tiny model is to its reference, as a table: ``make prove``."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import built
from cases import CASES, TEXTS
from tiny import COSINE, PEARSON, ROLES, Tiny, cosines, pearson

from sqlembed.engine.model import Model


def main() -> None:
    """Compare all."""
    place = built.directory()
    print("| tiny model | stands for | compared | figure | tolerance |\n|---|---|---|---|---|")
    for case in CASES:
        rows = row(Tiny(case, place / case.name))
        print(f"| {case.name} | {case.stands_for} | {' | '.join(rows)} |")
        sys.stdout.flush()


def row(tiny: Tiny) -> tuple[str, str, str]:
    """What was compared, the figure, and what tests hold it to."""
    with loaded(tiny) as model:
        if tiny.case.kind == "reranker":
            reference = tiny.reference["scores"]
            figure = f"Pearson {pearson(tiny.scores(model), reference):.6f}"
            return (f"scores of {len(reference)} pairs", figure, f"{PEARSON}")
        least = min(
            float(cosines(tiny.ours(model, key), reference).min())
            for key, reference in tiny.reference.items()
        )
        figure = f"cosine {least:.6f}, ids of {otherwise(tiny, model)} texts differ"
    if tiny.case.converter == "llama.cpp":
        with loaded(tiny, tokenizer=False) as model:
            figure += f"; of {otherwise(tiny, model)} by llama.cpp's tokenizer"
    return (f"{len(TEXTS)} texts as {', '.join(tiny.reference)}", figure, f"{COSINE}, none")


@contextmanager
def loaded(tiny: Tiny, *, tokenizer: bool = True) -> Iterator[Model]:
    """The model, with the reference's tokenizer or llama.cpp's."""
    with TemporaryDirectory() as directory:
        model = Model(tiny.manifest, tiny.install(Path(directory), tokenizer=tokenizer))
        try:
            yield model
        finally:
            model.close()


def otherwise(tiny: Tiny, model: Model) -> int:
    """How many texts *model* reads as other tokens than the reference, in any role."""
    return len(
        {
            text
            for role in ROLES
            for text, ours, reference in zip(
                TEXTS, model._tokens(TEXTS, role), tiny.ids[role], strict=True
            )
            if ours.tolist() != reference
        }
    )


if __name__ == "__main__":
    main()
