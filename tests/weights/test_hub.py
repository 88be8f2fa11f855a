"""Pulling from a model hub that stands on loopback, answers as the real one does, and has faults."""

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Event

import hub_stand_in
import numpy as np
import pytest
import tiny_bert
from hub_stand_in import COMMIT, REPOSITORY, HubStandIn, break_off, hub_standing_in, status
from huggingface_hub import constants
from safetensors.numpy import save

from sqlembed.errors import ModelError, ModelFileError
from sqlembed.weights import receipt, transfer
from sqlembed.weights.convert import convert
from sqlembed.weights.pull import pull

MANIFEST = f"""
name = "tiny"
summary = "For tests"
kind = "embedder"
architecture = "bert"
dimension = 64
context = 24
pooling = "mean"
licence = "none"
homepage = "none"

[hub]
repository = "{REPOSITORY}"
"""
WEIGHTS = "model.safetensors"
HALF = 150_000


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data directory with the manifest, and no other setting of the user's."""
    monkeypatch.setenv("SQLEMBED_DATA", str(tmp_path / "data"))
    for name in ("SQLEMBED_MIRROR", "HF_TOKEN", "HF_HUB_OFFLINE", "HF_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setattr(transfer, "PAUSE", 0.001)
    (tmp_path / "data/models").mkdir(parents=True)
    write_manifest()
    return tmp_path / "data"


@pytest.fixture
def hub(tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubStandIn]:
    """The hub; this process asks it and has none of its cache."""
    source = tiny_bert.write_directory(tmp_path / "source")
    (source / "README.md").write_text("not needed", encoding="utf-8")
    with hub_standing_in(source) as made:
        monkeypatch.setattr(constants, "ENDPOINT", made.front.url)
        template = made.front.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf/hub"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "hf/token"))
        yield made
        for process in processes:
            process.kill()
            process.communicate()
        processes.clear()


processes: list[subprocess.Popen[str]] = []
"""What a test has started; it ends with the test."""


def write_manifest(keys: str = "") -> None:
    path = receipt.directory() / "tiny.toml"
    path.write_text(MANIFEST + keys, encoding="utf-8")


def left_over() -> set[str]:
    return {path.name for path in receipt.directory().iterdir()} - {"tiny.toml", ".tiny.lock"}


def kept() -> int:
    """How many bytes of the weights an unfinished pull has left."""
    return sum(path.stat().st_size for path in receipt.directory().glob(".tiny.download/*.partial"))


def is_right(hub: HubStandIn, tmp_path: Path) -> None:
    """What is installed is what the hub's files become, and nothing else is left."""
    (tmp_path / "expected").mkdir(exist_ok=True)
    expected = tmp_path / "expected/tiny.gguf"
    convert(tmp_path / "source", expected)
    path, _ = receipt.verified("tiny")
    assert path.read_bytes() == expected.read_bytes()
    assert left_over() == {"tiny.gguf", "tiny.json"}


def size_of(hub: HubStandIn) -> int:
    return len(hub.files[WEIGHTS])


def test_a_model_that_only_the_hub_has_needs_no_option(hub: HubStandIn, tmp_path: Path) -> None:
    steps: list[tuple[str, int, int]] = []
    pull("tiny", progress=lambda *step: steps.append(step))
    is_right(hub, tmp_path)
    assert receipt.read_receipt("tiny").source == f"hub {REPOSITORY} main"
    assert hub.asked == [(0, size_of(hub))]
    assert all(REPOSITORY in path for path in hub.paths)
    downloads = [(done, total) for stage, done, total in steps if stage == "downloading"]
    needed = sum(len(hub.files[name]) for name in ("config.json", WEIGHTS, "vocab.txt"))
    assert downloads[-1] == (needed, needed)
    assert [done for done, _ in downloads] == sorted(done for done, _ in downloads)
    assert {"checking", "converting"} <= {stage for stage, _, _ in steps}


def test_a_download_that_breaks_off_goes_on_by_itself(hub: HubStandIn, tmp_path: Path) -> None:
    hub.faults.extend([break_off(100_000), break_off(50_000)])
    pull("tiny")
    is_right(hub, tmp_path)
    assert [start for start, _ in hub.asked] == [0, 100_000, 150_000]


def test_one_that_cannot_go_on_is_told_and_the_next_pull_asks_for_the_rest_only(
    hub: HubStandIn, tmp_path: Path
) -> None:
    hub.faults.extend([break_off(HALF), *[break_off(0)] * transfer.TRIES])
    with pytest.raises(ModelError, match=rf"{WEIGHTS}: .*broke off 5 times at {HALF} of .* kept"):
        pull("tiny")
    assert kept() == HALF
    hub.asked.clear()
    pull("tiny")
    assert hub.asked == [(HALF, size_of(hub))]
    is_right(hub, tmp_path)


def test_an_error_in_the_middle_keeps_what_came(hub: HubStandIn, tmp_path: Path) -> None:
    hub.faults.extend([break_off(HALF), status(503)])
    with pytest.raises(ModelError, match=r"answers 503 .*try again \(what came is kept\)"):
        pull("tiny")
    hub.asked.clear()
    pull("tiny")
    assert hub.asked == [(HALF, size_of(hub))]
    is_right(hub, tmp_path)


def test_another_file_is_noticed_and_nothing_of_it_is_used(hub: HubStandIn, tmp_path: Path) -> None:
    hub.faults.append(hub_stand_in.other)
    with pytest.raises(ModelFileError, match=rf"{WEIGHTS} is not the file .* nothing was inst"):
        pull("tiny")
    assert kept() == 0
    hub.asked.clear()
    pull("tiny")
    assert hub.asked == [(0, size_of(hub))]
    is_right(hub, tmp_path)


def test_a_small_file_is_checked_by_gits_own_digest(hub: HubStandIn, tmp_path: Path) -> None:
    hub.announced["config.json"] = hub.files["config.json"]
    hub.files["config.json"] = hub.files["config.json"].replace(b"gelu", b"relu")
    with pytest.raises(ModelFileError, match=r"config\.json is not the file .*git digest"):
        pull("tiny")
    hub.files["config.json"] = hub.announced["config.json"]
    pull("tiny")
    is_right(hub, tmp_path)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (hub_stand_in.longer, r"sends (\d+) bytes, expected (\d+)"),
        (hub_stand_in.shorter, r"sends (\d+) bytes, expected (\d+)"),
        (hub_stand_in.unending, r"sends more than (\d+) bytes"),
    ],
)
def test_a_length_that_is_a_lie(
    hub: HubStandIn, tmp_path: Path, fault: hub_stand_in.Fault, message: str
) -> None:
    hub.faults.append(fault)
    with pytest.raises(ModelFileError, match=message):
        pull("tiny")
    assert kept() <= size_of(hub)
    pull("tiny")
    is_right(hub, tmp_path)


