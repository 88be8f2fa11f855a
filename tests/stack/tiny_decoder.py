"""Decoders and a nomic-bert small enough for a test: seeded weights as GGUF, and their arithmetic.

Qwen2: https://arxiv.org/abs/2407.10671; Qwen3 has norms of queries and keys where that has biases.
nomic-bert: https://arxiv.org/abs/2402.01613. Written from these, not from llama.cpp.
"""

import json
from pathlib import Path

import gguf
import numpy as np
import numpy.typing as npt

from sqlembed.weights import receipt
from sqlembed.weights.read_safetensors import word_piece

Floats = npt.NDArray[np.float32]

WIDTH, INNER, LAYERS, HEADS, POSITIONS = 64, 96, 2, 4, 512
PER_HEAD = WIDTH // HEADS
GROUPS = {"qwen2": 2, "qwen3": 2, "nomic-bert": HEADS}
"""Heads of keys and values."""
BASE = {"qwen2": 1e4, "qwen3": 1e4, "nomic-bert": 1e3}
"""Of the rotary angles."""
EPSILON = 1e-6
PIECES = [
    "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "yes", "no", "the", "red", "fox", "sleeps",
    "under", "a", "tree", "at", "night", "dogs", "bark", "loud", "query", "document", ":",
    *"bcdefgh", "##s", "##x",
]  # fmt: skip


def shapes(architecture: str) -> dict[str, tuple[int, ...]]:
    """The tensors of that architecture, by llama.cpp's names; linear weights are (out, in)."""
    kv = GROUPS[architecture] * PER_HEAD
    made: dict[str, tuple[int, ...]] = {"token_embd.weight": (len(PIECES), WIDTH)}
    nomic = architecture == "nomic-bert"
    if nomic:
        made |= {"token_types.weight": (2, WIDTH)}
        made |= {f"token_embd_norm.{part}": (WIDTH,) for part in ("weight", "bias")}
    else:
        made |= {"output_norm.weight": (WIDTH,)}
    for layer in range(LAYERS):
        at = f"blk.{layer}."
        if nomic:
            made[at + "attn_qkv.weight"] = (3 * WIDTH, WIDTH)
        else:
            for part, rows in (("q", WIDTH), ("k", kv), ("v", kv)):
                made[f"{at}attn_{part}.weight"] = (rows, WIDTH)
                if architecture == "qwen2":
                    made[f"{at}attn_{part}.bias"] = (rows,)
        if architecture == "qwen3":
            made |= {f"{at}attn_{part}_norm.weight": (PER_HEAD,) for part in "qk"}
        made[at + "attn_output.weight"] = (WIDTH, WIDTH)
        for name in (
            ("attn_output_norm", "layer_output_norm") if nomic else ("attn_norm", "ffn_norm")
        ):
            made[f"{at}{name}.weight"] = (WIDTH,)
            if nomic:
                made[f"{at}{name}.bias"] = (WIDTH,)
        made |= {f"{at}ffn_{part}.weight": (INNER, WIDTH) for part in ("gate", "up")}
        made[at + "ffn_down.weight"] = (WIDTH, INNER)
    return made


def tensors(architecture: str, seed: int = 7) -> dict[str, Floats]:
    """Seeded weights."""
    random = np.random.default_rng(seed)
    made = {}
    for name, shape in shapes(architecture).items():
        drawn = random.normal(0, 0.25, shape)
        made[name] = (drawn + (1 if "norm.weight" in name else 0)).astype(np.float32)
    return made


def tokenizer(ends: bool = True) -> str:
    """The text of a tokenizer.json; with *ends* it puts [CLS] and [SEP] around."""
    directory = Path(__file__).with_name("__pycache__")
    directory.mkdir(exist_ok=True)
    vocabulary = directory / "vocab.txt"
    vocabulary.write_text("\n".join(PIECES) + "\n", encoding="utf-8")
    made = json.loads(word_piece(vocabulary, {}))
    if not ends:
        made["post_processor"] = None
    return json.dumps(made)


