"""A tiny model in our engine, as its case has it or with one setting changed."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from cases import PAIRS, TEMPLATE, TEXTS, Case

from sqlembed.engine.model import Model
from sqlembed.engine.pooling import cut
from sqlembed.weights import beside
from sqlembed.weights.convert import convert
from sqlembed.weights.manifest import Manifest, Role
from sqlembed.weights.stack import Dense

COSINE = 0.999
"""Of every text at f16 at least. Measured: 0.99998."""
PEARSON = 0.999
"""Of the scores of all pairs at least. Measured: 0.99998."""
CONTEXT = 512
ROLES: tuple[Role, ...] = ("document", "query")

Floats = npt.NDArray[np.float32]
Load = Callable[..., Model]
"""The fixture that loads a tiny model, with changes to its manifest as keywords."""


@dataclass(frozen=True)
class Tiny:
    """One case's files."""

    case: Case
    place: Path

    @cached_property
    def reference(self) -> dict[str, Floats]:
        """Unit vectors by role (and width, as ``query-32``), or scores."""
        with np.load(self.place / "reference.npz") as stored:
            return dict(stored)

    @cached_property
    def ids(self) -> dict[str, list[list[int]]]:
        """The reference's token ids by role, or of pairs."""
        found: dict[str, list[list[int]]] = json.loads((self.place / "ids.json").read_text())
        return found

    @property
    def manifest(self) -> Manifest:
        """What a person would write of it."""
        case = self.case
        reading: dict[str, Any] = {}
        if case.model == "qwen3_generator":
            reading = {"reading": "yes_no", "template": TEMPLATE, "pooling": "none"}
        return Manifest(
            **{
                "name": case.name,
                "summary": case.stands_for,
                "kind": case.kind,
                "architecture": case.architecture,
                "dimension": self.dimension,
                "context": CONTEXT,
                "pooling": case.pooling,
                "attention": case.attention,
                "prompts": case.prompts,
                "end": case.end,
                "dense": tuple(
                    Dense(d.path, d.read, d.give, d.activation, d.bias, d.tensor, d.width)
                    for d in case.dense
                ),
                "dimensions": case.dimensions,
                "layer_norm": case.layer_norm,
                "licence": "none",
                "homepage": "",
                **reading,
            }
        )

    @property
    def dimension(self) -> int:
        """Floats a vector, or labels."""
        if self.case.kind == "reranker":
            return self.case.labels
        return self.case.dense[-1].give if self.case.dense else 64

    def install(self, directory: Path, *, tokenizer: bool = True, heads: bool = True) -> Path:
        """Its GGUF in *directory*, with what belongs beside it.

        :param tokenizer: with the reference's tokenizer; else llama.cpp's own is used
        :param heads: with the dense layers
        """
        directory.mkdir(parents=True, exist_ok=True)
        name, weights = self.case.name, self.place / "weights"
        target = directory / f"{name}.gguf"
        if self.case.converter == "sqlembed":
            convert(weights, target)
        else:
            target.symlink_to(self.place / f"{name}.gguf")
            beside.gather(self.manifest, weights, target, tokenizer=tokenizer)
            if self.case.inside or not heads:
                beside.path(target, beside.HEADS).unlink(missing_ok=True)
        return target

    def ours(self, model: Model, key: str, texts: Sequence[str] = TEXTS) -> Floats:
        """The vectors that *model* gives in place of ``reference[key]``."""
        role, _, width = key.partition("-")
        if not width:
            return model.embed(texts, role)
        if self.case.dimensions:
            return cut(model.embed(texts, role), int(width), normed=model.manifest.layer_norm)
        return model.embed(texts, role, int(width))

    def scores(self, model: Model) -> Floats:
        """The scores that *model* gives to the pairs."""
        return np.concatenate(
            [
                model.score(query, [document for _, document in pairs])
                for query, pairs in groupby(PAIRS, key=itemgetter(0))
            ]
        )


def cosines(ours: Floats, reference: Floats) -> Floats:
    """Of each row with its counterpart, both of unit length."""
    found: Floats = (ours * reference).sum(axis=1)
    return found


def pearson(ours: Floats, reference: Floats) -> float:
    """How far scores rise and fall together, 1 for a straight line."""
    return float(np.corrcoef(ours, reference)[0, 1])
