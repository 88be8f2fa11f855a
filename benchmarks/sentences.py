"""Time sentence-transformers in the peers' environment: a line in, a round, its seconds out.

Imports nothing of sqlembed: that is not installed there.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
from sentence_transformers import SentenceTransformer

BATCH = 32


def main(model: str, texts_file: str, vectors_file: str) -> None:
    """Encode the texts of *texts_file* for each line that comes, and keep their vectors."""
    texts: list[str] = json.loads(Path(texts_file).read_text(encoding="utf-8"))
    encoder = SentenceTransformer(model, device="cpu")
    encoder.encode(texts[:BATCH], batch_size=BATCH)
    for _ in sys.stdin:
        begun = time.perf_counter()
        vectors = encoder.encode(texts, batch_size=BATCH, normalize_embeddings=True)
        taken = time.perf_counter() - begun
        np.save(vectors_file, vectors)
        print(taken, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