def write(
    path: Path,
    architecture: str,
    *,
    ends: bool = True,
    json_inside: bool = True,
    more: dict[str, Floats] | None = None,
) -> Path:
    """Write the tiny model to *path*.

    :param ends: whether its tokenizer adds start and end tokens
    :param more: tensors besides, such as dense heads
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_context_length(POSITIONS)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(INNER)
    writer.add_block_count(LAYERS)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(GROUPS[architecture])
    writer.add_rope_freq_base(BASE[architecture])
    if architecture == "nomic-bert":
        writer.add_layer_norm_eps(EPSILON)
        writer.add_causal_attention(False)
        writer.add_token_type_count(2)
    else:
        writer.add_layer_norm_rms_eps(EPSILON)
    writer.add_tokenizer_model("bert")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(["\u2581" + p if p.isalpha() or p == ":" else p for p in PIECES])
    writer.add_token_types([3 if p.startswith("[") else 1 for p in PIECES])
    writer.add_add_bos_token(ends)
    writer.add_add_eos_token(ends)
    writer.add_bos_token_id(2)
    writer.add_eos_token_id(3)
    writer.add_sep_token_id(3)
    writer.add_unk_token_id(1)
    if json_inside:
        writer.add_string(gguf.Keys.Tokenizer.HF_JSON, tokenizer(ends))
    for name, tensor in (tensors(architecture) | (more or {})).items():
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


MANIFEST = """
name = "{name}"
summary = "For tests"
kind = "embedder"
architecture = "{architecture}"
dimension = 64
context = 256
pooling = "mean"
licence = "none"
homepage = "none"
"""


def manifest(name: str, architecture: str, **keys: object) -> str:
    """A manifest's text: *keys* in TOML's values, in place of or besides the usual ones."""
    lines = MANIFEST.format(name=name, architecture=architecture).strip().splitlines()
    lines = [line for line in lines if line.partition(" ")[0] not in keys]
    lines += [f"{key} = {_toml(value)}" for key, value in keys.items() if key != "dense"]
    for head in keys.get("dense", ()):  # type: ignore[attr-defined]
        lines += ["[[dense]]", *(f"{key} = {_toml(value)}" for key, value in head.items())]
    return "\n".join(lines) + "\n"


def _toml(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_toml(each)}" for key, each in value.items()) + "}"
    return json.dumps(value)


def install(name: str, architecture: str, *, ends: bool = True, **keys: object) -> Path:
    """Put the tiny model where models are looked for, with a manifest and a receipt."""
    path = write(receipt.gguf_path(name), architecture, ends=ends)
    path.with_suffix(".toml").write_text(manifest(name, architecture, **keys), encoding="utf-8")
    receipt.write_receipt(name, receipt.make_receipt(path, "f32", "tests"))
    return path


def forward(architecture: str, ids: list[int], *, causal: bool) -> Floats:
    """The last hidden states, of shape (tokens, width), in float64's arithmetic."""
    w = {name: tensor.astype(np.float64) for name, tensor in tensors(architecture).items()}
    nomic = architecture == "nomic-bert"
    groups = GROUPS[architecture]
    x = w["token_embd.weight"][ids]
    if nomic:
        x = _layer_norm(x + w["token_types.weight"][0], w, "token_embd_norm")
    for layer in range(LAYERS):
        at = f"blk.{layer}."
        y = x if nomic else _rms(x, w[at + "attn_norm.weight"])
        if nomic:
            q, k, v = np.split(y @ w[at + "attn_qkv.weight"].T, 3, axis=1)
        else:
            q, k, v = (
                y @ w[f"{at}attn_{part}.weight"].T + w.get(f"{at}attn_{part}.bias", 0.0)
                for part in "qkv"
            )
        q, k, v = q.reshape(len(ids), HEADS, -1), *(a.reshape(len(ids), groups, -1) for a in (k, v))
        if architecture == "qwen3":
            q, k = _rms(q, w[at + "attn_q_norm.weight"]), _rms(k, w[at + "attn_k_norm.weight"])
        q, k = _rotated(q, BASE[architecture]), _rotated(k, BASE[architecture])
        k, v = (np.repeat(a, HEADS // groups, axis=1) for a in (k, v))
        scores = np.einsum("ihd,jhd->hij", q, k) / np.sqrt(PER_HEAD)
        if causal:
            scores += np.triu(np.full(scores.shape[1:], -np.inf), 1)
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        mixed = np.einsum("hij,jhd->ihd", scores / scores.sum(-1, keepdims=True), v)
        x = x + mixed.reshape(len(ids), WIDTH) @ w[at + "attn_output.weight"].T
        x = _layer_norm(x, w, at + "attn_output_norm") if nomic else x
        y = x if nomic else _rms(x, w[at + "ffn_norm.weight"])
        gate = y @ w[at + "ffn_gate.weight"].T
        inner = gate / (1 + np.exp(-gate)) * (y @ w[at + "ffn_up.weight"].T)
        x = x + inner @ w[at + "ffn_down.weight"].T
        x = _layer_norm(x, w, at + "layer_output_norm") if nomic else x
    return (x if nomic else _rms(x, w["output_norm.weight"])).astype(np.float32)


def _rms(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + EPSILON) * weight


def _layer_norm(x: np.ndarray, w: dict[str, np.ndarray], name: str) -> np.ndarray:
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + EPSILON)
    return x * w[name + ".weight"] + w[name + ".bias"]


def _rotated(x: np.ndarray, base: float) -> np.ndarray:
    """Rotary positions: the first half of a head's floats is paired with the second."""
    half = x.shape[-1] // 2
    angles = np.arange(len(x))[:, None] * base ** (-np.arange(half) / half)
    cos, sin = np.cos(angles)[:, None], np.sin(angles)[:, None]
    first, second = x[..., :half], x[..., half:]
    return np.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)


def unit(vector: Floats) -> Floats:
    """At unit length."""
    return vector / np.linalg.norm(vector)
