"""Make the probes of a manifest: what the reference implementation gives for a few texts.

Run from the repository's root where torch, transformers and sentence-transformers are
installed beside sqlembed's own dependencies::

    python -m benchmarks.make_probes NAME SOURCE

SOURCE is the directory or file that the weights came from. It is read by our readers,
so quantized weights are dequantized first, and given to transformers as float32; a
directory of safetensors goes to sentence-transformers unread by us. Replaces the
probes at the end of ``models/NAME.toml``.
"""

import base64
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors.numpy import save_file
from tokenizers import Tokenizer
from transformers import BertConfig, BertForSequenceClassification, BertModel

from sqlembed.weights.checkpoint import Checkpoint, shapes
from sqlembed.weights.convert import read
from sqlembed.weights.manifest import Manifest, load

TEXTS = (
    ("document", "Are we still meeting for dinner at eight?"),
    ("document", "Der Zug nach München hat heute eine Stunde Verspätung."),
    ("document", "Happy birthday!!! 🎂🎉 see u l8r 😘"),
    (
        "document",
        "The first public draft of the treaty, circulated late on Thursday, asks each of the"
        " nineteen coastal states to publish its catches by species and month; the two that had"
        " opposed the clause abstained, and the vote on the final text was put off until spring.",
    ),
    ("query", "when does the train leave"),
    ("query", "नमस्ते, आप कैसे हैं? 안녕하세요"),
)
PAIRS = (
    ("how do I restart the router", "Hold the power button of the router for ten seconds."),
    ("how do I restart the router", "The recipe needs two eggs and a cup of flour."),
    ("is the shop open on Sunday", "The shop is closed on Sundays."),
    ("Where was Marie Curie born?", "Marie Curie was born in Warsaw in 1867 🎓."),
)


def main(name: str, source: Path) -> None:
    """Write the probes of the model called *name* into its manifest."""
    path = Path("models") / f"{name}.toml"
    manifest = load(path)
    head = path.read_text(encoding="utf-8").partition("\n[[probe]]")[0].rstrip("\n")
    blocks = (
        rerank_probes(manifest, source) if manifest.kind == "reranker" else probes(manifest, source)
    )
    path.write_text("\n\n".join([head, *blocks]) + "\n", encoding="utf-8")


def probes(manifest: Manifest, source: Path) -> list[str]:
    """An embedder's probes, as TOML; query texts only where queries have a prompt."""
    texts = [(r, t) for r, t in TEXTS if r == "document" or manifest.prompts]
    vectors = reference_vectors(
        manifest, source, [manifest.prompts.get(r, "") + t for r, t in texts]
    )
    return [
        f"[[probe]]\nrole = {quoted(role)}\ntext = {quoted(text)}\n"
        f"vector = {quoted(packed(vector))}"
        for (role, text), vector in zip(texts, vectors, strict=True)
    ]


def rerank_probes(manifest: Manifest, source: Path) -> list[str]:
    """A cross-encoder's probes, as TOML."""
    scores = reference_scores(read(source), PAIRS)[:, manifest.positive]
    return [
        f"[[probe]]\ntext = {quoted(query)}\ndocument = {quoted(document)}\nscore = {score:.6f}"
        for (query, document), score in zip(PAIRS, scores, strict=True)
    ]


def reference_vectors(
    manifest: Manifest, source: Path, texts: list[str]
) -> npt.NDArray[np.float32]:
    """The unit vectors of *texts*, prompts already in front, of shape (n, dimension)."""
    if (source / "modules.json").is_file():
        from sentence_transformers import SentenceTransformer

        encoder = SentenceTransformer(str(source), device="cpu")
        return np.asarray(encoder.encode(texts, normalize_embeddings=True))
    checkpoint = read(source)
    model = bert(checkpoint, BertModel)
    tokenizer = Tokenizer.from_str(checkpoint.tokenizer)
    rows = []
    for text in texts:
        ids = torch.tensor([tokenizer.encode(text).ids])
        with torch.no_grad():
            hidden = model(input_ids=ids).last_hidden_state[0]
        pooled = hidden.mean(0) if manifest.pooling == "mean" else hidden[0]
        rows.append((pooled / pooled.norm()).numpy())
    return np.stack(rows)


def reference_scores(
    checkpoint: Checkpoint, pairs: tuple[tuple[str, str], ...]
) -> npt.NDArray[np.float32]:
    """The softmax over the labels of each pair, of shape (n, labels)."""
    model = bert(checkpoint, BertForSequenceClassification)
    tokenizer = Tokenizer.from_str(checkpoint.tokenizer)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    rows = []
    for query, document in pairs:
        encoding = tokenizer.encode(query, document)
        with torch.no_grad():
            logits = model(
                input_ids=torch.tensor([encoding.ids]),
                token_type_ids=torch.tensor([encoding.type_ids]),
            ).logits[0]
        rows.append(torch.softmax(logits, 0).numpy())
    return np.stack(rows)


def bert(checkpoint: Checkpoint, kind: type) -> torch.nn.Module:
    """A transformers model with the checkpoint's weights, ready to run."""
    a = checkpoint.architecture
    config = BertConfig(
        architectures=[kind.__name__],
        vocab_size=a.vocabulary,
        hidden_size=a.width,
        num_hidden_layers=a.layers,
        num_attention_heads=a.heads,
        intermediate_size=a.inner,
        max_position_embeddings=a.positions,
        type_vocab_size=a.segments,
        layer_norm_eps=a.epsilon,
        num_labels=max(1, len(checkpoint.labels)),
    )
    prefix = "bert." if checkpoint.labels else ""
    names = shapes(a, len(checkpoint.labels))
    with tempfile.TemporaryDirectory() as directory:
        config.save_pretrained(directory)
        save_file(
            {
                name if name.startswith("classifier") else prefix + name: checkpoint.floats(name)
                for name in names
            },
            Path(directory) / "model.safetensors",
            metadata={"format": "pt"},
        )
        model: torch.nn.Module = kind.from_pretrained(directory, dtype=torch.float32)  # type: ignore[attr-defined]
    return model.eval()


def packed(vector: npt.NDArray[np.float32]) -> str:
    """*vector* as base64 of little-endian float16."""
    return base64.b64encode(vector.astype("<f2").tobytes()).decode()


def quoted(text: str) -> str:
    """*text* as a TOML string."""
    return json.dumps(text, ensure_ascii=False)


if __name__ == "__main__":
    torch.set_num_threads(2)
    main(sys.argv[1], Path(sys.argv[2]))
