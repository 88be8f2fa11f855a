"""What vectors are good for besides search: telling spam, and judging likeness as people do."""

import json

import apsw
import numpy as np
import numpy.typing as npt

from quality import sources

NEIGHBOURS = 5
# A few messages are several that the data runs together, longer than the model reads.
EMBED = """
SELECT vec_mean(embed(part.text, ?1)) FROM json_each(?2) AS whole, chunks(whole.value, ?1) AS part
GROUP BY whole.key ORDER BY whole.key"""

Vectors = npt.NDArray[np.float32]
Numbers = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


def embedded(connection: apsw.Connection, texts: list[str], model: str) -> Vectors:
    """The vector of each text, of a long one the mean of its chunks'."""
    rows = connection.execute(EMBED, (model, json.dumps(texts)))
    return np.array([np.frombuffer(blob, "<f4") for (blob,) in rows])


def spam(connection: apsw.Connection, model: str) -> tuple[Flags, Flags]:
    """For each SMS whether it is spam, and whether most of its five nearest others are."""
    labels = sources.messages()
    vectors = embedded(connection, list(labels), model)
    truth = np.array([*labels.values()])
    cosines = vectors @ vectors.T
    np.fill_diagonal(cosines, -1)
    nearest = np.argpartition(-cosines, NEIGHBOURS, axis=1)[:, :NEIGHBOURS]
    return truth, truth[nearest].sum(axis=1) * 2 > NEIGHBOURS


def f1(truth: Flags, said: Flags) -> float:
    """The harmonic mean of precision and recall."""
    return float(2 * (truth & said).sum() / (truth.sum() + said.sum()))


def likeness(connection: apsw.Connection, model: str) -> tuple[Numbers, Numbers]:
    """People's judgements and our cosines of each two of Lee's texts, as symmetric matrices."""
    texts, judged = sources.lee()
    vectors = embedded(connection, texts, model)
    upper = np.triu(judged, 1)
    return upper + upper.T, (vectors @ vectors.T).astype(np.float64)


def correlation(judged: Numbers, cosines: Numbers, chosen: npt.NDArray[np.int64]) -> float:
    """Pearson's r over the pairs of *chosen* texts; a text drawn twice is no pair with itself."""
    rows, columns = np.triu_indices(len(chosen), 1)
    rows, columns = chosen[rows], chosen[columns]
    different = rows != columns
    pairs = rows[different], columns[different]
    return float(np.corrcoef(judged[pairs], cosines[pairs])[0, 1])
