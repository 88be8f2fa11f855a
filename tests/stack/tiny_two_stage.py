"""A model of two stages small enough for a test: seeded weights, its files, and its arithmetic.

Written from what jxmorris12/cde (commit 0ca7453) and jxm/cde-small-v1's model.py of 2024 do, one
text at a time, in float64; not from llama.cpp, nor from the engine.
"""

import json
import math
from pathlib import Path

import numpy as np
import numpy.typing as npt
import tiny_decoder
from safetensors.numpy import save_file

from sqlembed.weights import beside, receipt
from sqlembed.weights.convert import convert

Floats = npt.NDArray[np.float64]

WIDTH, INNER, LAYERS, HEADS, SAMPLE, SOFT = 64, 96, 2, 2, 6, 8
BASE, EPSILON = 1e3, 1e-12
STAGES = {"first": "first_stage_model.embedder.", "second": "second_stage_model.backbone."}
MLPS = {
    "first": "first_stage_model.mlp.",
    "prompt": "second_stage_model.prompt_projection.",
    "output": "second_stage_model.output_projection.",
}
PROMPTS = {"query": "query : ", "document": "document : "}
WORDS = {piece: number for number, piece in enumerate(tiny_decoder.PIECES)}
CONFIG = {
    "architecture": "transductive",
    "embedder": "tiny",
    "transductive_corpus_size": SAMPLE,
    "transductive_tokens_per_document": 1,
    "disable_transductive_rotary_embedding": True,
    "n_head": HEADS,
    "rotary_emb_base": BASE,
    "layer_norm_epsilon": EPSILON,
    "n_positions": 512,
}


def tensors(seed: int = 7) -> dict[str, npt.NDArray[np.float32]]:
    """Seeded weights, by the hub's names."""
    random = np.random.default_rng(seed)
    words = len(tiny_decoder.PIECES)
    shapes: dict[str, tuple[int, ...]] = {}
    for prefix in STAGES.values():
        shapes[prefix + "embeddings.word_embeddings.weight"] = (words, WIDTH)
        shapes[prefix + "embeddings.token_type_embeddings.weight"] = (2, WIDTH)
        norms = ["emb_ln"]
        for layer in range(LAYERS):
            at = f"{prefix}encoder.layers.{layer}."
            shapes[at + "attn.Wqkv.weight"] = (3 * WIDTH, WIDTH)
            shapes[at + "attn.out_proj.weight"] = (WIDTH, WIDTH)
            shapes |= {f"{at}mlp.fc1{half}.weight": (INNER, WIDTH) for half in (1, 2)}
            shapes[at + "mlp.fc2.weight"] = (WIDTH, INNER)
            norms += [f"encoder.layers.{layer}.norm{n}" for n in (1, 2)]
        shapes |= {f"{prefix}{n}.{part}": (WIDTH,) for n in norms for part in ("weight", "bias")}
    for name, prefix in MLPS.items():
        wide = WIDTH * SOFT if name == "prompt" else WIDTH
        shapes |= {prefix + "0.weight": (WIDTH, WIDTH), prefix + "0.bias": (WIDTH,)}
        shapes |= {prefix + "2.weight": (wide, WIDTH), prefix + "2.bias": (wide,)}
    return {
        name: (
            random.normal(0, 0.6 if "embeddings" in name else 0.2, shape)
            + (("norm" in name or "emb_ln" in name) and name.endswith("weight"))
        ).astype(np.float32)
        for name, shape in shapes.items()
    }


