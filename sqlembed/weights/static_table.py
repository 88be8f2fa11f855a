"""A table of static vectors, one a token, and the GGUF that it is stored as.

llama.cpp does not read it. ``token_embd.weight`` has the rows, ``static.weights`` what each token
counts (if not all alike), and ``static.rows`` which row is a token's (if not the one of its id).
"""

from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np
import numpy.typing as npt
from gguf import GGUFWriter

from sqlembed.errors import ModelError, OptionError
from sqlembed.weights.checkpoint import Floats
from sqlembed.weights.gguf_file import FILE_TYPES, add_tensor, uncut
from sqlembed.weights.manifest import STATIC
from sqlembed.weights.replacing import replacing

ROWS, WEIGHTS, PLACES = "token_embd.weight", "static.weights", "static.rows"
UNKNOWN = "static.unknown_token_id"
"""The metadata key of the token that stands for words with no vector; absent where none does."""
WORDS = "static.vocabulary_size"
"""The metadata key of how many tokens the tokenizer knows."""


@dataclass(frozen=True)
class StaticTable:
    """Vectors of tokens, and what splits a text into these."""

    rows: Floats
    """Of shape (rows, dimension)."""
    tokenizer: str
    """The text of its tokenizer.json; it adds no start and end tokens."""
    tokens: int
    """How many it knows."""
    unknown: int | None
    """The id of the token that is skipped; None if there is none."""
    weights: Floats | None = None
    """What each token counts, of shape (tokens,); None if all count alike."""
    places: npt.NDArray[np.int32] | None = None
    """The row of each token, of shape (tokens,); None if it is its id."""


def checked(table: StaticTable, origin: str) -> StaticTable:
    """*table*, if its parts fit.

    :param origin: where it came from, for messages
    :raises ModelError: they do not, or it holds NaN or infinity
    """
    rows = len(table.rows)
    if table.rows.ndim != 2 or not np.isfinite(table.rows).all():
        raise ModelError(f"{origin}: its vectors are no matrix, or hold NaN or infinity")
    for name, found in (("weights", table.weights), ("mapping", table.places)):
        if found is not None and found.shape != (table.tokens,):
            raise ModelError(
                f"{origin}: {name} has shape {found.shape}; its tokenizer has {table.tokens} tokens"
            )
    if table.weights is not None and not np.isfinite(table.weights).all():
        raise ModelError(f"{origin}: a weight is NaN or infinity")
    if table.places is not None:
        if len(table.places) and not 0 <= table.places.min() <= table.places.max() < rows:
            raise ModelError(f"{origin}: mapping names rows that are not among its {rows}")
    elif rows not in (table.tokens, table.unknown):
        # the token for unknown words, which comes last, may have no row
        raise ModelError(f"{origin}: {rows} vectors for a tokenizer of {table.tokens} tokens")
    return table


def write(table: StaticTable, target: Path, file_type: str, name: str) -> None:
    """Write *table* as a GGUF to *target*, whole or not at all.

    :param file_type: how the rows are stored: f32, f16, q8_0 or q4_0; the last two need a
        multiple of 32 dimensions and become f16 without
    :param name: the model's name in the metadata
    :raises OptionError: no such file type
    """
    if file_type not in FILE_TYPES:
        raise OptionError(f"file type {file_type!r}; the file types are {', '.join(FILE_TYPES)}")
    with replacing(target) as partial:
        writer = GGUFWriter(partial, STATIC)
        writer.add_name(name)
        writer.add_embedding_length(table.rows.shape[1])
        writer.add_file_type(FILE_TYPES[file_type][1])
        writer.add_uint32(WORDS, table.tokens)
        if table.unknown is not None:
            writer.add_uint32(UNKNOWN, table.unknown)
        writer.add_string(gguf.Keys.Tokenizer.HF_JSON, uncut(table.tokenizer))
        add_tensor(writer, ROWS, table.rows, file_type)
        if table.weights is not None:
            writer.add_tensor(WEIGHTS, table.weights.astype(np.float32))
        if table.places is not None:
            writer.add_tensor(PLACES, table.places.astype(np.int32))
        try:
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_tensors_to_file()
        finally:
            writer.close()
