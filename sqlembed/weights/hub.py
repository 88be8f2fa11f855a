"""Get a model's files from the model hub, when asked to and at no other time.

huggingface_hub knows the hub: its address (``HF_ENDPOINT``), its token (``HF_TOKEN``), whether it
may be asked (``HF_HUB_OFFLINE``), its cache. The bytes come by :mod:`sqlembed.weights.transfer`,
since huggingface_hub 2 begins a download that was broken off from the beginning.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from sqlembed.errors import ModelError, ModelFileError
from sqlembed.weights.kept import Identity, Kept, check, identity
from sqlembed.weights.manifest import Hub

WANTED = (
    "config.json",
    "model.safetensors",
    "modules.json",
    "sentence_bert_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.txt",
    "1_Pooling/config.json",
)
"""What the reader of safetensors looks at; a repository need not have all."""
WEIGHTS = "model.safetensors"

Report = Callable[[str, int, int], None]
"""Called with the stage, what is done and what there is (bytes)."""


@dataclass(frozen=True)
class Part:
    """Files of one repository."""

    repository: str
    revision: str
    names: tuple[str, ...]
    """Those that are wanted; it need not have all."""
    needed: str | None
    """The one without which nothing can be done."""

    def __str__(self) -> str:
        """What messages call it."""
        return f"{self.repository} (revision {self.revision})"


def parts(hub: Hub, besides: Sequence[str]) -> list[Part]:
    """What is wanted of each repository.

    :param besides: files of the original that stand beside a GGUF: its tokenizer, dense heads
    """
    names = (hub.file,) if hub.file else (*WANTED, *hub.sha256)
    if hub.original is None:
        names = (*names, *besides)
    main = Part(hub.repository, hub.revision, tuple(dict.fromkeys(names)), hub.file or WEIGHTS)
    if hub.original is None:
        return [main]
    return [main, Part(hub.original, "main", tuple(besides), None)]


def target(hub: Hub, name: str, into: Path) -> Path:
    """Where the file *name* belongs in *into*: what stands beside a GGUF is looked for there."""
    return into / (Path(name).name if name == hub.file else name)


@dataclass(frozen=True)
class _File:
    """A file of a repository."""

    name: str
    what: Identity
    size: int | None
    url: str
    """Where its bytes are."""
    headers: dict[str, str]


def download(hub: Hub, besides: Sequence[str], kept: Kept, into: Path, report: Report) -> None:
    """Put the files of *hub* that are wanted into the directory *into*, each checked.

    They are what the hub has now, or where it cannot be asked what its cache on this machine has.

    :param besides: files of the original that stand beside a GGUF
    :param kept: what earlier tries brought, and where this one leaves what it brings
    :raises ModelError: no network, no such repository, or access is refused
    :raises ModelFileError: a file is not the one that the manifest or the hub names
    :raises OSError: the disk is full
    """
    from huggingface_hub import constants
    from huggingface_hub.errors import OfflineModeIsEnabled

    from sqlembed.weights.transfer import UNREACHABLE

    # Else it asks the hub for a list of programs, to tell it which of them runs us.
    constants.HF_HUB_DISABLE_TELEMETRY = True
    wanted = parts(hub, besides)
    files: list[_File] = []
    for part in wanted:
        with _in_words(part):
            try:
                files += _listed(hub, part)
            except (OfflineModeIsEnabled, UNREACHABLE):
                if not all(_put_cached(hub, each, into) for each in wanted):
                    raise
                return
    with _in_words(wanted[0]):
        _get(hub, files, kept, into, report)


def _listed(hub: Hub, part: Part) -> list[_File]:
    """What the repository has of what is wanted, as of now."""
    from huggingface_hub import HfApi, get_hf_file_metadata, hf_hub_url
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

    info = HfApi().model_info(part.repository, revision=part.revision)
    found = {each.rfilename for each in info.siblings or ()}
    if hub.file and part.needed and part.needed not in found:
        others = sorted(name for name in found if name.endswith(".gguf"))
        raise ModelError(
            f"{part} on the model hub has no {part.needed}; its GGUFs are"
            f" {', '.join(others) or 'none'}"
        )
    files = []
    for name in part.names:
        if name not in found:
            continue
        url = hf_hub_url(part.repository, name, revision=info.sha)
        told = get_hf_file_metadata(url)
        headers = build_hf_headers()
        if _origin(told.location) != _origin(url):
            # The token is the hub's, and no affair of who stores the bytes for it.
            headers.pop("authorization", None)
        what = _agreed(hub, part, name, identity(told.etag or url))
        files.append(_File(name, what, told.size, told.location, headers))
    return files


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port


def _agreed(hub: Hub, part: Part, name: str, announced: Identity) -> Identity:
    """What the file must be: the manifest says it first, then the hub.

    :raises ModelFileError: they say different things
    """
    expected = hub.sha256.get(name)
    if expected is None:
        return announced
    if announced.kind == "sha256" and announced.value != expected:
        raise ModelFileError(
            f"{name} of {part} is not the file that the"
            f" manifest names: its sha256 is {announced.value}, expected {expected}; nothing was"
            " downloaded"
        )
    return Identity("sha256", expected)


def _get(hub: Hub, files: list[_File], kept: Kept, into: Path, report: Report) -> None:
    """Bring what is missing of *files*, and put all into *into*."""
    kept.forget_others([file.what for file in files])
    done, total = 0, sum(file.size or 0 for file in files)

    def progress(now: int) -> None:
        report("downloading", min(done + now, total), total)

    for file in files:
        path = kept.whole(file.what)
        if not path.is_file():
            _bring(file, kept, progress)
            path = kept.finish(
                file.what, file.name, lambda read, size: report("checking", read, size)
            )
        done += file.size or path.stat().st_size
        progress(0)
        put(path, target(hub, file.name, into))


def _bring(file: _File, kept: Kept, progress: Callable[[int], None]) -> None:
    from huggingface_hub import constants
    from huggingface_hub.utils import (  # type: ignore[attr-defined]
        get_session,
        hf_raise_for_status,
    )

    from sqlembed.weights.transfer import transfer

    try:
        transfer(
            get_session(),
            file.url,
            file.headers,
            kept.partial(file.what),
            file.size,
            hf_raise_for_status,
            progress,
            constants.HF_HUB_DOWNLOAD_TIMEOUT,
        )
    except (ModelError, ModelFileError) as error:
        raise type(error)(f"{file.name}: {error}") from error


def put(path: Path, where: Path) -> None:
    """Let the file at *path* be at *where* too."""
    where.parent.mkdir(parents=True, exist_ok=True)
    where.symlink_to(path.resolve())


def _put_cached(hub: Hub, part: Part, into: Path) -> bool:
    """Put what the hub's cache on this machine has into *into*; whether it has what is needed."""
    from huggingface_hub import try_to_load_from_cache

    for name in part.names:
        found = try_to_load_from_cache(part.repository, name, revision=part.revision)
        if isinstance(found, str):
            path = Path(found)
            # The cache names a file after its entity tag.
            check(path, _agreed(hub, part, name, identity(path.resolve().name)), name)
            put(path, target(hub, name, into))
        elif name == part.needed:
            return False
    return True


