"""How a model is computed on this machine: by which arithmetic, in batches of how many tokens.

``sqlembed doctor --tune`` measures both, and keeps what was fastest in ``computing.json`` of the
data directory. Until then ``bert.py`` computes what it can, and llama.cpp all else.
"""

import json
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from sqlembed import settings
from sqlembed.engine import bert
from sqlembed.engine.bert import Bert
from sqlembed.engine.llama import kernels, on_gpu
from sqlembed.engine.pack import BATCH_TOKENS
from sqlembed.errors import SqlembedError
from sqlembed.settings import Arithmetic
from sqlembed.weights import gguf_tensors, receipt
from sqlembed.weights.gguf_tensors import Contents
from sqlembed.weights.manifest import Manifest
from sqlembed.weights.replacing import replacing


@dataclass(frozen=True)
class Way:
    """One way to compute a model."""

    arithmetic: Arithmetic = "own"
    batch_tokens: int = BATCH_TOKENS


def way(name: str) -> Way:
    """How the model *name* is computed here."""
    found = Way()
    try:
        kept = _kept()[name]
        if kept["for"] == _machine(name):
            found = Way(**kept["way"])
    except (TypeError, KeyError, SqlembedError):
        pass  # nothing was measured, or by another version, or the weights are gone
    return Way(settings.arithmetic() or found.arithmetic, found.batch_tokens)


def keep(name: str, found: Way) -> None:
    """Compute the model *name* so from now on, on this machine and with these weights."""
    kept = _kept() | {name: {"for": _machine(name), "way": asdict(found)}}
    with replacing(_path()) as partial:
        partial.write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")


def own_contents(manifest: Manifest, path: Path) -> Contents | None:
    """The tensors of the model at *path*, if our own arithmetic computes it, and not llama.cpp."""
    if manifest.architecture not in bert.KINDS or way(manifest.base).arithmetic != "own":
        return None
    return None if reason_against(manifest, path) else gguf_tensors.read(path)


def own_bert(manifest: Manifest, path: Path) -> Bert | None:
    """The model at *path* for our own arithmetic, if that computes it."""
    contents = own_contents(manifest, path)
    return Bert(contents) if contents else None


def reason_against(manifest: Manifest, path: Path) -> str | None:
    """Why our own arithmetic cannot compute the model at *path*; None if it can."""
    if manifest.architecture not in bert.KINDS:
        return f"it is of the architecture {manifest.architecture}"
    if manifest.attention == "causal":
        return "its attention is causal"
    if on_gpu():
        return "llama.cpp was built for a GPU"
    contents = gguf_tensors.read(path)
    if bert.architecture_of(contents) != manifest.architecture:
        return "its weights are of another architecture"
    return bert.reason_against(contents, rank=manifest.pooling == "rank")


def _path() -> Path:
    return settings.data_directory() / "computing.json"


def _kept() -> dict[str, Any]:
    try:
        kept = json.loads(_path().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return kept if isinstance(kept, dict) else {}


def _machine(name: str) -> str:
    """What a measurement holds for: the processor, who uses it, and the weights."""
    facts = (kernels(), str(bert.lanes()), str(settings.threads()), receipt.recorded(name))
    return sha256("\n".join(facts).encode()).hexdigest()
