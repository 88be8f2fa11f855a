"""Pack many texts into few batches: bounded by tokens, equal lengths together."""

from collections.abc import Sequence

BATCH_TOKENS = 256
"""Tokens a batch: 128, 256 and 512 are equally fast within 3 per cent, 64 is slower by 30
(``benchmarks/README.md``)."""


def pack(lengths: Sequence[int], most_tokens: int, most_texts: int) -> list[list[int]]:
    """Group positions into batches of at most *most_tokens* tokens and *most_texts* texts.

    A text longer than *most_tokens* gets a batch of its own. Texts of similar
    length share a batch, longest first, so that the last batches are the short
    ones and parallel workers finish together.

    :param lengths: tokens of each text
    :returns: positions into *lengths*, each in exactly one batch
    """
    batches: list[list[int]] = []
    batch: list[int] = []
    tokens = 0
    for position in sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True):
        length = lengths[position]
        if batch and (tokens + length > most_tokens or len(batch) == most_texts):
            batches.append(batch)
            batch, tokens = [], 0
        batch.append(position)
        tokens += length
    if batch:
        batches.append(batch)
    return batches
