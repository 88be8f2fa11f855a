"""Read a sentence-transformers or Hugging Face BERT directory: config.json, model.safetensors."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from sqlembed.errors import ModelError, ModelFileError
from sqlembed.weights.checkpoint import Architecture, Checkpoint, Floats, Pooling, checked

WEIGHTS = "model.safetensors"
EMBEDDER = "BertModel"
CROSS_ENCODER = "BertForSequenceClassification"
POOLINGS: dict[str, Pooling] = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "mean": "mean",
    "cls": "cls",
}
"""What sentence-transformers calls each pooling: in older files by a key, since 6 by a value."""
ALLOWED_MODULES = {"Transformer", "Pooling", "Normalize"}


def read(directory: Path) -> Checkpoint:
    """Read the model in *directory*.

    Needs config.json and model.safetensors, with tokenizer.json or vocab.txt; reads
    1_Pooling/config.json where there is one (a plain BERT is pooled by the mean, as
    sentence-transformers does).

    :raises ModelError: another architecture, or a file or tensor is missing
    :raises ModelFileError: model.safetensors is truncated or not one
    """
    config = _json(directory / "config.json")
    labels = _labels(config, directory)
    checkpoint = Checkpoint(
        architecture=_architecture(config, directory),
        tensors=_tensors(directory / WEIGHTS),
        tokenizer=tokenizer_of(directory),
        pooling="rank" if labels else _pooling(directory),
        labels=labels,
    )
    return checked(checkpoint, str(directory / WEIGHTS))


def _json(path: Path) -> dict[str, Any]:
    try:
        loaded = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ModelError(
            f"{path.parent} has no {path.name}; a model's directory has one"
        ) from error
    except ValueError as error:
        raise ModelFileError(f"{path} is not JSON: {error}") from error
    if not isinstance(loaded, dict):
        raise ModelFileError(f"{path} holds a {type(loaded).__name__}, expected an object")
    return loaded


def _architecture(config: dict[str, Any], directory: Path) -> Architecture:
    try:
        return Architecture(
            layers=config["num_hidden_layers"],
            heads=config["num_attention_heads"],
            width=config["hidden_size"],
            inner=config["intermediate_size"],
            vocabulary=config["vocab_size"],
            positions=config["max_position_embeddings"],
            segments=config["type_vocab_size"],
            epsilon=config["layer_norm_eps"],
        )
    except KeyError as error:
        raise ModelError(
            f"{directory}/config.json lacks {error}, which every BERT's has"
        ) from error


def _labels(config: dict[str, Any], directory: Path) -> tuple[str, ...]:
    """The classifier's labels, none for an embedder; refuses what llama.cpp would get wrong."""
    architecture = (config.get("architectures") or [config.get("model_type", "unnamed")])[0]
    if config.get("model_type") != "bert" or architecture not in (EMBEDDER, CROSS_ENCODER):
        raise ModelError(
            f"{directory} holds a {architecture} (model_type {config.get('model_type')!r});"
            f" what can be converted is {EMBEDDER} and {CROSS_ENCODER}"
        )
    for key, expected in (("hidden_act", "gelu"), ("position_embedding_type", "absolute")):
        if config.get(key, expected) != expected:
            raise ModelError(
                f"{directory}/config.json: {key} is {config[key]!r}; only {expected!r} is supported"
            )
    if architecture == EMBEDDER:
        return ()
    named = config.get("id2label") or {"0": "LABEL_0", "1": "LABEL_1"}
    return tuple(named[number] for number in sorted(named, key=int))


def _tensors(path: Path) -> dict[str, Floats]:
    try:
        stored = load_file(path)
    except FileNotFoundError as error:
        raise ModelError(f"{path.parent} has no {path.name}; only safetensors are read") from error
    except SafetensorError as error:
        raise ModelFileError(f"{path} is truncated or not safetensors ({error})") from error
    return {hub_name(name): tensor.astype(np.float32) for name, tensor in stored.items()}


def hub_name(name: str) -> str:
    """*name* as BertModel has it today: no ``bert.``; ``gamma`` and ``beta`` are old names."""
    name = name.removeprefix("bert.")
    return name.replace("LayerNorm.gamma", "LayerNorm.weight").replace(
        "LayerNorm.beta", "LayerNorm.bias"
    )


def _pooling(directory: Path) -> Pooling:
    modules = directory / "modules.json"
    if modules.is_file():
        kinds = {m["type"].rpartition(".")[2] for m in json.loads(modules.read_text("utf-8"))}
        if unknown := kinds - ALLOWED_MODULES:
            raise ModelError(
                f"{modules} names {', '.join(sorted(unknown))} after the transformer,"
                f" which would be lost; supported are {', '.join(sorted(ALLOWED_MODULES))}"
            )
    path = directory / "1_Pooling" / "config.json"
    if not path.is_file():
        return "mean"
    config = _json(path)
    if not config.get("include_prompt", True):
        raise ModelError(f"{path} leaves the prompt out of the pooling, which is not supported")
    modes = [key for key, value in config.items() if key.startswith("pooling_mode_") and value]
    modes = [config["pooling_mode"]] if "pooling_mode" in config else modes
    if len(modes) != 1 or modes[0] not in POOLINGS:
        raise ModelError(
            f"{path} asks for {' and '.join(modes) or 'no pooling'}; supported is one of"
            f" {', '.join(POOLINGS)}"
        )
    return POOLINGS[modes[0]]


def tokenizer_of(directory: Path) -> str:
    """The text of a model's tokenizer.json, made of its vocab.txt if there is none.

    :raises ModelError: it has neither
    """
    path = directory / "tokenizer.json"
    if path.is_file():
        return path.read_text(encoding="utf-8")
    vocabulary = directory / "vocab.txt"
    if not vocabulary.is_file():
        raise ModelError(f"{directory} has neither tokenizer.json nor vocab.txt")
    config = directory / "tokenizer_config.json"
    return word_piece(vocabulary, _json(config) if config.is_file() else {})


def word_piece(vocabulary: Path, config: Mapping[str, Any]) -> str:
    """The tokenizer.json of a BERT that comes with a vocab.txt only.

    :param config: its tokenizer_config.json; what it does not say is as in BertTokenizer
    """
    pieces = vocabulary.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    ids = {piece: number for number, piece in enumerate(pieces)}
    unknown = [special for special in ("[UNK]", "[CLS]", "[SEP]") if special not in ids]
    if unknown:
        raise ModelError(f"{vocabulary} lacks {', '.join(unknown)}; it is not BERT's")
    tokenizer = Tokenizer(models.WordPiece(ids, unk_token="[UNK]", max_input_chars_per_word=100))
    tokenizer.normalizer = normalizers.BertNormalizer(
        lowercase=config.get("do_lower_case", True),
        strip_accents=config.get("strip_accents"),
        handle_chinese_chars=config.get("tokenize_chinese_chars", True),
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.add_special_tokens(
        [s for s in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]") if s in ids]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(special, ids[special]) for special in ("[CLS]", "[SEP]")],
    )
    return str(tokenizer.to_str())
