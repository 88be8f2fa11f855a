"""Receipts: a weights file that is missing, truncated, altered or no GGUF is told apart."""

from pathlib import Path

import pytest

from sqlembed.errors import ModelFileError, ModelMissingError, NotFoundError
from sqlembed.weights import receipt

NAME = "all-MiniLM-L6-v2"


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SQLEMBED_DATA", str(tmp_path))
    path = receipt.gguf_path(NAME)
    path.parent.mkdir()
    path.write_bytes(b"GGUF" + bytes(range(256)) * 8)
    receipt.write_receipt(NAME, receipt.make_receipt(path, "f16", "a test"))
    return path


def test_a_whole_file_is_verified(installed: Path) -> None:
    path, sha256 = receipt.verified(NAME)
    assert path == installed
    assert sha256 == receipt.sha256_of(installed) == receipt.recorded(NAME)
    assert receipt.read_receipt(NAME).source == "a test"


def test_a_missing_model_names_the_command_that_gets_it(installed: Path) -> None:
    for ask in (receipt.verified, receipt.recorded):
        with pytest.raises(ModelMissingError) as caught:
            ask("multilingual-e5-small")
        assert str(caught.value) == (
            "model 'multilingual-e5-small' is not on this machine;"
            " get it with: sqlembed pull multilingual-e5-small"
        )


def test_a_deleted_file_is_missing(installed: Path) -> None:
    installed.unlink()
    with pytest.raises(ModelMissingError, match="no longer on this machine"):
        receipt.verified(NAME)


def test_a_truncated_file_says_both_sizes(installed: Path) -> None:
    installed.write_bytes(installed.read_bytes()[:1000])
    with pytest.raises(ModelFileError, match=r"has 1000 bytes, expected 2052; .* pull all-Mini"):
        receipt.verified(NAME)


def test_an_altered_file_says_both_hashes(installed: Path) -> None:
    data = bytearray(installed.read_bytes())
    data[-1] ^= 1
    expected = receipt.recorded(NAME)
    installed.write_bytes(data)
    with pytest.raises(ModelFileError) as caught:
        receipt.verified(NAME)
    assert expected in str(caught.value)
    assert receipt.sha256_of(installed) in str(caught.value)
    assert receipt.recorded(NAME) == expected


@pytest.mark.parametrize("content", [b"", b"GG", b"PK\3\4 a zip"])
def test_what_is_no_gguf_is_called_so(installed: Path, content: bytes) -> None:
    installed.write_bytes(content)
    with pytest.raises(ModelFileError, match="is not a GGUF"):
        receipt.verified(NAME)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"sha256": 1}', "{"])
def test_a_damaged_receipt_is_called_so(installed: Path, content: str) -> None:
    receipt.receipt_path(NAME).write_text(content, encoding="utf-8")
    with pytest.raises(ModelFileError, match=r"is not a receipt.*sqlembed pull"):
        receipt.verified(NAME)


@pytest.mark.parametrize("name", ["", ".hidden", "../up", "a/b", "a\\b", "a\0b"])
def test_a_path_is_not_a_model_name(installed: Path, name: str) -> None:
    with pytest.raises(NotFoundError, match="no model is called"):
        receipt.verified(name)
