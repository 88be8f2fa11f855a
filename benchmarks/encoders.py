"""Time a peer in the peers' environment: a line in, a round, its seconds out.

Imports nothing of sqlembed: that is not installed there.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

BATCH = 32
"""sentence-transformers' own default."""
ONNX_BATCH = 8
"""The fastest of 1, 2, 4 and so on to 64."""
MOST_TOKENS = 256
"""What sentence-transformers cuts a text to, by the default model's own settings."""

Vectors = npt.NDArray[np.float32]
Encode = Callable[[list[str]], Vectors]


def main(peer: str, model: str, texts_file: str, vectors_file: str) -> None:
    """Encode the texts of *texts_file* for each line that comes, and keep their vectors."""
    texts: list[str] = json.loads(Path(texts_file).read_text(encoding="utf-8"))
    encode = PEERS[peer](Path(model))
    encode(texts[:BATCH])
    for _ in sys.stdin:
        begun = time.perf_counter()
        vectors = encode(texts)
        taken = time.perf_counter() - begun
        np.save(vectors_file, vectors)
        print(taken, flush=True)


def sentence_transformers(model: Path) -> Encode:
    """sentence-transformers, as it comes."""
    from sentence_transformers import SentenceTransformer

    encoder = SentenceTransformer(str(model), device="cpu")
    return lambda texts: encoder.encode(texts, batch_size=BATCH, normalize_embeddings=True)


def onnxruntime(model: Path) -> Encode:
    """The graph that ``export_onnx.py`` made.

    As in sentence-transformers, texts of like length share a batch, and the hidden states are
    averaged over each text's own tokens.
    """
    from onnxruntime import InferenceSession
    from tokenizers import Tokenizer

    session = InferenceSession(model / "model.onnx", providers=["CPUExecutionProvider"])
    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    tokenizer.enable_truncation(MOST_TOKENS)
    tokenizer.enable_padding()

    def encode(texts: list[str]) -> Vectors:
        longest_first = sorted(range(len(texts)), key=lambda at: -len(texts[at]))
        vectors = np.empty((len(texts), session.get_outputs()[0].shape[-1]), dtype=np.float32)
        for begin in range(0, len(texts), ONNX_BATCH):
            batch = longest_first[begin : begin + ONNX_BATCH]
            encoded = tokenizer.encode_batch([texts[at] for at in batch])
            ids = np.array([each.ids for each in encoded])
            mask = np.array([each.attention_mask for each in encoded])
            given = {"ids": ids, "mask": mask, "segments": np.zeros_like(ids)}
            (hidden,) = session.run(None, given)
            # A mean made a unit vector is the sum made one.
            sums = np.einsum("btd,bt->bd", hidden, mask.astype(np.float32))
            vectors[batch] = sums / np.linalg.norm(sums, axis=1, keepdims=True)
        return vectors

    return encode


PEERS: dict[str, Callable[[Path], Encode]] = {
    "sentence-transformers": sentence_transformers,
    "onnxruntime": onnxruntime,
}

if __name__ == "__main__":
    main(*sys.argv[1:])
