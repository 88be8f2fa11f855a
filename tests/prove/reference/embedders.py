"""A tiny embedder as sentence-transformers has it, and the vectors that it gives."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import architectures
import numpy as np
import torch
from cases import TEXTS, Case, Dense
from sentence_transformers import SentenceTransformer
from sentence_transformers.models import Dense as DenseModule
from sentence_transformers.models import Pooling, Transformer
from transformers import PreTrainedTokenizerBase

POOLINGS = {"mean": "mean", "cls": "cls", "last": "lasttoken"}
ACTIVATIONS = {"identity": torch.nn.Identity, "tanh": torch.nn.Tanh}


def make(case: Case, tokenizer: PreTrainedTokenizerBase, weights: Path) -> None:
    """Write the model's directory, and beside it token ids and unit vectors by role."""
    model = getattr(architectures, case.model)(len(tokenizer))
    model.save_pretrained(weights)
    texts = {
        role: [case.prompts.get(role, "") + text for text in TEXTS]
        for role in ("document", "query")
    }
    found: dict[str, np.ndarray] = {}
    for width, encode in encoders(case, model, tokenizer, weights).items():
        for role, prompted in texts.items():
            vectors = np.stack([encode(text) for text in prompted])
            found[role if width is None else f"{role}-{width}"] = unit(vectors)
            for size in case.dimensions:
                found[f"{role}-{size}"] = truncated(case, vectors, size)
    np.savez(weights.parent / "reference.npz", **found)
    ids = {
        role: [tokenizer(text)["input_ids"] for text in prompted]
        for role, prompted in texts.items()
    }
    (weights.parent / "ids.json").write_text(json.dumps(ids))


def encoders(
    case: Case, model: Any, tokenizer: PreTrainedTokenizerBase, weights: Path
) -> dict[int | None, Callable[[str], np.ndarray]]:
    """For each width that has a head of its own, what makes a vector of a text with its prompt.

    Each text is computed alone, so that nothing is padded. Not yet of unit length.
    """
    if case.model == "jina_bert":
        return {None: lambda text: model(tokenizer(text)["input_ids"]).mean(0).detach().numpy()}
    transformer = Transformer(str(weights), model_kwargs={"attn_implementation": "eager"})
    if case.architecture == "qwen2" and case.attention == "bidirectional":
        see_all(transformer.auto_model)
    made: dict[int | None, Callable[[str], np.ndarray]] = {}
    for width, heads in by_width(case).items():
        modules = [transformer, Pooling(architectures.WIDTH, POOLINGS[case.pooling]), *heads]
        whole = SentenceTransformer(modules=modules, device="cpu")
        made[width] = partial(whole.encode, show_progress_bar=False)
        if width is None or width == case.dense[0].width:
            whole.save_pretrained(str(weights))
    for number, dense in enumerate(case.dense):
        (weights / dense.path).parent.mkdir(exist_ok=True)
        head(dense, number).save(str((weights / dense.path).parent))
    if case.model == "nomic_bert":
        architectures.write_as_nomic(model, weights)
    return made


def unit(vectors: np.ndarray) -> np.ndarray:
    """Rows of unit length."""
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def truncated(case: Case, vectors: np.ndarray, size: int) -> np.ndarray:
    """The first *size* numbers, as the model's page says: nomic's after a layer norm."""
    rows = torch.from_numpy(vectors)
    if case.layer_norm:
        rows = torch.nn.functional.layer_norm(rows, rows.shape[1:])
    return unit(rows[:, :size].numpy())


def by_width(case: Case) -> dict[int | None, list[DenseModule]]:
    """The heads after the pooling, for each width that has its own."""
    heads = [(dense.width, head(dense, n)) for n, dense in enumerate(case.dense)]
    if heads and heads[0][0] is not None:
        return {width: [module] for width, module in heads}
    return {None: [module for _, module in heads]}


def head(dense: Dense, number: int) -> DenseModule:
    """A dense module with seeded weights."""
    generator = torch.Generator().manual_seed(100 + number)
    weight = torch.randn(dense.give, dense.read, generator=generator) / dense.read**0.5
    bias = torch.randn(dense.give, generator=generator) if dense.bias else None
    return DenseModule(
        dense.read,
        dense.give,
        bias=dense.bias,
        activation_function=ACTIVATIONS[dense.activation](),
        init_weight=weight,
        init_bias=bias,
    )


def see_all(model: Any) -> None:
    """Let every token see every other, as gte-Qwen2's and stella's own code does.

    transformers' Qwen2 is causal; a mask of four dimensions is taken as it is, and one of zeros
    hides nothing (one text at a time, so there is no padding).
    """
    forward: Callable[..., Any] = model.forward

    def unmasked(*args: Any, input_ids: torch.Tensor, **more: Any) -> Any:
        count = input_ids.shape[1]
        more["attention_mask"] = torch.zeros(1, 1, count, count)
        return forward(*args, input_ids=input_ids, **more)

    model.forward = unmasked
