"""A tiny reranker, and the scores that it gives to pairs."""

import json
from pathlib import Path

import architectures
import numpy as np
import torch
from cases import PAIRS, TEMPLATE, Case
from jina_bert import JinaBert
from transformers import PreTrainedTokenizerBase


def make(case: Case, tokenizer: PreTrainedTokenizerBase, weights: Path) -> None:
    """Write the model's directory, and beside it token ids and the scores of ``PAIRS``."""
    model = getattr(architectures, case.model)(len(tokenizer))
    model.save_pretrained(weights)
    asked = ASKED.get(case.model, classified)
    with torch.inference_mode():
        results = [asked(model, tokenizer, query, document) for query, document in PAIRS]
    np.savez(weights.parent / "reference.npz", scores=[score for score, _ in results])
    (weights.parent / "ids.json").write_text(json.dumps({"pairs": [ids for _, ids in results]}))


def classified(
    model: torch.nn.Module, tokenizer: PreTrainedTokenizerBase, query: str, document: str
) -> tuple[float, list[int]]:
    """The sigmoid of a cross-encoder's one label, and the ids it read."""
    read = tokenizer(query, document, return_tensors="pt")
    return torch.sigmoid(model(**read).logits[0, 0]).item(), read["input_ids"][0].tolist()


def classified_by_jina(
    model: JinaBert, tokenizer: PreTrainedTokenizerBase, query: str, document: str
) -> tuple[float, list[int]]:
    """The sigmoid of JinaBERT's label, and the ids it read."""
    ids = tokenizer(query, document)["input_ids"]
    return torch.sigmoid(model.classify(ids)[0]).item(), ids


def answered(
    model: torch.nn.Module, tokenizer: PreTrainedTokenizerBase, query: str, document: str
) -> tuple[float, list[int]]:
    """How much likelier "yes" is than "no" as the next token, and the ids it read."""
    ids = tokenizer(TEMPLATE.format(query=query, document=document))["input_ids"]
    logits = model(torch.tensor([ids])).logits[0, -1]
    both = logits[tokenizer.convert_tokens_to_ids(["no", "yes"])]
    return torch.softmax(both, 0)[1].item(), ids


ASKED = {"jina_bert_ranker": classified_by_jina, "qwen3_generator": answered}
"""How those are asked that are no cross-encoders of transformers."""
