"""Write a nomic-bert transformer as a GGUF that llama.cpp loads: same tensors, same bytes."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import gguf
from gguf import GGUFWriter

from sqlembed.errors import ModelError
from sqlembed.weights.checkpoint import Floats
from sqlembed.weights.gguf_file import FILE_TYPES, add_tensor, add_vocabulary, uncut
from sqlembed.weights.replacing import replacing
from sqlembed.weights.vocabulary import vocabulary

ARCHITECTURE = "nomic-bert"

FIXED = {
    "embeddings.word_embeddings": "token_embd",
    "embeddings.token_type_embeddings": "token_types",
    "emb_ln": "token_embd_norm",
}
LAYER = {
    "attn.Wqkv": "attn_qkv",
    "attn.out_proj": "attn_output",
    "norm1": "attn_output_norm",
    "mlp.fc11": "ffn_up",
    "mlp.fc12": "ffn_gate",  # what goes through SiLU
    "mlp.fc2": "ffn_down",
    "norm2": "layer_output_norm",
}
WORDS = "embeddings.word_embeddings.weight"
TYPES = "embeddings.token_type_embeddings.weight"
IN_LAYER = re.compile(r"encoder\.layers\.(\d+)\.")


@dataclass(frozen=True)
class Shape:
    """What tensors do not say of a nomic-bert; the values are nomic-bert-2048's."""

    heads: int = 12
    base: float = 1000.0
    """Of the rotary angles."""
    epsilon: float = 1e-12
    """Of the layer norms."""
    positions: int = 2048


def write(
    tensors: Mapping[str, Floats],
    shape: Shape,
    tokenizer: str,
    target: Path,
    file_type: str,
    name: str,
    numbers: Mapping[str, int] | None = None,
) -> None:
    """Write the model to *target*, whole or not at all.

    :param tensors: by the names of nomic's own code
    :param tokenizer: the text of its tokenizer.json
    :param file_type: f32, f16, q8_0 or q4_0
    :param numbers: more metadata
    :raises ModelError: a tensor is missing, unknown, or of another shape
    """
    layers = _checked(tensors, shape)
    words, width = tensors[WORDS].shape
    with replacing(target) as partial:
        writer = GGUFWriter(partial, ARCHITECTURE)
        writer.add_name(name)
        writer.add_context_length(shape.positions)
        writer.add_embedding_length(width)
        writer.add_feed_forward_length(tensors["encoder.layers.0.mlp.fc11.weight"].shape[0])
        writer.add_block_count(layers)
        writer.add_head_count(shape.heads)
        writer.add_rope_freq_base(shape.base)
        writer.add_layer_norm_eps(shape.epsilon)
        writer.add_causal_attention(False)
        writer.add_pooling_type(gguf.PoolingType.MEAN)
        writer.add_file_type(FILE_TYPES[file_type][1])
        writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
        writer.add_token_type_count(tensors[TYPES].shape[0])
        add_vocabulary(writer, vocabulary(tokenizer, words))
        writer.add_string(gguf.Keys.Tokenizer.HF_JSON, uncut(tokenizer))
        for key, number in (numbers or {}).items():
            writer.add_uint32(key, number)
        for hub_name in sorted(tensors):
            add_tensor(writer, llama_name(hub_name), tensors[hub_name], file_type)
        try:
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_tensors_to_file()
        finally:
            writer.close()


def llama_name(hub_name: str) -> str:
    """llama.cpp's name of the tensor that nomic's code calls *hub_name*."""
    module, _, part = hub_name.rpartition(".")
    if module in FIXED:
        return f"{FIXED[module]}.{part}"
    layer, _, inside = module.removeprefix("encoder.layers.").partition(".")
    return f"blk.{layer}.{LAYER[inside]}.{part}"


def _checked(tensors: Mapping[str, Floats], shape: Shape) -> int:
    """How many layers there are, if all are whole."""
    found = {int(match[1]) for name in tensors if (match := IN_LAYER.match(name))}
    layers = max(found, default=-1) + 1
    if not layers or WORDS not in tensors:
        raise ModelError(f"these are no weights of {ARCHITECTURE}: {len(tensors)} tensors")
    width = tensors[WORDS].shape[1]
    first = tensors.get("encoder.layers.0.mlp.fc11.weight")
    inner = 0 if first is None else first.shape[0]
    wanted = _shapes(layers, width, inner)
    strange = sorted(wanted.keys() ^ tensors.keys() - {WORDS, TYPES})
    strange += [name for name, size in wanted.items() if tensors[name].shape != size]
    if strange or width % shape.heads:
        raise ModelError(
            f"a {ARCHITECTURE} of {layers} layers, {width} floats and {shape.heads} heads has"
            f" other tensors than these, which differ in {strange[:1] or 'the heads'}"
        )
    return layers


def _shapes(layers: int, width: int, inner: int) -> dict[str, tuple[int, ...]]:
    linears = {
        "attn.Wqkv": (3 * width, width),
        "attn.out_proj": (width, width),
        "mlp.fc11": (inner, width),
        "mlp.fc12": (inner, width),
        "mlp.fc2": (width, inner),
    }
    made: dict[str, tuple[int, ...]] = {f"emb_ln.{part}": (width,) for part in ("weight", "bias")}
    for layer in range(layers):
        at = f"encoder.layers.{layer}"
        made |= {f"{at}.{name}.weight": size for name, size in linears.items()}
        for norm in ("norm1", "norm2"):
            made |= {f"{at}.{norm}.{part}": (width,) for part in ("weight", "bias")}
    return made
