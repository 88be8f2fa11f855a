"""What any model reads: a prompt and tokens, of which it takes so many, and so a text in chunks."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from sqlembed.engine.chunk import WITHOUT_OVERLAP, Chunk, Chunking, chunk
from sqlembed.errors import TextTooLongError
from sqlembed.weights.manifest import Manifest, Role


class Reader(ABC):
    """A model as far as it reads."""

    def __init__(self, manifest: Manifest) -> None:
        """Read as *manifest* says."""
        self.manifest = manifest

    @abstractmethod
    def count(self, texts: Sequence[str], role: Role = "document") -> list[int]:
        """Tokens of each text as the model reads it: prompt, start and end tokens included."""

    def chunk(
        self, texts: Sequence[str], role: Role = "document", chunking: Chunking = WITHOUT_OVERLAP
    ) -> list[list[Chunk]]:
        """Each text in parts that the model reads whole; one part if it fits."""

        def count(parts: Sequence[str]) -> list[int]:
            return self.count(parts, role)

        size, overlap = chunking.resolved(self.manifest.name, self.manifest.context, count)
        return chunk(texts, size, count, overlap)

    def too_long(self, text: str, tokens: int, counted: str = "tokens") -> TextTooLongError:
        """The error for a *text* of more *tokens* than the model reads."""
        return TextTooLongError(
            f"a text of {len(text)} characters has {tokens} {counted}, and {self.manifest.name}"
            f" reads {self.manifest.context} (it begins {text[:40]!r}); embed parts of it with"
            " substr(); an index cuts long texts into chunks by itself"
        )
