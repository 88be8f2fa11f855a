"""The default model gives its reference's token ids and vectors, alone and in any batch."""

import json
import random
from base64 import b64decode
from pathlib import Path

import gguf
import numpy as np
import pytest

from sqlembed.engine.local import LocalEngine
from sqlembed.engine.model import Model
from sqlembed.errors import TextTooLongError
from sqlembed.weights import manifest, receipt

pytestmark = pytest.mark.model

NAME = "all-MiniLM-L6-v2"
CASES = json.loads(Path(__file__).with_name(f"{NAME}.json").read_text())
TEXTS = [case["text"] for case in CASES]
REFERENCE = np.array(
    [np.frombuffer(b64decode(case["vector"]), "<f2") for case in CASES], dtype=np.float32
)
REFERENCE /= np.linalg.norm(REFERENCE, axis=1, keepdims=True)
BATCH_COSINE = 0.99999
"""How near a text's vector alone is to its vector in a batch; nobody can promise equal bits."""


def embed(engine: LocalEngine, texts: list[str]) -> np.ndarray:
    with engine.library.use(NAME) as model:
        return model.embed(texts, "document")


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a * b).sum(axis=1)


def test_token_ids_are_identical(real_engine: LocalEngine) -> None:
    with real_engine.library.use(NAME) as model:
        ids = [found.tolist() for found in model._tokens(TEXTS, "document")]
    for case, found in zip(CASES, ids, strict=True):
        assert found == case["ids"], case["text"]


def test_vectors_are_the_references(real_engine: LocalEngine) -> None:
    found = cosines(embed(real_engine, TEXTS), REFERENCE)
    for case, cosine in zip(CASES, found, strict=True):
        assert cosine >= 0.9999, case["text"]


def test_a_vector_does_not_depend_on_its_company(real_engine: LocalEngine) -> None:
    alone = np.concatenate([embed(real_engine, [text]) for text in TEXTS])
    shuffled = random.Random(7).sample(range(len(TEXTS)), len(TEXTS))
    together = embed(real_engine, [TEXTS[n] for n in shuffled])
    assert cosines(alone[shuffled], together).min() >= BATCH_COSINE


def test_the_limit_is_exact(real_engine: LocalEngine) -> None:
    longest = "word " * 254
    assert real_engine.token_count([longest], NAME) == [256]
    assert len(embed(real_engine, [longest])) == 1
    with pytest.raises(TextTooLongError, match="has 257 tokens, and all-MiniLM-L6-v2 reads 256"):
        embed(real_engine, [longest + "word"])


def test_eight_bit_weights_stay_near(tmp_path: Path) -> None:
    target = tmp_path / "q8_0.gguf"
    quantize(receipt.gguf_path(NAME), target)
    model = Model(manifest.find(NAME), target)
    assert cosines(model.embed(TEXTS, "document"), REFERENCE).min() >= 0.998
    model.close()


def quantize(source: Path, target: Path) -> None:
    """Rewrite a GGUF's matrices in q8_0."""
    reader = gguf.GGUFReader(source)
    architecture = reader.fields["general.architecture"].contents()
    writer = gguf.GGUFWriter(target, architecture)
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name == "general.architecture":
            continue
        kinds = field.types
        sub = kinds[-1] if kinds[0] == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(name, field.contents(), kinds[0], sub_type=sub)
    for tensor in reader.tensors:
        data = tensor.data
        if tensor.tensor_type == gguf.GGMLQuantizationType.F16:
            kind = gguf.GGMLQuantizationType.Q8_0
            writer.add_tensor(
                tensor.name, gguf.quantize(data.astype(np.float32), kind), raw_dtype=kind
            )
        else:
            writer.add_tensor(tensor.name, data)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
