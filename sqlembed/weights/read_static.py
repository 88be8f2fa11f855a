"""Read tables of static vectors: GloVe's, in two forms, and model2vec's.

- GloVe's text: ``NAME.txt``, a line a word: the word and its numbers, parted by spaces
  (https://nlp.stanford.edu/projects/glove/)
- GloVe as its package has it: one ``.npy`` of the vectors, one ``.parquet`` of the words
- model2vec: ``config.json`` with ``model_type`` ``model2vec``, ``tokenizer.json``, and
  ``model.safetensors`` with ``embeddings`` and perhaps ``weights`` and ``mapping``
  (https://github.com/MinishLab/model2vec). Its weights have what ``apply_zipf`` made
"""

import json
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from sqlembed.errors import ModelError, ModelFileError
from sqlembed.weights import parquet, word_level
from sqlembed.weights.checkpoint import Floats
from sqlembed.weights.static_table import StaticTable, checked

MODEL2VEC = "model2vec"
EMBEDDINGS = "embeddings"


def is_static(source: Path) -> bool:
    """Whether *source* is a table of one of these forms."""
    if source.is_file():
        return source.suffix == ".txt"
    config = source / "config.json"
    if config.is_file():
        return f'"{MODEL2VEC}"' in config.read_text(encoding="utf-8", errors="replace")
    return any(source.glob("*.npy"))


def read(source: Path) -> StaticTable:
    """Read the table at *source*, a directory or a ``.txt``.

    :raises ModelError: a part of it is missing, or does not fit the others
    :raises ModelFileError: a file is truncated or not what its name says
    """
    if (source / "config.json").is_file():
        return checked(_model2vec(source), str(source))
    if source.is_file():
        words, rows = _text(source)
    else:
        words, rows = parquet.strings(_only(source, "parquet")), _array(_only(source, "npy"))
    return checked(_of_words(words, rows, str(source)), str(source))


def _of_words(words: list[str], rows: Floats, origin: str) -> StaticTable:
    """A table of whole words."""
    if len(set(words)) != len(words) or len(words) != len(rows):
        raise ModelError(
            f"{origin} has {len(rows)} vectors for {len(words)} words, {len(set(words))} of them"
            " different; there is one vector a word"
        )
    return StaticTable(rows, word_level.tokenizer(words), len(words) + 1, len(words))


def _text(path: Path) -> tuple[list[str], Floats]:
    words, rows = [], []
    with path.open(encoding="utf-8", newline="\n") as file:
        for number, line in enumerate(file, 1):
            word, *numbers = line.rstrip("\n").split(" ")
            try:
                rows.append(np.array(numbers, dtype=np.float32))
            except ValueError as error:
                raise ModelFileError(f"{path}, line {number}: {error}") from error
            if not numbers or len(rows[-1]) != len(rows[0]):
                raise ModelFileError(
                    f"{path}, line {number}: {len(numbers)} numbers, expected {len(rows[0])};"
                    " GloVe's text has a word and its vector in each line"
                )
            words.append(word)
    if not words:
        raise ModelFileError(f"{path} is empty")
    return words, np.stack(rows)


def _array(path: Path) -> Floats:
    try:
        found = np.load(path, mmap_mode="r")
    except ValueError as error:
        raise ModelFileError(f"{path} is truncated or no array of numpy's ({error})") from error
    return np.asarray(found, dtype=np.float32)


def _model2vec(directory: Path) -> StaticTable:
    path = directory / "model.safetensors"
    try:
        definition = (directory / "tokenizer.json").read_text(encoding="utf-8")
        stored = load_file(path)
    except FileNotFoundError as error:
        raise ModelError(f"{error.filename or path} is missing; model2vec has one") from error
    except SafetensorError as error:
        raise ModelFileError(f"{path} is truncated or not safetensors ({error})") from error
    if EMBEDDINGS not in stored:
        raise ModelError(f"{path} has {', '.join(sorted(stored))}, and no {EMBEDDINGS}")
    weights, mapping = stored.get("weights"), stored.get("mapping")
    tokenizer = Tokenizer.from_str(definition)
    return StaticTable(
        rows=stored[EMBEDDINGS].astype(np.float32),
        tokenizer=_without_specials(definition),
        tokens=tokenizer.get_vocab_size(),
        unknown=_unknown(definition),
        weights=None if weights is None else weights.astype(np.float32),
        places=None if mapping is None else mapping.astype(np.int32),
    )


def _without_specials(definition: str) -> str:
    """*definition* so that it adds no start and end tokens, as model2vec asks of it."""
    return json.dumps(json.loads(definition) | {"post_processor": None}, ensure_ascii=False)


def _unknown(definition: str) -> int | None:
    """The id of the token that stands for unknown words, which model2vec leaves out."""
    model = json.loads(definition)["model"]
    if isinstance(number := model.get("unk_id"), int):
        return number
    token = model.get("unk_token")
    found: int | None = Tokenizer.from_str(definition).token_to_id(token) if token else None
    return found


def _only(directory: Path, ending: str) -> Path:
    found = sorted(directory.glob(f"*.{ending}"))
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        raise ModelError(f"{directory} must hold one .{ending} file; it has {names}")
    return found[0]
