"""Transformers small enough to compute in a test, of each architecture, with seeded weights."""

import json
from pathlib import Path
from typing import TypeVar

import torch
from jina_bert import JinaBert
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    Gemma3TextConfig,
    Gemma3TextModel,
    ModernBertConfig,
    ModernBertModel,
    NomicBertConfig,
    NomicBertModel,
    PreTrainedModel,
    Qwen2Config,
    Qwen2Model,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3Model,
    XLMRobertaConfig,
    XLMRobertaForSequenceClassification,
    XLMRobertaModel,
)

Model = TypeVar("Model", bound=torch.nn.Module)

WIDTH = 64
HEADS = 2
LAYERS = 3
INNER = 128
POSITIONS = 512

OURS = {
    "hidden_size": WIDTH,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "intermediate_size": INNER,
}


def bert(tokens: int) -> PreTrainedModel:
    """BertModel."""
    config = BertConfig(vocab_size=tokens, max_position_embeddings=POSITIONS, **OURS)
    return seeded(BertModel(config, add_pooling_layer=False))


def bert_ranker(tokens: int, labels: int = 1) -> PreTrainedModel:
    """A cross-encoder that reads segment ids."""
    config = BertConfig(
        vocab_size=tokens, max_position_embeddings=POSITIONS, num_labels=labels, **OURS
    )
    return seeded(BertForSequenceClassification(config))


def xlm_roberta(tokens: int) -> PreTrainedModel:
    """XLMRobertaModel; its positions begin after the padding token's id."""
    return seeded(XLMRobertaModel(_xlm_roberta_config(tokens), add_pooling_layer=False))


def xlm_roberta_ranker(tokens: int) -> PreTrainedModel:
    """bge-reranker's kind of cross-encoder: one label, no segments."""
    return seeded(XLMRobertaForSequenceClassification(_xlm_roberta_config(tokens)))


def _xlm_roberta_config(tokens: int) -> XLMRobertaConfig:
    return XLMRobertaConfig(
        vocab_size=tokens,
        max_position_embeddings=POSITIONS + 2,
        type_vocab_size=1,
        layer_norm_eps=1e-5,
        num_labels=1,
        **OURS,
    )


def jina_bert(tokens: int) -> JinaBert:
    """jina-embeddings-v2's encoder."""
    return seeded(JinaBert(tokens, WIDTH, HEADS, INNER, LAYERS))


def jina_bert_ranker(tokens: int) -> JinaBert:
    """jina-reranker-v1's: that encoder, and BERT's head."""
    return seeded(JinaBert(tokens, WIDTH, HEADS, INNER, LAYERS, labels=1))


def nomic_bert(tokens: int) -> PreTrainedModel:
    """NomicBertModel: rotary positions, SwiGLU, no biases."""
    config = NomicBertConfig(vocab_size=tokens, max_position_embeddings=2048, **OURS)
    model = seeded(NomicBertModel(config, add_pooling_layer=False))
    with torch.no_grad():  # else its vectors have a mean of 0, and a layer norm changes nothing
        model.layers[-1].post_mlp_layernorm.bias.add_(0.5)
    return model


def modern_bert(tokens: int) -> PreTrainedModel:
    """ModernBertModel: every third layer sees all, the others a window."""
    config = ModernBertConfig(
        vocab_size=tokens,
        max_position_embeddings=2 * POSITIONS,
        local_attention=32,
        global_attn_every_n_layers=3,
        layer_norm_eps=1e-5,  # the same as norm_eps; llama.cpp's converter looks for this name
        pad_token_id=3,
        bos_token_id=1,
        eos_token_id=2,
        cls_token_id=1,
        sep_token_id=2,
        attn_implementation="eager",
        reference_compile=False,
        **OURS | {"num_hidden_layers": 4},
    )
    return seeded(ModernBertModel(config))


