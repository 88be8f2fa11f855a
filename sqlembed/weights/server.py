"""A server that computes in place of weights on this machine, as a manifest names it."""

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from sqlembed.errors import ModelError


@dataclass(frozen=True)
class Server:
    """A server that computes, in place of weights on this machine."""

    url: str
    """What ``/embeddings`` or ``/rerank`` is put after."""
    model: str
    """The model's name at the server."""
    key_variable: str | None = None
    """The environment variable with the bearer token."""
    batch: int = 32
    """Texts in a request at most, a probe among them."""
    concurrency: int = 4
    """Requests at once at most."""
    timeout: float = 60
    """Seconds that one request may take."""
    patience: float = 30
    """Seconds after which a request that failed is not tried again."""
    tokenizer: str | None = None
    """A ``tokenizer.json``, or a model on this machine whose tokenizer it is; bytes are counted
    where it is not given."""
    width: int | None = None
    """Floats that the server gives, where the manifest's dimension is less (Matryoshka)."""
    documents: str = "documents"
    """What a reranker's texts are called in a request: ``documents`` or ``texts``."""
    logits: bool = False
    """Whether a reranker's scores are logits, not 0 to 1."""

    def __post_init__(self) -> None:
        """Refuse what cannot be, and secrets in a file.

        :raises ModelError: a key has an impossible value
        """
        for name, kind, least in SERVER_BOUNDS:
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, kind) or not least <= value < MOST:
                raise ModelError(f"[server] {name} is a number from {least}; got {value!r}")
        try:
            parts = urlsplit(self.url)
            found = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except (ValueError, TypeError, AttributeError):
            found = None
        if not found:
            raise ModelError("[server] url is http://HOST/PATH or https://HOST/PATH")
        if parts.username or parts.password or parts.query or parts.fragment:
            raise ModelError(
                f"[server] url has more than a host and a path; a key belongs in an environment"
                f" variable that key_variable names (host {parts.hostname})"
            )
        if self.documents not in ("documents", "texts"):
            raise ModelError(
                f'[server] documents is "documents" or "texts"; got {self.documents!r}'
            )


SERVER_BOUNDS: tuple[tuple[str, Any, float], ...] = (
    ("batch", int, 2),
    ("concurrency", int, 1),
    ("timeout", (int, float), 0.1),
    ("patience", (int, float), 0),
)
MOST = 10**6
"""Of each of these."""