def write_directory(directory: Path, **config: object) -> Path:
    """What the hub's repository has, and BERT's tokenizer."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(json.dumps(CONFIG | config), encoding="utf-8")
    (directory / "tokenizer.json").write_text(tiny_decoder.tokenizer(), encoding="utf-8")
    save_file(tensors(), directory / "model.safetensors")
    return directory


MANIFEST = """
name = "{name}"
summary = "For tests"
kind = "embedder"
architecture = "nomic-bert"
dimension = 64
context = 64
pooling = "mean"
licence = "none"
homepage = "none"
prompts = {{ query = "query : ", document = "document : " }}
[corpus]
sample = {sample}
arithmetic = "{arithmetic}"
"""


def install(name: str, arithmetic: str = "trained", file_type: str = "f16") -> Path:
    """Put the tiny model where models are looked for, with a manifest and a receipt."""
    path = receipt.gguf_path(name)
    text = MANIFEST.format(name=name, sample=SAMPLE, arithmetic=arithmetic)
    path.with_suffix(".toml").write_text(text, encoding="utf-8")
    convert(write_directory(path.parent / f"{name}.source"), path, file_type)
    assert beside.path(path, beside.FIRST).is_file()
    receipt.write_receipt(name, receipt.make_receipt(path, file_type, "tests"))
    return path


def ids(text: str, role: str = "document") -> list[int]:
    """Token ids of a text of known words."""
    words = (PROMPTS[role] + text).split()
    return [WORDS["[CLS]"], *(WORDS[word] for word in words), WORDS["[SEP]"]]


def of_first(text: str) -> Floats:
    """What the first stage makes of a text."""
    rows = _embedded("first", ids(text))
    pooled = _transformed("first", rows, np.arange(len(rows))).mean(0)
    gelu = np.vectorize(lambda x: x * (1 + math.erf(x / math.sqrt(2))) / 2)
    return _mlp("first", pooled, gelu)


def sample(texts: list[str]) -> Floats:
    """A sample of these texts, some several times."""
    return np.stack([of_first(texts[n % len(texts)]) for n in range(SAMPLE)])


def of_second(text: str, role: str, before: Floats, arithmetic: str = "trained") -> Floats:
    """The unit vector of a text that is read after a sample."""
    soft = _mlp("prompt", np.ones(WIDTH), lambda x: np.maximum(x, 0)).reshape(SOFT, WIDTH)
    rows = np.concatenate([before, soft, _embedded("second", ids(text, role))])
    positions = np.arange(len(rows))
    if arithmetic == "trained":
        positions[:SAMPLE] = 0  # what is turned by nothing is as if it stood at 0
    else:
        rows = rows + _type("second")
    pooled = _transformed("second", rows, positions)[SAMPLE + SOFT :].mean(0)
    made = _mlp("output", pooled, lambda x: np.maximum(x, 0))
    return made / np.linalg.norm(made)


WEIGHTS = {name: tensor.astype(np.float64) for name, tensor in tensors().items()}


def _type(stage: str) -> Floats:
    return WEIGHTS[STAGES[stage] + "embeddings.token_type_embeddings.weight"][0]


def _embedded(stage: str, numbers: list[int]) -> Floats:
    return WEIGHTS[STAGES[stage] + "embeddings.word_embeddings.weight"][numbers] + _type(stage)


def _mlp(name: str, x: Floats, activation: object) -> Floats:
    at = MLPS[name]
    inner = activation(WEIGHTS[at + "0.weight"] @ x + WEIGHTS[at + "0.bias"])  # type: ignore[operator]
    made: Floats = WEIGHTS[at + "2.weight"] @ inner + WEIGHTS[at + "2.bias"]
    return made


def _transformed(stage: str, x: Floats, positions: npt.NDArray[np.int64]) -> Floats:
    """nomic-bert's last hidden states, every row seeing every other, from the first norm on."""

    def norm(x: Floats, name: str) -> Floats:
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + EPSILON)
        return x * WEIGHTS[f"{STAGES[stage]}{name}.weight"] + WEIGHTS[f"{STAGES[stage]}{name}.bias"]

    def turned(x: Floats) -> Floats:
        half = x.shape[-1] // 2
        angles = positions[:, None] * BASE ** (-np.arange(half) / half)
        cos, sin = np.cos(angles)[:, None], np.sin(angles)[:, None]
        first, second = x[..., :half], x[..., half:]
        return np.concatenate([first * cos - second * sin, second * cos + first * sin], -1)

    x = norm(x, "emb_ln")
    for layer in range(LAYERS):
        at = f"encoder.layers.{layer}."
        weights = {
            name: WEIGHTS[f"{STAGES[stage]}{at}{name}.weight"]
            for name in ("attn.Wqkv", "attn.out_proj", "mlp.fc11", "mlp.fc12", "mlp.fc2")
        }
        q, k, v = (x @ weights["attn.Wqkv"].T).reshape(len(x), 3, HEADS, -1).swapaxes(0, 1)
        scores = np.einsum("ihd,jhd->hij", turned(q), turned(k)) / math.sqrt(WIDTH / HEADS)
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        mixed = np.einsum("hij,jhd->ihd", scores / scores.sum(-1, keepdims=True), v)
        x = norm(x + mixed.reshape(len(x), WIDTH) @ weights["attn.out_proj"].T, at + "norm1")
        gate = x @ weights["mlp.fc12"].T
        inner = (x @ weights["mlp.fc11"].T) * gate / (1 + np.exp(-gate))
        x = norm(x + inner @ weights["mlp.fc2"].T, at + "norm2")
    return x
