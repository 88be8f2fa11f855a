"""Other spellings of a query's words: numbers and codes together or apart, and mistakes."""

from collections.abc import Collection, Container, Sequence

CODE_DIGITS = 2
SHORTEST_CODE = 4
"""Characters; shorter ones are too often part of another."""
LONGEST_CODE = 24
MOST_NEIGHBOURS = 6
"""Words that are one when written together, as in ``+44 7700 90 01 23``."""
MOST_APART = 50
"""Ways to write a code apart that are looked for, those in the fewest words first."""
MOST_CODES = 32
"""Of a query that are looked for in other spellings, the first ones."""
MOST_SPELLINGS = 8
"""Of a number or code that count as it."""

LONG_WORD = 8
"""Letters of a word in which two mistakes are forgiven."""

Words = tuple[str, ...]


def is_code(text: str) -> bool:
    """Whether it is a number, or a code with numbers in it."""
    return sum(map(str.isdigit, text)) >= CODE_DIGITS


def together(pieces: Sequence[Words]) -> dict[Words, set[str]]:
    """For each piece of a query, the codes that it and its neighbours are when written as one."""
    found: dict[Words, set[str]] = {}
    for first in range(len(pieces)):
        whole = ""
        for last in range(first, min(first + MOST_NEIGHBOURS, len(pieces))):
            whole += "".join(pieces[last])
            if len(whole) > LONGEST_CODE:
                break
            if len(whole) >= SHORTEST_CODE and is_code(whole):
                for piece in pieces[first : last + 1]:
                    if piece != (whole,):
                        found.setdefault(piece, set()).add(whole)
    return found


def parts(code: str) -> set[str]:
    """The words that *code* may be written apart in."""
    if not _may_be_parted(code):
        return set()
    places = range(len(code) + 1)
    return {code[start:stop] for start in places for stop in places[start + 1 :]} - {code}


def apart(code: str, known: Container[str]) -> list[Words]:
    """The ways to write *code* in several of the *known* words, the shortest ones first."""
    if not _may_be_parted(code):
        return []
    ways: list[list[Words]] = [[()]]
    for stop in range(1, len(code) + 1):
        here = [
            (*way, code[start:stop])
            for start in range(stop)
            if code[start:stop] in known
            for way in ways[start]
        ]
        ways.append(sorted(here, key=lambda way: (len(way), way))[:MOST_APART])
    return [way for way in ways[-1] if len(way) > 1]


def _may_be_parted(code: str) -> bool:
    return SHORTEST_CODE <= len(code) <= LONGEST_CODE


def near(word: str, known: Collection[str]) -> Words:
    """Those of *known* with one letter more, less, other, or swapped; of a long word, with two."""
    from rapidfuzz import process  # here, since it takes 20 ms, and most words are spelt well
    from rapidfuzz.distance import OSA

    for mistakes in (1, 2) if len(word) >= LONG_WORD else (1,):
        found = process.extract(word, known, scorer=OSA.distance, score_cutoff=mistakes, limit=None)
        if found:
            return tuple(sorted(each for each, *_ in found))
    return ()
