"""Try a model's probes: it has to give what its reference gives."""

from collections.abc import Sequence
from typing import Protocol

from sqlembed.engine.pooling import Vector, Vectors, unit
from sqlembed.errors import ProbeError
from sqlembed.weights.manifest import Manifest, Probe, Role

PROBE_COSINE = 0.98
"""How near a probe's vector must be to the reference's. Wrong pooling, prompts or
segment ids fall far below it; 4-bit weights stay above."""
PROBE_SCORE = 0.05
"""How far a probe's score may be from the reference's, of 0 to 1."""


class Probed(Protocol):
    """What is tried of a model."""

    manifest: Manifest

    def embed(self, texts: Sequence[str], role: Role) -> Vectors:
        """The unit vector of each text."""

    def score(self, query: str, documents: Sequence[str]) -> list[float]:
        """The score of each document."""


def check(model: Probed, to_blame: str) -> None:
    """Try every probe of *model*'s manifest.

    :param to_blame: what may be wrong, for the message
    :raises ProbeError: it gives other vectors or scores than the reference
    """
    for probe in model.manifest.probes:
        if probe.vector is not None:
            vector = model.embed([probe.text], probe.role)[0]
            check_vector(model.manifest, probe, probe.vector, vector, to_blame)
        elif probe.document is not None and probe.score is not None:
            score = model.score(probe.text, [probe.document])[0]
            if abs(score - probe.score) > PROBE_SCORE:
                came, expected = f"score {score:.3f}", f"{probe.score:.3f}"
                raise _off(model.manifest, probe, came, expected, to_blame)


def check_vector(
    manifest: Manifest, probe: Probe, reference: Vector, vector: Vector, to_blame: str
) -> None:
    """See that *vector* is near to *reference*; *vector* has unit length.

    :raises ProbeError: it is not
    """
    cosine = float(vector @ unit(reference))
    if cosine < PROBE_COSINE:
        came, expected = f"cosine {cosine:.4f}", f"at least {PROBE_COSINE}"
        raise _off(manifest, probe, came, expected, to_blame)


def _off(manifest: Manifest, probe: Probe, came: str, expected: str, to_blame: str) -> ProbeError:
    return ProbeError(
        f"{manifest.name} gives other results than its reference: for the {probe.role}"
        f" {probe.text[:40]!r} {came}, expected {expected}. {to_blame}"
    )
