"""What was installed: beside each NAME.gguf a NAME.json with its size and hash."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from sqlembed import settings
from sqlembed.errors import ModelFileError, ModelMissingError, NotFoundError
from sqlembed.weights import beside
from sqlembed.weights.manifest import Manifest
from sqlembed.weights.replacing import replacing

MAGIC = b"GGUF"
PIECE = 1 << 20
"""Bytes read at once while hashing."""

CONVERTER = 1
"""Raised whenever ``convert.py`` makes other bytes of the same source."""


@dataclass(frozen=True)
class Receipt:
    """What ``sqlembed pull`` installed."""

    sha256: str
    """Of the GGUF, in hexadecimal."""
    bytes: int
    """The GGUF's size."""
    file_type: str
    """f32, f16, q8_0, q4_0; ``gguf`` if it came as one."""
    source: str
    """Where it came from: a package and version, a path, or the hub's repository."""
    converter: int
    """The version of the converter that wrote it."""
    beside: Mapping[str, str] = field(default_factory=dict)
    """The sha256 of each file that stands beside the GGUF, by its kind."""

    @property
    def identity(self) -> str:
        """What stands for the weights in a space: the GGUF's sha256, and those beside it."""
        others = (f"{kind}:{sha256}" for kind, sha256 in sorted(self.beside.items()))
        return "+".join([self.sha256, *others])


def directory() -> Path:
    """Where weights are kept."""
    return settings.data_directory() / "models"


def gguf_path(name: str) -> Path:
    """Where the weights of the model *name* are, or would be.

    :raises NotFoundError: *name* cannot be a model's, since it is a path
    """
    if not name or name.startswith(".") or set(name) & set("/\\\0"):
        raise NotFoundError(f"no model is called {name!r}; a name is not a path")
    return directory() / f"{name}.gguf"


def is_usable(manifest: Manifest) -> bool:
    """Whether the model's weights are on this machine, or on a server."""
    return manifest.server is not None or gguf_path(manifest.base).is_file()


def receipt_path(name: str) -> Path:
    """Where the receipt of the model *name* is, or would be."""
    return gguf_path(name).with_name(f"{name}.json")


def sha256_of(path: Path, progress: Callable[[int, int], None] | None = None) -> str:
    """The sha256 of the file at *path*, in hexadecimal.

    :param progress: called with the bytes read and the bytes in all
    """
    digest, done, total = hashlib.sha256(), 0, path.stat().st_size
    with path.open("rb") as file:
        while piece := file.read(PIECE):
            digest.update(piece)
            done += len(piece)
            if progress is not None:
                progress(done, total)
    return digest.hexdigest()


def make_receipt(gguf: Path, file_type: str, source: str) -> Receipt:
    """The receipt of a GGUF that was just written.

    :raises ModelFileError: it is not a GGUF
    """
    check_magic(gguf)
    return Receipt(
        sha256=sha256_of(gguf),
        bytes=gguf.stat().st_size,
        file_type=file_type,
        source=source,
        converter=CONVERTER,
        beside={
            kind: sha256_of(path)
            for kind in beside.KINDS
            if (path := beside.path(gguf, kind)).is_file()
        },
    )


def write_receipt(name: str, receipt: Receipt) -> None:
    """Put *receipt* beside the weights of *name*, whole or not at all."""
    with replacing(receipt_path(name)) as partial:
        partial.write_text(json.dumps(asdict(receipt), indent=2) + "\n", encoding="utf-8")


def check_magic(path: Path) -> None:
    """Make sure that the file at *path* begins as a GGUF does.

    :raises ModelFileError: it does not
    """
    with path.open("rb") as file:
        magic = file.read(len(MAGIC))
    if magic != MAGIC:
        raise ModelFileError(f"{path} is not a GGUF: it begins with {magic!r}, expected {MAGIC!r}")


def read_receipt(name: str) -> Receipt:
    """The receipt of the model *name*, nothing checked.

    :raises ModelMissingError: there is none, so the model was not installed
    :raises ModelFileError: it is not a receipt
    """
    path = receipt_path(name)
    try:
        return Receipt(**json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        raise ModelMissingError(
            f"model {name!r} is not on this machine; get it with: sqlembed pull {name}"
        ) from error
    except (ValueError, TypeError) as error:
        raise ModelFileError(
            f"{path} is not a receipt ({error}); get it anew with: sqlembed pull {name}"
        ) from error


def recorded(name: str) -> str:
    """The identity of the installed weights of *name*, as its receipt has it; nothing is hashed.

    :raises ModelMissingError: the model is not on this machine
    """
    receipt = read_receipt(name)
    if not gguf_path(name).is_file():
        raise ModelMissingError(
            f"model {name!r} is no longer on this machine ({gguf_path(name)} is gone);"
            f" get it with: sqlembed pull {name}"
        )
    return receipt.identity


def verified(name: str) -> tuple[Path, str]:
    """The weights of *name*, hashed and found to be what was installed.

    :returns: the GGUF's path, and the identity of the weights
    :raises ModelMissingError: the model is not on this machine
    :raises ModelFileError: the file is not a GGUF, truncated or altered
    """
    identity = recorded(name)
    path, receipt = gguf_path(name), read_receipt(name)
    again = f"get it anew with: sqlembed pull {name}"
    try:
        check_magic(path)
    except ModelFileError as error:
        raise ModelFileError(f"{error}; {again}") from error
    if path.stat().st_size != receipt.bytes:
        raise ModelFileError(
            f"{path} is truncated or altered: it has {path.stat().st_size} bytes, expected"
            f" {receipt.bytes}; {again}"
        )
    expected = {path: receipt.sha256}
    expected |= {beside.path(path, kind): sha256 for kind, sha256 in receipt.beside.items()}
    for each, sha256 in expected.items():
        digest = sha256_of(each) if each.is_file() else "none, as it is gone"
        if digest != sha256:
            raise ModelFileError(
                f"{each} is altered: its sha256 is {digest}, expected {sha256}; {again}"
            )
    unknown = [kind for kind in beside.KINDS if beside.path(path, kind).is_file()
               and kind not in receipt.beside]  # fmt: skip
    if unknown:
        raise ModelFileError(
            f"{beside.path(path, unknown[0])} stands beside the model {name!r} and its receipt has"
            f" no such file; {again}"
        )
    return path, identity