@contextmanager
def _in_words(part: Part) -> Iterator[None]:
    """What goes wrong at the hub, as an error of ours that says what to do."""
    from huggingface_hub import constants, errors

    from sqlembed.weights.transfer import UNREACHABLE

    where = f"the model hub, {constants.ENDPOINT}"
    try:
        yield
    except errors.GatedRepoError as error:
        raise ModelError(
            f"{part} is given only to who accepted its terms: do so at"
            f" {constants.ENDPOINT}/{part.repository}, and set HF_TOKEN"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise ModelError(
            f"{part.repository} on {where}, has no revision {part.revision}"
        ) from error
    except errors.RemoteEntryNotFoundError as error:
        raise ModelError(f"{part} on {where}, lists a file that it does not have") from error
    except errors.RepositoryNotFoundError as error:
        raise ModelError(
            f"{where}, has no repository {part.repository}, or it is private: then set HF_TOKEN"
        ) from error
    except errors.HfHubHTTPError as error:
        status = error.response.status_code
        todo = "set HF_TOKEN to a token that may read it" if status in (401, 403) else "try again"
        raise ModelError(
            f"{where}, answers {status} for {part}; {todo} (what came is kept)"
        ) from error
    except errors.OfflineModeIsEnabled as error:
        raise ModelError(
            f"HF_HUB_OFFLINE is set, and neither SQLEMBED_MIRROR nor the hub's cache"
            f" ({constants.HF_HUB_CACHE}) has {part}; copy it there, or give it: sqlembed pull NAME"
            " --file PATH"
        ) from error
    except UNREACHABLE as error:
        raise ModelError(
            f"{where}, cannot be reached ({error}): check the network and HF_ENDPOINT, or give the"
            " weights: sqlembed pull NAME --file PATH"
        ) from error
    except (errors.FileMetadataError, ValueError, KeyError, TypeError) as error:
        first = str(error).strip().partition("\n")[0]
        raise ModelError(f"{where}, does not answer as one about {part}: {first}") from error
