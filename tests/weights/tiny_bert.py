"""A BERT small enough to compute in a test: seeded weights, its files, and its own arithmetic."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from sqlembed.weights.checkpoint import Architecture, Checkpoint, Floats, shapes
from sqlembed.weights.read_safetensors import word_piece

ARCHITECTURE = Architecture(
    layers=2,
    heads=2,
    width=64,
    inner=128,
    vocabulary=40,
    positions=24,
    segments=2,
    epsilon=1e-12,
)
PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghij", *(f"##{c}" for c in "abc")]


def tensors(labels: int = 0, seed: int = 7, segments: int = 2) -> dict[str, Floats]:
    random = np.random.default_rng(seed)
    made = {}
    for name, shape in shapes(replace(ARCHITECTURE, segments=segments), labels).items():
        tensor = random.normal(0, 0.3, shape)
        made[name] = (tensor + (1 if name.endswith("LayerNorm.weight") else 0)).astype(np.float32)
    return made


def write_vocabulary(directory: Path) -> Path:
    path = directory / "vocab.txt"
    path.write_text("\n".join(PIECES) + "\n", encoding="utf-8")
    return path


def checkpoint(directory: Path, labels: int = 0) -> Checkpoint:
    return Checkpoint(
        architecture=ARCHITECTURE,
        tensors=tensors(labels),
        tokenizer=word_piece(write_vocabulary(directory), {}),
        pooling="rank" if labels else "mean",
        labels=tuple(f"LABEL_{n}" for n in range(labels)),
    )


def write_directory(directory: Path, labels: int = 0, prefix: str = "", **config: object) -> Path:
    """A Hugging Face directory of the tiny BERT."""
    directory.mkdir(parents=True, exist_ok=True)
    write_vocabulary(directory)
    a = ARCHITECTURE
    settings = {
        "architectures": ["BertForSequenceClassification" if labels else "BertModel"],
        "model_type": "bert",
        "hidden_act": "gelu",
        "num_hidden_layers": a.layers,
        "num_attention_heads": a.heads,
        "hidden_size": a.width,
        "intermediate_size": a.inner,
        "vocab_size": a.vocabulary,
        "max_position_embeddings": a.positions,
        "type_vocab_size": a.segments,
        "layer_norm_eps": a.epsilon,
    }
    if labels:
        settings["id2label"] = {str(n): f"LABEL_{n}" for n in range(labels)}
    (directory / "config.json").write_text(json.dumps(settings | config), encoding="utf-8")
    stored = {
        name if name.startswith("classifier") else prefix + name: tensor
        for name, tensor in tensors(labels).items()
    }
    save_file(stored, directory / "model.safetensors")
    return directory


def forward(weights: dict[str, Floats], ids: list[int], segments: list[int]) -> Floats:
    """BERT's last hidden states (https://arxiv.org/abs/1810.04805), of shape (tokens, width)."""
    a = ARCHITECTURE

    def linear(x: Floats, name: str) -> Floats:
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    def norm(x: Floats, name: str) -> Floats:
        x = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + a.epsilon)
        return x * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    words = weights["embeddings.word_embeddings.weight"][ids]
    places = weights["embeddings.position_embeddings.weight"][: len(ids)]
    types = weights["embeddings.token_type_embeddings.weight"][segments]
    x = norm(words + places + types, "embeddings.LayerNorm")
    erf = np.vectorize(math.erf)
    for layer in range(a.layers):
        at = f"encoder.layer.{layer}"
        q, k, v = (
            linear(x, f"{at}.attention.self.{part}").reshape(len(ids), a.heads, -1).swapaxes(0, 1)
            for part in ("query", "key", "value")
        )
        scores = q @ k.swapaxes(1, 2) / math.sqrt(a.width / a.heads)
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        mixed = (scores / scores.sum(-1, keepdims=True)) @ v
        mixed = mixed.swapaxes(0, 1).reshape(len(ids), a.width)
        x = norm(
            x + linear(mixed, f"{at}.attention.output.dense"), f"{at}.attention.output.LayerNorm"
        )
        inner = linear(x, f"{at}.intermediate.dense")
        inner = inner * (1 + erf(inner / math.sqrt(2))) / 2
        x = norm(x + linear(inner, f"{at}.output.dense"), f"{at}.output.LayerNorm")
    return x


def classify(weights: dict[str, Floats], ids: list[int], segments: list[int]) -> Floats:
    """A cross-encoder's logits, of shape (labels,)."""
    first = forward(weights, ids, segments)[0]
    pooled = np.tanh(weights["pooler.dense.weight"] @ first + weights["pooler.dense.bias"])
    return weights["classifier.weight"] @ pooled + weights["classifier.bias"]
