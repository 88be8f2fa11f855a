"""Say of one model what is proven of it here, what is wrong, and what nobody can tell."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, cast

import numpy as np

from sqlembed.engine.generation import GenerationOptions
from sqlembed.engine.library import of_kind
from sqlembed.engine.memory import AnyGenerator, AnyModel, AnyTwoStage, Resident
from sqlembed.engine.model import Model
from sqlembed.engine.pooling import unit
from sqlembed.engine.probes import PROBE_COSINE, PROBE_SCORE
from sqlembed.engine.tokenize import JSON_KEY
from sqlembed.errors import ModelError
from sqlembed.weights import beside, receipt
from sqlembed.weights.manifest import Manifest, Probe

Verdict = Literal["proven", "wrong", "not proven"]
SAMPLES = ("fox", "See you at eight, then.", "Ein Wort, zwei Wörter.")
"""Texts whose vectors must not depend on the batch that they are computed in."""
WRITTEN_TOKENS = 16
"""Of the answer that a generator must give twice."""
COMPANY_COSINE = 0.9999
"""How near a vector computed alone is to the same in a batch; nobody can promise equal bits."""
SHOWN = 32
"""Characters of a probe's text."""


@dataclass(frozen=True)
class Finding:
    """One thing that can be right or wrong about a model."""

    what: str
    verdict: Verdict
    figure: str
    """What was measured, or why it is not known."""


def verify(manifest: Manifest) -> Iterator[Finding]:
    """Check a model's files, load it, and compare it with its probes.

    Nothing is asked further where the files are wrong or do not load.

    :raises ModelMissingError: it is not on this machine
    """
    if manifest.server is None:
        try:
            path, _ = receipt.verified(manifest.name)
        except ModelError as error:
            if not receipt.is_usable(manifest):
                raise
            yield Finding("file", "wrong", str(error))
            return
        yield from _files(manifest)
    else:
        path = Path()
        yield Finding("file", "not proven", f"on the server {manifest.server.url}")
    try:
        with _loaded(manifest, path) as model:
            if isinstance(model, Model):
                yield from _read(model, path)
            elif manifest.server is None:
                yield _architecture(manifest)
            if manifest.kind == "generator":
                yield from _written(cast(AnyGenerator, model))
            elif manifest.corpus is not None:
                two_stage = cast(AnyTwoStage, model)
                yield from _compared(two_stage.after(manifest, two_stage.sample(SAMPLES)))
            else:
                yield from _compared(cast(AnyModel, model))
    except ModelError as error:
        yield Finding("loading", "wrong", str(error))


@contextmanager
def _loaded(manifest: Manifest, path: Path) -> Iterator[Resident]:
    # Without its probes: a model that fails the first is to be tried with the others as well.
    unprobed = replace(manifest, probes=())
    if manifest.server is None:
        model = of_kind(unprobed)(unprobed, path)
    else:
        from sqlembed.engine.remote import ServerModel  # its HTTP library takes 0.15 seconds

        model = ServerModel(unprobed, unprobed=True)
    try:
        model.manifest = manifest
        yield model
    finally:
        model.close()


def _files(manifest: Manifest) -> Iterator[Finding]:
    found = receipt.read_receipt(manifest.name)
    size = f"{found.bytes / 1e6:.0f} MB, {found.file_type}"
    yield Finding("file", "proven", f"sha256 {found.sha256[:12]} as installed, {size}")
    for kind, sha256 in sorted(found.beside.items()):
        yield Finding(f"{kind} beside it", "proven", f"sha256 {sha256[:12]} as installed")


def _read(model: Model, path: Path) -> Iterator[Finding]:
    """What a model would not have loaded with, had it been otherwise; and how it reads texts."""
    manifest = model.manifest
    yield _architecture(manifest)
    if manifest.dense:
        yield Finding("dense layers", "proven", f"{len(manifest.dense)}, of the right shapes")
    if beside.path(path, beside.TOKENIZER).is_file() or model.metadata(JSON_KEY) is not None:
        yield Finding("token ids", "proven", "by the reference's own tokenizer.json")
    else:
        yield Finding("token ids", "not proven", "by llama.cpp's own tokenizer, from the GGUF")
    for which, token in (("start", manifest.start), ("end", manifest.end)):
        if token is not None:
            yield Finding(f"{which} token", "proven", f"{token} {which}s each text")


def _architecture(manifest: Manifest) -> Finding:
    width = f"{manifest.dimension} numbers, " if manifest.dimension else ""
    shape = f"{manifest.architecture}, {width}{manifest.context} tokens"
    return Finding("architecture", "proven", shape)


def _written(model: AnyGenerator) -> Iterator[Finding]:
    """Whether a generator, which has no probes, gives the same answer twice."""
    options = GenerationOptions(max_tokens=WRITTEN_TOKENS)
    first, second = (model.generate(SAMPLES[1], options, math.inf).text for _ in range(2))
    yield Finding(
        "the same answer twice",
        "proven" if first == second else "wrong",
        f"{first!r}" if first == second else f"{first!r}, then {second!r}",
    )
    yield Finding("what it writes", "not proven", "no probe has what its reference writes")


def _compared(model: AnyModel) -> Iterator[Finding]:
    """What the probes say, and what they do not."""
    manifest = model.manifest
    for probe in manifest.probes:
        yield _probed(model, probe)
    settings = "pooling, attention, prompts and heads"
    if not manifest.probes:
        yield Finding(settings, "not proven", "its manifest has no probes to compare it with")
    elif manifest.kind == "embedder":
        roles = {probe.role for probe in manifest.probes}
        for role, prompt in manifest.prompts.items():
            if prompt and role not in roles:
                yield Finding(f"prompt, {role}", "not proven", "no probe has that role")
    widths = [width for width in manifest.widths if width != manifest.dimension]
    if widths:
        listed = ", ".join(map(str, widths))
        yield Finding(f"widths {listed}", "not proven", f"probes are of {manifest.dimension}")
    if manifest.kind == "embedder" and manifest.pooling != "none":
        yield _company(model)


def _probed(model: AnyModel, probe: Probe) -> Finding:
    if probe.vector is not None:
        name = _named(f"probe, {probe.role}", probe.text)
        vector = model.embed([probe.text], probe.role)[0]
        cosine = float(vector @ unit(probe.vector))
        verdict: Verdict = "proven" if cosine >= PROBE_COSINE else "wrong"
        return Finding(name, verdict, f"cosine {cosine:.5f}, at least {PROBE_COSINE}")
    name = _named("probe, pair", probe.text)
    if probe.document is None or probe.score is None:
        return Finding(name, "not proven", "it has neither a vector nor a document and a score")
    score = model.score(probe.text, [probe.document])[0]
    verdict = "proven" if abs(score - probe.score) <= PROBE_SCORE else "wrong"
    return Finding(
        name, verdict, f"score {score:.4f}, expected {probe.score:.4f} within {PROBE_SCORE}"
    )


def _company(model: AnyModel) -> Finding:
    alone = np.concatenate([model.embed([text], "document") for text in SAMPLES])
    cosine = float((alone * model.embed(SAMPLES, "document")).sum(axis=1).min())
    return Finding(
        "alone and in a batch",
        "proven" if cosine >= COMPANY_COSINE else "wrong",
        f"cosine {cosine:.5f}, at least {COMPANY_COSINE}",
    )


def _named(kind: str, text: str) -> str:
    return f"{kind} {text[:SHOWN] + '…' if len(text) > SHOWN else text}"