def qwen2(tokens: int) -> PreTrainedModel:
    """Qwen2Model: grouped heads, biases on queries, keys and values."""
    config = Qwen2Config(vocab_size=tokens, **_decoder())
    return seeded(Qwen2Model(config))


def qwen3(tokens: int) -> PreTrainedModel:
    """Qwen3Model: heads normalized, and wider together than the model."""
    return seeded(Qwen3Model(_qwen3_config(tokens)))


def qwen3_generator(tokens: int) -> PreTrainedModel:
    """Qwen3ForCausalLM, of which Qwen3-Reranker's answer is read."""
    return seeded(Qwen3ForCausalLM(_qwen3_config(tokens)))


def _qwen3_config(tokens: int) -> Qwen3Config:
    return Qwen3Config(
        vocab_size=tokens, head_dim=WIDTH // HEADS, tie_word_embeddings=True, **_decoder()
    )


def _decoder() -> dict[str, object]:
    return OURS | {
        "num_key_value_heads": 1,
        "max_position_embeddings": 2 * POSITIONS,
        "attn_implementation": "eager",
    }


def gemma(tokens: int) -> PreTrainedModel:
    """Gemma3TextModel, bidirectional as EmbeddingGemma has it, with a window of 32 tokens."""
    config = Gemma3TextConfig(
        vocab_size=tokens,
        head_dim=WIDTH // HEADS,
        query_pre_attn_scalar=WIDTH // HEADS,
        sliding_window=WINDOW,
        use_bidirectional_attention=True,
        **_decoder() | {"num_hidden_layers": 6},
    )
    # Its embeddings are multiplied by the root of the width.
    return seeded(Gemma3TextModel(config), embedding=0.5 / WIDTH**0.5)


WINDOW = 32
"""Tokens that a layer of Gemma's and ModernBERT's sees, so that a text of a line or two is more."""


def seeded(model: Model, *, embedding: float = 0.5) -> Model:
    """*model* with weights that let every part of it move the result.

    Those that transformers begins with are so small that attention is nearly even, and biases
    and norms do nothing: another pooling or mask would hardly be seen.

    :param embedding: the standard deviation of token embeddings
    """
    generator = torch.Generator().manual_seed(7)

    def normal(parameter: torch.Tensor, deviation: float) -> torch.Tensor:
        return torch.randn(parameter.shape, generator=generator) * deviation

    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name.lower() and name.endswith("weight"):
                parameter.add_(normal(parameter, 0.1))
            elif parameter.ndim == 1:
                parameter.copy_(normal(parameter, 0.1))
            elif "embed" in name:
                parameter.copy_(normal(parameter, embedding))
            else:
                parameter.copy_(normal(parameter, 1.4 / parameter.shape[-1] ** 0.5))
    return model.eval()


def write_as_nomic(model: PreTrainedModel, directory: Path) -> None:
    """Say in *directory*'s config.json what nomic's own code, and so llama.cpp's converter, reads."""
    config = model.config
    nomic = {
        "architectures": ["NomicBertModel"],
        "model_type": "nomic_bert",
        "activation_function": "swiglu",
        "causal": False,
        "layer_norm_epsilon": config.layer_norm_eps,
        "max_trained_positions": 2048,
        "mlp_fc1_bias": False,
        "mlp_fc2_bias": False,
        "n_embd": config.hidden_size,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_attention_heads": config.num_attention_heads,
        "num_hidden_layers": config.num_hidden_layers,
        "n_head": config.num_attention_heads,
        "n_inner": config.intermediate_size,
        "n_layer": config.num_hidden_layers,
        "n_positions": 8192,
        "prenorm": False,
        "qkv_proj_bias": False,
        "rotary_emb_base": config.rope_parameters["rope_theta"],
        "rotary_emb_fraction": 1.0,
        "rotary_emb_interleaved": False,
        "rotary_emb_scale_base": None,
        "type_vocab_size": config.type_vocab_size,
        "vocab_size": config.vocab_size,
    }
    (directory / "config.json").write_text(json.dumps(nomic))
