"""What makes two vectors comparable, and the key under which a text's vector is remembered."""

import json
from dataclasses import asdict, dataclass
from functools import cached_property
from hashlib import blake2b, sha256
from typing import Any

import numpy as np
import numpy.typing as npt

from sqlembed.weights.manifest import ROLES, Manifest, Role
from sqlembed.weights.server import Server

KEY_BYTES = 32

TOKENS_FORM = "1"
"""Of late interaction's stored token vectors, and of its scores. To be changed with their bytes,
its formula, or the cuts of long texts: what was stored before is then computed anew."""


@dataclass(frozen=True)
class Space:
    """An embedding space: vectors of one space compare, vectors of two never do."""

    model: str
    dimension: int
    fingerprint: str
    """Hexadecimal SHA-256 of everything that a vector depends on besides its text."""

    @classmethod
    def of(cls, manifest: Manifest, gguf_sha256: str) -> "Space":
        """The space of *manifest*'s settings over the weights with that hash.

        :param gguf_sha256: as a receipt's ``identity`` has it, other files than the GGUF included
        """
        parts = {
            "gguf": gguf_sha256,
            "pooling": manifest.pooling,
            "prompts": {role: manifest.prompt(role) for role in ROLES},
            "dimension": manifest.dimension,
            "context": manifest.context,
        }
        return cls._of(manifest, parts | _unusual(manifest))

    @classmethod
    def at_server(cls, manifest: Manifest, server: Server) -> "Space":
        """The space of a model on a server, whose probes stand for the weights.

        Where the server is, and how it is asked, changes no vector.
        """
        parts = {
            "server": server.model,
            "logits": server.logits,
            "probes": [
                [probe.role, probe.text, probe.document, probe.score, _hex(probe.vector)]
                for probe in manifest.probes
            ],
            "prompts": {role: manifest.prompt(role) for role in ROLES},
            "dimension": manifest.dimension,
            "context": manifest.context,
        }
        return cls._of(manifest, parts | _unusual(manifest))

    @classmethod
    def _of(cls, manifest: Manifest, parts: dict[str, Any]) -> "Space":
        fingerprint = sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
        return cls(manifest.name, manifest.dimension, fingerprint)

    @cached_property
    def _hashes(self) -> dict[str, "blake2b"]:
        parts = {
            "query": ("query",),
            "document": ("document",),
            "task": ("task",),
            "pair": ("pair", TOKENS_FORM),
            "tokens": ("tokens", TOKENS_FORM, "document"),
        }
        return {name: _seed(self.fingerprint, *each) for name, each in parts.items()}

    def key(self, role: Role, text: str) -> bytes:
        """The 256-bit key of *text*'s vector in this space."""
        return _finish(self._hashes[role], text)

    def task_key(self, prompt: str, text: str) -> bytes:
        """The 256-bit key of the vector of *text* behind a task's *prompt*."""
        return _finish(self._hashes["task"], prompt, text)

    def tokens_key(self, document: str) -> bytes:
        """The 256-bit key of *document*'s token vectors in this space."""
        return _finish(self._hashes["tokens"], document)

    def pair_key(self, query: str, document: str) -> bytes:
        """The 256-bit key of the score of *document* for *query*."""
        return _finish(self._hashes["pair"], query, document)


def _unusual(manifest: Manifest) -> dict[str, Any]:
    """Settings that change a vector, where they are not as most models have them.

    What most have is left out, since spaces of indexes were made before these settings were.
    """
    found: dict[str, tuple[Any, Any]] = {
        "attention": (manifest.attention, "bidirectional"),
        "start": (manifest.start, None),
        "end": (manifest.end, None),
        "dense": ([asdict(head) for head in manifest.heads], []),
        "reading": (manifest.reading, None),
        "template": (manifest.template, None),
        "cut": (manifest.is_cut, False),
        "corpus": (_corpus(manifest), None),
        "layer_norm": (manifest.is_cut and manifest.layer_norm, False),
    }
    return {name: value for name, (value, usual) in found.items() if value != usual}


def _corpus(manifest: Manifest) -> list[str | None] | None:
    return [manifest.corpus.arithmetic, manifest.sampled] if manifest.corpus else None


def _hex(vector: npt.NDArray[np.float32] | None) -> str | None:
    return None if vector is None else vector.astype("<f4").tobytes().hex()


def _seed(*parts: str) -> "blake2b":
    return _update(blake2b(digest_size=KEY_BYTES), *parts)


def _finish(seed: "blake2b", *parts: str) -> bytes:
    return _update(seed.copy(), *parts).digest()


def _update(hash_: "blake2b", *parts: str) -> "blake2b":
    # The length in front of each part: ("ab", "c") must not meet ("a", "bc").
    for part in parts:
        data = part.encode("utf-8", "surrogatepass")
        hash_.update(len(data).to_bytes(8, "little"))
        hash_.update(data)
    return hash_
