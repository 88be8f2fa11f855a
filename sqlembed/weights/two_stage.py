"""Turn a model of two stages, jxm/cde-small-v1's kind, into two GGUFs and the layers between them.

The hub's directory has both in one file of weights: a nomic-bert that makes a vector of each text
of a sample, and one that reads these vectors and then a text.
"""

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from sqlembed.errors import ModelError, ModelFileError
from sqlembed.weights import beside, nomic_file
from sqlembed.weights.checkpoint import Floats
from sqlembed.weights.nomic_file import Shape
from sqlembed.weights.quantize import K_QUANTS, quantize
from sqlembed.weights.read_safetensors import tokenizer_of

CONFIG, WEIGHTS = "config.json", "model.safetensors"
KIND = "transductive"
"""What config.json calls the architecture."""
BACKBONE = "nomic-ai/nomic-bert-2048"
SAMPLE = "sqlembed.corpus_sample"
"""The metadata key of how many texts a sample has, which the second stage was trained for."""
FIRST, SECOND = "first_stage_model.", "second_stage_model."
FIRST_BACKBONE, SECOND_BACKBONE = f"{FIRST}embedder.", f"{SECOND}backbone."
MLPS = {"first": f"{FIRST}mlp.", "output": f"{SECOND}output_projection."}
PROMPT = f"{SECOND}prompt_projection."
LAYERS = [f"{number}.{part}" for number in (0, 2) for part in ("weight", "bias")]
"""Of two linear layers with an activation between, which is 1."""
SOFT = "soft"
"""What stands between a sample's vectors and a text: rows that are the same for all."""
SETTINGS = {
    "heads": "n_head",
    "base": "rotary_emb_base",
    "epsilon": "layer_norm_epsilon",
    "positions": "n_positions",
}
"""What config.json may say of the transformers, where they are not nomic-bert-2048's."""


def is_two_stage(source: Path) -> bool:
    """Whether *source* is the directory of such a model."""
    return bool(source.is_dir() and _config(source).get("architecture") == KIND)


def convert(source: Path, target: Path, file_type: str) -> None:
    """Write the second stage to *target*, and what belongs to it beside.

    :param file_type: as for :func:`sqlembed.weights.convert.convert`
    :raises ModelError: a file or a tensor is missing, or it is of another kind
    :raises ModelFileError: the weights are truncated
    """
    config = _config(source)
    stage = _Stages(_shape(config, source), _sample(config, source), tokenizer_of(source))
    stage.write(
        _tensors(source / WEIGHTS, FIRST_BACKBONE), beside.path(target, beside.FIRST), file_type
    )
    stage.write(_tensors(source / WEIGHTS, SECOND_BACKBONE), target, file_type)
    save_file(_between(source / WEIGHTS), beside.path(target, beside.STAGES))


class _Stages(NamedTuple):
    """What both stages have in common."""

    shape: Shape
    sample: int
    tokenizer: str

    def write(self, tensors: Mapping[str, Floats], target: Path, file_type: str) -> None:
        """Write one of them as a GGUF."""
        if file_type not in K_QUANTS:
            self._write(tensors, target, file_type, target.stem)
            return
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.stem}.") as work:
            exact = Path(work) / "exact.gguf"
            self._write(tensors, exact, "f32", target.stem)
            quantize(exact, target, file_type)

    def _write(
        self, tensors: Mapping[str, Floats], target: Path, file_type: str, name: str
    ) -> None:
        numbers = {SAMPLE: self.sample}
        nomic_file.write(tensors, self.shape, self.tokenizer, target, file_type, name, numbers)


def _config(source: Path) -> dict[str, Any]:
    try:
        found = json.loads((source / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _shape(config: dict[str, Any], source: Path) -> Shape:
    given = {name: config[key] for name, key in SETTINGS.items() if key in config}
    backbones = {config.get("embedder"), config.get("dataset_backbone") or config.get("embedder")}
    if backbones != {BACKBONE} and len(given) < len(SETTINGS):
        raise ModelError(
            f"{source / CONFIG}: its transformers are {', '.join(map(str, backbones))}; what can be"
            f" converted is {BACKBONE}"
        )
    return Shape(**given)


def _sample(config: dict[str, Any], source: Path) -> int:
    """Texts of a sample; refuses settings with which its authors' code computes otherwise."""
    expected = {
        "transductive_tokens_per_document": 1,
        "disable_transductive_rotary_embedding": True,
        "embedding_output_dim": None,
        "autoregressive_backbone": False,
    }
    for key, value in expected.items():
        if config.get(key, value) != value:
            raise ModelError(
                f"{source / CONFIG}: {key} is {config[key]!r}; only {value!r} is supported"
            )
    return int(config["transductive_corpus_size"])


def _tensors(weights: Path, prefix: str) -> dict[str, Floats]:
    """The tensors whose name begins with *prefix*, without it."""
    try:
        with safe_open(weights, framework="numpy") as stored:
            return {
                name.removeprefix(prefix): stored.get_tensor(name).astype(np.float32)
                for name in stored.keys()  # noqa: SIM118  # it is no dictionary
                if name.startswith(prefix)
            }
    except FileNotFoundError as error:
        raise ModelError(f"{weights.parent} has no {weights.name}") from error
    except SafetensorError as error:
        raise ModelFileError(f"{weights} is truncated or not safetensors ({error})") from error


def _between(weights: Path) -> dict[str, Floats]:
    """The layers after each stage's pooling, and the rows between a sample and a text."""
    made: dict[str, Floats] = {}
    for name, prefix in MLPS.items():
        layers = _mlp(weights, prefix)
        made |= {f"{name}.{part}": layers[part] for part in LAYERS}
    prompt = _mlp(weights, PROMPT)
    ones = np.ones(prompt["0.weight"].shape[1], np.float32)
    inner = np.maximum(prompt["0.weight"] @ ones + prompt["0.bias"], 0)
    rows = prompt["2.weight"] @ inner + prompt["2.bias"]
    return made | {SOFT: np.ascontiguousarray(rows.reshape(-1, len(ones)))}


def _mlp(weights: Path, prefix: str) -> dict[str, Floats]:
    found = _tensors(weights, prefix)
    if sorted(found) != sorted(LAYERS):
        raise ModelError(
            f"{weights} has {', '.join(sorted(found)) or 'nothing'} below {prefix}; expected are"
            f" {', '.join(LAYERS)}"
        )
    return found
