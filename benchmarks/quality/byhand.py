"""The same search driven by hand: sentence-transformers' vectors in sqlite-vec's own table."""

import tempfile
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import apsw
import peers
import sqlite_vec

from quality.sets import Set

TABLE = "CREATE VIRTUAL TABLE vec USING vec0(embedding float[{width}] distance_metric=cosine)"
FILL = "INSERT INTO vec(rowid, embedding) VALUES (?, ?)"
NEAREST = "SELECT rowid FROM vec WHERE embedding MATCH ? AND k = ? ORDER BY distance"


def rankings(chosen: Sequence[Set], k: int) -> dict[str, list[list[int]]]:
    """The *k* texts that each question of each set finds, best first, by the set's name."""
    peers.prepare()
    wanted = {text for each in chosen for text in each.texts}
    wanted |= {question.text for each in chosen for question in each.questions}
    texts = sorted(wanted)
    with tempfile.TemporaryDirectory() as work:
        encoder = peers.Encoder("sentence-transformers", texts, Path(work))
        vectors = dict(zip(texts, encoder.vectors(), strict=True))
        encoder.close()
    found: dict[str, list[list[int]]] = {}
    for each in chosen:
        with closing(apsw.Connection(":memory:")) as db:
            db.enable_load_extension(True)
            db.load_extension(sqlite_vec.loadable_path())
            width = len(vectors[each.texts[0]])
            db.execute(TABLE.format(width=width))
            db.executemany(
                FILL, ((n, vectors[text].tobytes()) for n, text in enumerate(each.texts))
            )
            found[each.name] = [
                [n for (n,) in db.execute(NEAREST, (vectors[question.text].tobytes(), k))]
                for question in each.questions
            ]
    return found