def test_a_partial_file_that_is_longer_than_the_file_is_thrown_away(
    hub: HubStandIn, tmp_path: Path
) -> None:
    hub.faults.extend([break_off(HALF), status(503)])
    with pytest.raises(ModelError):
        pull("tiny")
    (partial,) = receipt.directory().glob(".tiny.download/*.partial")
    partial.write_bytes(bytes(size_of(hub) + 1))
    pull("tiny")
    is_right(hub, tmp_path)


def test_a_server_without_ranges_sends_all_again(hub: HubStandIn, tmp_path: Path) -> None:
    hub.faults.extend([break_off(HALF), hub_stand_in.whole])
    pull("tiny")
    assert [start for start, _ in hub.asked] == [0, HALF]
    is_right(hub, tmp_path)


def test_a_new_version_begins_anew_and_the_old_part_goes(hub: HubStandIn, tmp_path: Path) -> None:
    hub.faults.extend([break_off(HALF), status(503)])
    with pytest.raises(ModelError):
        pull("tiny")
    (old,) = receipt.directory().glob(".tiny.download/*.partial")
    changed = tiny_bert.write_directory(tmp_path / "source", prefix="bert.")
    hub.files[WEIGHTS] = (changed / WEIGHTS).read_bytes()
    hub.asked.clear()
    hub.faults.append(status(503))
    with pytest.raises(ModelError):
        pull("tiny")
    assert hub.asked == [(0, size_of(hub))]
    assert not old.exists()
    pull("tiny")
    is_right(hub, tmp_path)


