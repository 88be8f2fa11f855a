"""Tables of static vectors small enough for a test, in the forms in which they are met."""

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from sqlembed.weights import receipt
from sqlembed.weights.convert import convert

WORDS = ["the", "king", "queen", "man", "woman", "it", "'s", "do", "n't", "a", ".", "u.s.", "10:30"]
WIDTH = 32
MANIFEST = """
name = "{name}"
summary = "For tests"
kind = "embedder"
architecture = "static"
dimension = 32
context = {context}
pooling = "{pooling}"
licence = "none"
homepage = "none"
"""


def rows(count: int, seed: int = 5) -> npt.NDArray[np.float32]:
    """Seeded vectors."""
    return np.random.default_rng(seed).normal(size=(count, WIDTH)).astype(np.float32)


def glove_text(path: Path) -> Path:
    """GloVe's own form."""
    lines = [
        " ".join([word, *(repr(float(number)) for number in row)])
        for word, row in zip(WORDS, rows(len(WORDS)), strict=True)
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "the", "red", "fox", "sleeps", "##s", "##y", "!", "b"]


def model2vec(directory: Path, *, weights: bool = False, mapping: bool = False) -> Path:
    """A directory as model2vec saves it, its tokenizer one that adds start and end tokens."""
    directory.mkdir(parents=True, exist_ok=True)
    ids = {piece: number for number, piece in enumerate(PIECES)}
    tokenizer = Tokenizer(models.WordPiece(ids, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.add_special_tokens(PIECES[:4])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.save(str(directory / "tokenizer.json"))
    tensors = {"embeddings": rows(5 if mapping else len(PIECES))}
    if weights:
        tensors["weights"] = np.log(np.arange(len(PIECES)) + 1.5).astype(np.float32)
    if mapping:
        tensors["mapping"] = (np.arange(len(PIECES)) % 5).astype(np.int64)
    save_file(tensors, directory / "model.safetensors")
    config = {"model_type": "model2vec", "normalize": True, "apply_zipf": True}
    (directory / "config.json").write_text(json.dumps(config))
    return directory


def install(
    name: str, source: Path, file_type: str = "f32", *, context: int = 64, pooling: str = "mean"
) -> Path:
    """Convert *source* to where models are looked for, with a manifest and a receipt."""
    path = receipt.gguf_path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    convert(source, path, file_type)
    text = MANIFEST.format(name=name, context=context, pooling=pooling)
    path.with_suffix(".toml").write_text(text, encoding="utf-8")
    receipt.write_receipt(name, receipt.make_receipt(path, file_type, "tests"))
    return path


def unit(vector: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """At unit length."""
    return vector / np.linalg.norm(vector)
