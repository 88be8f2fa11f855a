"""What sentence-transformers gives for real texts with real weights, in float32.

Runs in the references' environment: ``python real_weights.py DIRECTORY``. DIRECTORY has ``weights/``
(a model's directory) and ``asked.json``: texts with their prompts in front, or pairs with the label
that counts. ``reference.npz`` and ``ids.json`` are left beside.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.models import Pooling, Transformer
from transformers import AutoModelForSequenceClassification, AutoTokenizer

AT_ONCE = 32


def main(directory: Path) -> None:
    """Answer what is asked."""
    asked = json.loads((directory / "asked.json").read_text())
    weights = str(directory / "weights")
    tokenizer = AutoTokenizer.from_pretrained(weights)
    if "pairs" in asked:
        found = {"scores": scores(weights, tokenizer, asked["pairs"], asked["positive"])}
        ids = [tokenizer(*pair, truncation=False)["input_ids"] for pair in asked["pairs"]]
    else:
        model = embedder(weights)
        vectors = model.encode(asked["texts"], batch_size=AT_ONCE, normalize_embeddings=True)
        found = {"vectors": vectors}
        ids = [tokenizer(text, truncation=False)["input_ids"] for text in asked["texts"]]
    np.savez(directory / "reference.npz", **found)
    (directory / "ids.json").write_text(json.dumps(ids))


def embedder(weights: str) -> SentenceTransformer:
    """The model; pooled by the mean where its directory does not say how."""
    if (Path(weights) / "modules.json").is_file():
        return SentenceTransformer(weights, device="cpu")
    transformer = Transformer(weights)
    pooling = Pooling(transformer.get_embedding_dimension(), "mean")
    return SentenceTransformer(modules=[transformer, pooling], device="cpu")


def scores(
    weights: str, tokenizer: object, pairs: list[tuple[str, str]], positive: int
) -> np.ndarray:
    """The probability of the label *positive*, of each pair alone."""
    model = AutoModelForSequenceClassification.from_pretrained(weights, dtype=torch.float32).eval()
    found = []
    with torch.inference_mode():
        for query, document in pairs:
            read = tokenizer(query, document, truncation=False, return_tensors="pt")
            found.append(torch.softmax(model(**read).logits[0], 0)[positive].item())
    return np.array(found)


if __name__ == "__main__":
    torch.set_num_threads(2)
    main(Path(sys.argv[1]))