def test_the_manifests_hash_comes_first(hub: HubStandIn, tmp_path: Path) -> None:
    write_manifest(f'[hub.sha256]\n"{WEIGHTS}" = "{"0" * 64}"\n')
    with pytest.raises(
        ModelFileError, match=r"not the file that the manifest names.*nothing was d"
    ):
        pull("tiny")
    assert hub.asked == []
    right = hashlib.sha256(hub.files["config.json"]).hexdigest()
    write_manifest(f'[hub.sha256]\n"config.json" = "{right}"\n')
    hub.announced["config.json"] = hub.files["config.json"] + b" "
    hub.files["config.json"] += b" "
    with pytest.raises(ModelFileError, match=rf"config\.json .*sha256.* expected {right}"):
        pull("tiny")


@pytest.mark.parametrize(
    ("refusal", "message"),
    [
        ((401, "GatedRepo"), "accepted its terms.*set HF_TOKEN"),
        ((404, "RepoNotFound"), f"has no repository {REPOSITORY}, or it is private"),
        ((401, ""), "answers 401 .*HF_TOKEN"),
        ((403, ""), "answers 403 .*HF_TOKEN"),
        ((503, ""), "answers 503 .*try again"),
    ],
)
def test_what_the_hub_refuses_is_told_in_words(
    hub: HubStandIn, tmp_path: Path, refusal: tuple[int, str], message: str
) -> None:
    hub.refusals.append(refusal)
    with pytest.raises(ModelError, match=message):
        pull("tiny")
    assert left_over() <= {".tiny.download"}
    pull("tiny")
    is_right(hub, tmp_path)


def test_a_revision_and_a_file_that_are_not_there(hub: HubStandIn) -> None:
    hub.revision = "v2"
    with pytest.raises(ModelError, match="has no revision main"):
        pull("tiny")
    write_manifest('revision = "v2"\nfile = "tiny-q8.gguf"\n')
    hub.files["tiny-f16.gguf"] = b"GGUF"
    with pytest.raises(ModelError, match=r"has no tiny-q8\.gguf; its GGUFs are tiny-f16\.gguf"):
        pull("tiny")


