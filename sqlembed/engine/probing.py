"""Take the probes of a model on a server: what it gives now, by which it is known again."""

import json
from base64 import b64encode

from sqlembed.engine.pooling import Vector
from sqlembed.engine.remote import ServerModel
from sqlembed.errors import ModelError
from sqlembed.weights.manifest import Manifest, Role

TEXTS = (
    "Are we still meeting for dinner at eight?",
    "Der Zug nach München hat heute eine Stunde Verspätung.",
    "नमस्ते, आप कैसे हैं? 안녕하세요",
)
PAIRS = (
    ("how do I restart the router", "Hold the power button of the router for ten seconds."),
    ("how do I restart the router", "The recipe needs two eggs and a cup of flour."),
)
FILLER, OTHER = "and the rain went on ", "one cup of flour, two eggs "
END = 8
"""Of a text as long as the model reads, one part of so many is another in a second text."""
SAME = 0.9999
"""The cosine from which on both are taken to be the same to the server."""


def taken(manifest: Manifest) -> str:
    """The probes, as the tables of TOML that end its manifest.

    :raises ModelError: it is on no server, or the server cuts long texts and says nothing
    """
    if manifest.server is None:
        raise ModelError(
            f"{manifest.name} has its weights on this machine; probes are taken of a model on a"
            " server, whose manifest has a table [server]"
        )
    model = ServerModel(manifest, unprobed=True)
    try:
        if manifest.kind == "reranker":
            return "".join(_pair(model, *pair) for pair in PAIRS)
        _check_end(model)
        roles: tuple[Role, ...] = ("document", "query") if manifest.prompts else ("document",)
        return "".join(_text(model, text, role) for role in roles for text in TEXTS)
    finally:
        model.close()


def _text(model: ServerModel, text: str, role: Role) -> str:
    vector = to_base64(model.embed([text], role)[0])
    return f'\n[[probe]]\nrole = "{role}"\ntext = {_quoted(text)}\nvector = "{vector}"\n'


def _pair(model: ServerModel, query: str, document: str) -> str:
    (score,) = model.score(query, [document])
    texts = f"text = {_quoted(query)}\ndocument = {_quoted(document)}"
    return f"\n[[probe]]\n{texts}\nscore = {score:.6f}\n"


def to_base64(vector: Vector) -> str:
    """*vector* as a manifest has it: base64 of little-endian float16."""
    return b64encode(vector.astype("<f2").tobytes()).decode()


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _check_end(model: ServerModel) -> None:
    """See that the end of a text that is as long as the model reads makes a difference."""
    manifest = model.manifest
    first = model.chunk([FILLER * manifest.context])[0][0].text
    kept = len(first) * (END - 1) // END
    second = first[:kept] + (OTHER * (1 + len(first) // len(OTHER)))[: len(first) - kept]
    texts = [model.chunk([text])[0][0].text for text in (first, second)]
    one, other = (model.embed([text], "document")[0] for text in texts)
    if float(one @ other) > SAME:
        raise ModelError(
            f"{manifest.name}: the server gives the same vector to two texts that differ in their"
            f" last eighth, so it does not read the {manifest.context} tokens that the manifest"
            " says, and cuts texts without a word. Lower context, or start it so that it refuses"
            " them (text-embeddings-inference: --auto-truncate false)"
        )
