"""Write a checkpoint as a GGUF that llama.cpp loads: same checkpoint, same bytes."""

import json
from pathlib import Path

import gguf
from gguf import GGMLQuantizationType, GGUFWriter, LlamaFileType, PoolingType

from sqlembed.errors import OptionError
from sqlembed.weights.checkpoint import BLOCK, Checkpoint, Q4Blocks, Tensor, shapes
from sqlembed.weights.replacing import replacing
from sqlembed.weights.segments import fold
from sqlembed.weights.vocabulary import Vocabulary, vocabulary

SEGMENT_OFFSET = "sqlembed.segment_offset"
"""The metadata key of what is added to the ids of a pair's second text."""

FILE_TYPES = {
    "f32": (GGMLQuantizationType.F32, LlamaFileType.ALL_F32),
    "f16": (GGMLQuantizationType.F16, LlamaFileType.MOSTLY_F16),
    "q8_0": (GGMLQuantizationType.Q8_0, LlamaFileType.MOSTLY_Q8_0),
    "q4_0": (GGMLQuantizationType.Q4_0, LlamaFileType.MOSTLY_Q4_0),
}
"""How matrices are stored: 32, 16, 8.5 and 4.5 bits a weight."""

POOLINGS = {"mean": PoolingType.MEAN, "cls": PoolingType.CLS, "rank": PoolingType.RANK}

FIXED = {
    "embeddings.word_embeddings": "token_embd",
    "embeddings.position_embeddings": "position_embd",
    "embeddings.token_type_embeddings": "token_types",
    "embeddings.LayerNorm": "token_embd_norm",
    "pooler.dense": "cls",
    "classifier": "cls.output",
}
LAYER = {
    "attention.self.query": "attn_q",
    "attention.self.key": "attn_k",
    "attention.self.value": "attn_v",
    "attention.output.dense": "attn_output",
    "attention.output.LayerNorm": "attn_output_norm",
    "intermediate.dense": "ffn_up",
    "output.dense": "ffn_down",
    "output.LayerNorm": "layer_output_norm",
}
EXACT = ("position_embd", "token_types", "cls.", "cls.output")
"""Matrices that stay float32: small, and the position and type vectors are added to all."""


def write(checkpoint: Checkpoint, target: Path, file_type: str, name: str) -> None:
    """Write *checkpoint* to *target*, whole or not at all.

    :param file_type: f32, f16, q8_0 or q4_0
    :param name: the model's name in the metadata
    :raises OptionError: no such file type
    :raises OSError: the disk is full, or the directory cannot be written
    """
    if file_type not in FILE_TYPES:
        raise OptionError(f"file type {file_type!r}; the file types are {', '.join(FILE_TYPES)}")
    offset = checkpoint.architecture.vocabulary if checkpoint.pooling == "rank" else 0
    if offset:
        checkpoint = fold(checkpoint)
    with replacing(target) as partial:
        writer = GGUFWriter(partial, "bert")
        _add_architecture(writer, checkpoint, file_type, name)
        add_vocabulary(writer, vocabulary(checkpoint.tokenizer, checkpoint.architecture.vocabulary))
        writer.add_string(gguf.Keys.Tokenizer.HF_JSON, uncut(checkpoint.tokenizer))
        if offset:
            writer.add_uint32(SEGMENT_OFFSET, offset)
        for hub_name in shapes(checkpoint.architecture, len(checkpoint.labels)):
            add_tensor(writer, llama_name(hub_name), checkpoint.tensors[hub_name], file_type)
        try:
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_tensors_to_file()
        finally:
            writer.close()


def llama_name(hub_name: str) -> str:
    """llama.cpp's name of the tensor that BertModel calls *hub_name*."""
    module, _, part = hub_name.rpartition(".")
    if module in FIXED:
        return f"{FIXED[module]}.{part}"
    layer, _, inside = module.removeprefix("encoder.layer.").partition(".")
    return f"blk.{layer}.{LAYER[inside]}.{part}"


def _add_architecture(
    writer: GGUFWriter, checkpoint: Checkpoint, file_type: str, name: str
) -> None:
    architecture = checkpoint.architecture
    writer.add_name(name)
    writer.add_context_length(architecture.positions)
    writer.add_embedding_length(architecture.width)
    writer.add_feed_forward_length(architecture.inner)
    writer.add_block_count(architecture.layers)
    writer.add_head_count(architecture.heads)
    writer.add_layer_norm_eps(architecture.epsilon)
    writer.add_causal_attention(False)
    writer.add_pooling_type(POOLINGS[checkpoint.pooling])
    writer.add_file_type(FILE_TYPES[file_type][1])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_token_type_count(architecture.segments)
    if checkpoint.labels:
        # llama.cpp sizes the rank head by these, and refuses several outputs without them
        writer.add_classifier_output_labels(list(checkpoint.labels))


def add_vocabulary(writer: GGUFWriter, words: Vocabulary) -> None:
    """Say llama.cpp's view of the tokenizer, *words*, in a GGUF's metadata."""
    writer.add_tokenizer_model(words.model)
    writer.add_tokenizer_pre("default")
    writer.add_token_list(words.tokens)
    writer.add_token_types(words.types)
    if words.scores is not None:
        writer.add_token_scores(words.scores)
        writer.add_add_space_prefix(True)
        writer.add_remove_extra_whitespaces(True)
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(True)
    for role, number in words.specials.items():
        getattr(writer, f"add_{role}_token_id")(number)


def uncut(tokenizer: str) -> str:
    """*tokenizer* without the cutting and padding that some are saved with."""
    definition = json.loads(tokenizer) | {"truncation": None, "padding": None}
    return json.dumps(definition, ensure_ascii=False, separators=(",", ":"))


def add_tensor(writer: GGUFWriter, name: str, tensor: Tensor, file_type: str) -> None:
    """Add *tensor*, stored as *file_type* where it is a matrix that may be."""
    wanted = FILE_TYPES[file_type][0]
    if isinstance(tensor, Q4Blocks):
        if wanted == GGMLQuantizationType.Q4_0 and not name.startswith(EXACT):
            writer.add_tensor(name, tensor.data, raw_dtype=wanted)
            return
        tensor = tensor.floats()
    if tensor.ndim == 1 or name.startswith(EXACT) or wanted == GGMLQuantizationType.F32:
        writer.add_tensor(name, tensor)
        return
    if tensor.shape[-1] % BLOCK:
        wanted = GGMLQuantizationType.F16
    writer.add_tensor(name, gguf.quants.quantize(tensor, wanted), raw_dtype=wanted)