def test_what_is_no_hub_is_told(hub: HubStandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", hub.store.url)
    with pytest.raises(ModelError, match=r"cannot be reached|does not answer"):
        pull("tiny")


def test_one_gguf_out_of_a_repository(hub: HubStandIn, tmp_path: Path) -> None:
    convert(tmp_path / "source", tmp_path / "q8.gguf", "q8_0")
    hub.repositories[REPOSITORY] = {
        "gguf/tiny.Q8_0.gguf": (tmp_path / "q8.gguf").read_bytes(),
        "other.gguf": b"x",
    }
    sha256 = receipt.sha256_of(tmp_path / "q8.gguf")
    write_manifest(
        f'file = "gguf/tiny.Q8_0.gguf"\n[hub.sha256]\n"gguf/tiny.Q8_0.gguf" = "{sha256}"\n'
    )
    hub.faults.append(break_off(50_000))
    pull("tiny")
    assert receipt.verified("tiny")[1] == sha256
    assert receipt.read_receipt("tiny").file_type == "gguf"
    assert [start for start, _ in hub.asked] == [0, 50_000]
    assert left_over() == {"tiny.gguf", "tiny.json"}


@pytest.mark.parametrize("place", ["hub", "mirror", "directory"])
def test_what_stands_beside_a_gguf_comes_from_the_original(
    hub: HubStandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    convert(tmp_path / "source", tmp_path / "f16.gguf", "f16")
    head = {"linear.weight": np.eye(64, dtype=np.float32)}
    hub.repositories = {
        REPOSITORY: {"gguf/tiny.gguf": (tmp_path / "f16.gguf").read_bytes()},
        "somebody/original": {
            "2_Dense/model.safetensors": save(head),
            "tokenizer.json": b"{}",
            "model.safetensors": b"not needed",
        },
    }
    write_manifest(
        'file = "gguf/tiny.gguf"\noriginal = "somebody/original"\n'
        '[[dense]]\npath = "2_Dense/model.safetensors"\nin = 64\nout = 64\n'
    )
    file = None
    if place == "hub":
        hub.faults.extend([break_off(50_000), break_off(10_000)])
    for repository, files in hub.repositories.items() if place != "hub" else ():
        directory = tmp_path / place / (repository if place == "mirror" else "")
        for name, content in files.items():
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
            (directory / name).write_bytes(content)
    if place == "mirror":
        monkeypatch.setenv("SQLEMBED_MIRROR", str(tmp_path / place))
    if place == "directory":
        file = tmp_path / place
    path = pull("tiny", file=file)
    assert path.read_bytes() == (tmp_path / "f16.gguf").read_bytes()
    assert set(receipt.read_receipt("tiny").beside) == {"heads.safetensors", "tokenizer.json"}
    assert path.with_name("tiny.tokenizer.json").read_bytes() == b"{}"
    receipt.verified("tiny")
    others = {"tiny.heads.safetensors", "tiny.tokenizer.json"}
    assert left_over() == {"tiny.gguf", "tiny.json", *others}
    asked = [start for start, _ in hub.asked[:3]]
    assert asked == ([0, 50_000, 60_000] if place == "hub" else [])
    assert b"not needed" not in hub.large.values()


def test_a_gguf_of_the_hub_is_stored_as_the_type_that_was_asked_for(
    hub: HubStandIn, tmp_path: Path
) -> None:
    convert(tmp_path / "source", tmp_path / "f16.gguf", "f16")
    hub.repositories[REPOSITORY] = {"tiny.gguf": (tmp_path / "f16.gguf").read_bytes()}
    write_manifest('file = "tiny.gguf"\n')
    path = pull("tiny", file_type="q8_0")
    convert(tmp_path / "f16.gguf", tmp_path / "q8.gguf", "q8_0")
    assert path.read_bytes() == (tmp_path / "q8.gguf").read_bytes()
    assert receipt.read_receipt("tiny").file_type == "q8_0"


def command(hub: HubStandIn, *arguments: str, **variables: str) -> subprocess.Popen[str]:
    """``sqlembed pull tiny`` as a process of its own, told of the hub by its environment."""
    paths = os.pathsep.join(path for path in sys.path if path)
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "sqlembed", "pull", "tiny", *arguments],
        env=os.environ | {"HF_ENDPOINT": hub.front.url, "PYTHONPATH": paths} | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    processes.append(process)
    return process


def test_a_pull_that_was_killed_goes_on_where_it_was(hub: HubStandIn, tmp_path: Path) -> None:
    reached, go_on = Event(), Event()
    hub.faults.append(hub_stand_in.hold(HALF, reached, go_on))
    first = command(hub)
    assert reached.wait(30)
    until = time.monotonic() + 30
    while kept() < HALF and time.monotonic() < until:
        time.sleep(0.01)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    go_on.set()
    assert kept() == HALF
    hub.asked.clear()
    second = command(hub)
    out, error = second.communicate(timeout=60)
    assert (second.returncode, error) == (0, "")
    assert out.startswith("tiny: installed (")
    assert hub.asked == [(HALF, size_of(hub))]
    is_right(hub, tmp_path)


def test_a_second_pull_of_the_same_model_waits_for_the_first(
    hub: HubStandIn, tmp_path: Path
) -> None:
    reached, go_on = Event(), Event()
    hub.faults.append(hub_stand_in.hold(HALF, reached, go_on))
    first = command(hub)
    assert reached.wait(30)
    waited: list[str] = []

    def report(stage: str, done: int, total: int) -> None:
        waited.append(stage)
        go_on.set()  # the first is held until the second waits

    pull("tiny", progress=report)
    out, _ = first.communicate(timeout=60)
    assert first.returncode == 0
    assert out.startswith("tiny: installed (")
    assert waited == ["waiting for another process that pulls it"]
    assert [start for start, _ in hub.asked] == [0, HALF]
    is_right(hub, tmp_path)


def test_a_token_is_the_hubs_and_nobody_elses(hub: HubStandIn, tmp_path: Path) -> None:
    hub.token, hub.gated = "hf_secret", True
    refused = command(hub)
    _, error = refused.communicate(timeout=60)
    assert refused.returncode == 1
    assert "set HF_TOKEN" in error
    allowed = command(hub, HF_TOKEN="hf_secret")
    _, error = allowed.communicate(timeout=60)
    assert (allowed.returncode, error) == (0, "")
    assert hub.tokens[-1] == "Bearer hf_secret"
    is_right(hub, tmp_path)  # the store of large files asserts that it was shown no token


def test_offline_nobody_is_asked_and_the_hubs_cache_serves(hub: HubStandIn, tmp_path: Path) -> None:
    refused = command(hub, HF_HUB_OFFLINE="1")
    _, error = refused.communicate(timeout=60)
    assert refused.returncode == 1
    assert error.startswith("sqlembed: HF_HUB_OFFLINE is set")
    cache = tmp_path / "hf/hub" / f"models--{REPOSITORY.replace('/', '--')}"
    for directory in ("refs", "blobs", f"snapshots/{COMMIT}"):
        (cache / directory).mkdir(parents=True)
    (cache / "refs/main").write_text(COMMIT, encoding="utf-8")
    for name in ("config.json", WEIGHTS, "vocab.txt"):
        content = hub.files[name]
        blob = cache / "blobs" / hashlib.sha256(content).hexdigest()
        blob.write_bytes(content)
        (cache / f"snapshots/{COMMIT}" / name).symlink_to(blob)
    served = command(hub, HF_HUB_OFFLINE="1")
    _, error = served.communicate(timeout=60)
    assert (served.returncode, error) == (0, "")
    is_right(hub, tmp_path)
    assert hub.tokens == []
    blob.write_bytes(content[:-1] + b"?")
    receipt.gguf_path("tiny").unlink()
    damaged = command(hub, HF_HUB_OFFLINE="1")
    _, error = damaged.communicate(timeout=60)
    assert damaged.returncode == 1
    assert "vocab.txt is not the file" in error


def test_a_hub_that_cannot_be_reached(hub: HubStandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ModelError, match=r"cannot be reached .*HF_ENDPOINT.*--file PATH"):
        pull("tiny")


def test_a_full_disk_keeps_what_came(
    hub: HubStandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(small)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("this user may mount no file system")
    try:
        monkeypatch.setenv("SQLEMBED_DATA", str(small))
        receipt.directory().mkdir()
        write_manifest()
        hub.faults.extend([break_off(HALF), status(503)])
        with pytest.raises(ModelError, match="503"):
            pull("tiny")
        ballast = small / "ballast"
        ballast.write_bytes(bytes(150_000))
        with pytest.raises(ModelError, match=r"the disk is full: .*SQLEMBED_DATA"):
            pull("tiny")
        assert kept() == HALF
        ballast.unlink()
        subprocess.run(["mount", "-o", "remount,size=4m", str(small)], check=True)
        hub.asked.clear()
        pull("tiny")
        assert hub.asked == [(HALF, size_of(hub))]
        is_right(hub, tmp_path)
    finally:
        subprocess.run(["umount", "--lazy", str(small)], check=True)


def test_a_mirror_directory_serves_in_place_of_the_network(
    hub: HubStandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror = tmp_path / "mirror"
    monkeypatch.setenv("SQLEMBED_MIRROR", str(mirror))
    with pytest.raises(ModelError, match=r"SQLEMBED_MIRROR is .* not a directory"):
        pull("tiny")
    tiny_bert.write_directory(mirror / REPOSITORY)
    sha256 = hashlib.sha256(hub.files[WEIGHTS]).hexdigest()
    write_manifest(f'[hub.sha256]\n"{WEIGHTS}" = "{"0" * 64}"\n')
    with pytest.raises(
        ModelFileError, match=rf"{WEIGHTS} is not the file .*{sha256}, expected 000"
    ):
        pull("tiny")
    write_manifest(f'[hub.sha256]\n"{WEIGHTS}" = "{sha256}"\n')
    pull("tiny")
    is_right(hub, tmp_path)
    assert hub.tokens == []


def test_what_the_mirror_lacks_comes_from_the_hub(
    hub: HubStandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mirror").mkdir()
    monkeypatch.setenv("SQLEMBED_MIRROR", str(tmp_path / "mirror"))
    pull("tiny")
    assert hub.asked == [(0, size_of(hub))]
    is_right(hub, tmp_path)


def test_a_directory_of_the_repositorys_files_can_be_given(hub: HubStandIn, tmp_path: Path) -> None:
    write_manifest(f'[hub.sha256]\n"{WEIGHTS}" = "{"0" * 64}"\n')
    with pytest.raises(ModelFileError, match=rf"{WEIGHTS} is not the file that it should be"):
        pull("tiny", file=tmp_path / "source")
    write_manifest('file = "q8.gguf"\n')
    convert(tmp_path / "source", tmp_path / "source/q8.gguf", "q8_0")
    pull("tiny", file=tmp_path / "source")
    assert receipt.verified("tiny")[1] == receipt.sha256_of(tmp_path / "source/q8.gguf")
    assert hub.tokens == []
