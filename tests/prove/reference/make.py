"""Make every tiny model of ``cases.py`` and what its reference gives for the hard texts.

Runs in the references' environment: ``python make.py DIRECTORY SMS_CSV LLAMA_CPP``. Of each case
DIRECTORY/NAME then has ``weights/`` (a model's directory as hubs have it), ``reference.npz`` (unit
vectors by role, heads by width, or scores of pairs), ``ids.json``, and, where llama.cpp's own
converter makes it, ``NAME.gguf``.
"""

import csv
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

import converting
import embedders
import rankers
import vocabularies
from cases import CASES, TEXTS, Case
from transformers import PreTrainedTokenizerBase


def main(directory: Path, sms: Path, llama_cpp: Path) -> None:
    """Make all cases below *directory*."""
    torch.set_num_threads(1)
    lines = corpus(sms)
    for case in CASES:
        weights = directory / case.name / "weights"
        weights.mkdir(parents=True)
        tokenizer = trained(case, lines, weights)
        tokenizer.save_pretrained(weights)
        make = rankers.make if case.kind == "reranker" else embedders.make
        make(case, tokenizer, weights)
        print("made", case.name, flush=True)
    converting.convert(
        [case for case in CASES if case.converter == "llama.cpp"], directory, llama_cpp
    )


def corpus(sms: Path) -> list[str]:
    """What tokenizers are trained on: messages, and the hard texts often enough to have pieces."""
    with sms.open(encoding="utf-8", newline="") as file:
        messages = [row["text"] for row in csv.DictReader(file)]
    return [*messages, *(TEXTS * 20), *(["yes", "no"] * 500)]


def trained(case: Case, lines: list[str], weights: Path) -> PreTrainedTokenizerBase:
    """The tokenizer of *case*."""
    train = getattr(vocabularies, case.tokenizer)
    if case.tokenizer == "byte_pairs_of_qwen":
        return train(lines, case.end)
    if case.tokenizer in ("unigram", "byte_fallback_of_gemma"):
        return train(lines, weights)
    return train(lines)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
