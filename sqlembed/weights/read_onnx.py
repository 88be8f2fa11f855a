"""Read a BERT cross-encoder from ONNX, plain or dynamically quantized to 8 bits.

An export keeps biases under their own names but calls linear weights
``onnx::MatMul_983``, transposed, so those are found by the graph: a node's path
(``/bert/encoder/layer.0/output/dense/MatMul_quant``) is the module's name.
"""

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sqlembed.errors import ModelError, ModelFileError
from sqlembed.weights.checkpoint import (
    POSITIONS,
    SEGMENTS,
    WORDS,
    Architecture,
    Checkpoint,
    Floats,
    checked,
)
from sqlembed.weights.read_safetensors import hub_name

QUANTIZED = "_quantized"
PRODUCTS = ("MatMul", "MatMulInteger", "Gemm")
HEADS = re.compile(r"/encoder/layer\.0/attention/self/.*Concat")
EPSILON = re.compile(r"/encoder/layer\.0/output/LayerNorm/Add$")
LAYER_BIAS = "encoder.layer.{}.output.dense.bias"


def read(path: Path) -> Checkpoint:
    """Read the cross-encoder at *path*, with the tokenizer.json beside it.

    The tokenizer is in the same directory, or in its only subdirectory that has one.
    Labels have no names in ONNX: they are ``LABEL_0``, ``LABEL_1`` and so on.

    :raises ModelError: the ``onnx`` package is missing, or this is not a BERT cross-encoder
    :raises ModelFileError: the file is truncated or not ONNX
    """
    try:
        import onnx
        from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
    except ImportError as error:
        raise ModelError(
            f"reading {path.name} needs the onnx package: pip install 'sqlembed[onnx]'"
        ) from error
    try:
        graph = onnx.load(path, load_external_data=False).graph
        stored = {t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer}
        constants = _constants(graph, onnx.numpy_helper.to_array)
    except (DecodeError, ValueError) as error:
        raise ModelFileError(f"{path} is truncated or not ONNX ({error})") from error
    tensors = _tensors(graph, stored)
    for name in (WORDS, POSITIONS, SEGMENTS, "classifier.bias"):
        if name not in tensors:
            raise ModelError(f"{path} has no {name}; only BERT cross-encoders are read from ONNX")
    checkpoint = Checkpoint(
        architecture=_architecture(graph, constants, tensors, path),
        tensors=tensors,
        tokenizer=_tokenizer(path).read_text(encoding="utf-8"),
        pooling="rank",
        labels=tuple(f"LABEL_{n}" for n in range(len(tensors["classifier.bias"]))),
    )
    return checked(checkpoint, str(path))


def _constants(graph: Any, to_array: Any) -> dict[str, npt.NDArray[Any]]:
    """What each Constant node gives, by the name of its output."""
    return {
        node.output[0]: to_array(node.attribute[0].t)
        for node in graph.node
        if node.op_type == "Constant" and node.attribute[0].name == "value"
    }


def _tensors(graph: Any, stored: dict[str, npt.NDArray[Any]]) -> dict[str, Floats]:
    """Every weight under BertModel's name for it, as float32 of shape (out, in)."""
    tensors = {}
    for name in stored:
        if not name.startswith("onnx::") and not name.endswith(("_scale", "_zero_point")):
            tensors[hub_name(name.removesuffix(QUANTIZED))] = _floats(stored, name)
    # The classifier and pooler keep their names, and an export by Gemm their orientation.
    for node in graph.node:
        if node.op_type not in PRODUCTS:
            continue
        weight = next(
            (name for name in node.input if name in stored and stored[name].ndim == 2), None
        )
        if weight is None:
            continue
        transposed = any(a.name == "transB" and a.i for a in node.attribute)
        floats = _floats(stored, weight)
        module = node.name.rpartition("/")[0].strip("/").replace("/", ".")
        tensors[f"{hub_name(module)}.weight"] = floats if transposed else floats.T.copy()
    return tensors


def _floats(stored: dict[str, npt.NDArray[Any]], name: str) -> Floats:
    """The weights that *name* stands for: (integer - zero point) * scale."""
    if not name.endswith(QUANTIZED):
        plain: Floats = stored[name].astype(np.float32)
        return plain
    base = name.removesuffix(QUANTIZED)
    steps = stored[name].astype(np.int32) - stored[f"{base}_zero_point"].astype(np.int32)
    floats: Floats = (steps * stored[f"{base}_scale"]).astype(np.float32)
    return floats


def _architecture(
    graph: Any, constants: dict[str, npt.NDArray[Any]], tensors: dict[str, Floats], path: Path
) -> Architecture:
    vocabulary, width = tensors[WORDS].shape
    layers = 0
    while LAYER_BIAS.format(layers) in tensors:
        layers += 1
    if not layers:
        raise ModelError(f"{path} has no layer called encoder.layer.0; it is not a BERT")
    heads = epsilon = None
    for node in graph.node:
        given = [constants[name] for name in node.input if name in constants]
        if EPSILON.search(node.name) and len(given) == 1:
            # 9.999999960041972e-13 is how float32 has 1e-12
            epsilon = float(f"{given[0].item():.6g}")
        if HEADS.search(node.name) and len(given) == 2:
            heads = int(given[0].item())
    if heads is None or epsilon is None or width % heads:
        raise ModelError(
            f"{path}: the number of attention heads or the layer norm's epsilon is not where"
            " PyTorch's exporter puts them"
        )
    return Architecture(
        layers=layers,
        heads=heads,
        width=width,
        inner=math.prod(tensors["encoder.layer.0.intermediate.dense.bias"].shape),
        vocabulary=vocabulary,
        positions=len(tensors[POSITIONS]),
        segments=len(tensors[SEGMENTS]),
        epsilon=epsilon,
    )


def _tokenizer(path: Path) -> Path:
    beside = path.parent / "tokenizer.json"
    if beside.is_file():
        return beside
    below = sorted(path.parent.glob("*/tokenizer.json"))
    if len(below) == 1:
        return below[0]
    found = ", ".join(str(p.relative_to(path.parent)) for p in below) or "none"
    raise ModelError(f"{path} needs its tokenizer.json beside it; in subdirectories: {found}")
