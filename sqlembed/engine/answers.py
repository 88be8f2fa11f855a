"""Read what a model's server answers, and refuse whatever is not surely right."""

from base64 import b64decode
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from sqlembed.engine.pooling import Vectors


class NonsenseError(ValueError):
    """It is not what was asked for."""


class UnfitError(ValueError):
    """A vector or score holds NaN, infinity or only zeros."""


def vectors(answer: Any, count: int, width: int) -> Vectors:
    """The vectors of an answer of ``/v1/embeddings``, in the order of the texts.

    :returns: float32 of shape (*count*, *width*), not scaled
    :raises NonsenseError: there are others, or their order is not told
    :raises UnfitError: one holds what is no number, or has no direction
    """
    entries = _in_order(answer.get("data") if isinstance(answer, dict) else None, count, "data")
    found = np.empty((count, width), dtype=np.float32)
    for row, entry in zip(found, entries, strict=True):
        vector = _vector(entry.get("embedding"))
        if vector.shape != (width,):
            raise NonsenseError(f"a vector of shape {vector.shape}, and ({width},) was expected")
        row[:] = vector
    lengths = np.linalg.norm(found.astype(np.float64), axis=1)
    if not (np.isfinite(lengths).all() and (lengths > 0).all()):
        raise UnfitError("a vector of zeros, NaN or infinity")
    return found


def scores(answer: Any, count: int) -> npt.NDArray[np.float64]:
    """The scores of an answer of a reranker, in the order of the documents.

    ``{"results": [{"index", "relevance_score"}]}``, or as text-embeddings-inference has it
    ``[{"index", "score"}]``.

    :raises NonsenseError: there are others, or their order is not told
    :raises UnfitError: one is no number
    """
    listed = answer.get("results") if isinstance(answer, dict) else answer
    entries = _in_order(listed, count, "results")
    found = [entry.get("relevance_score", entry.get("score")) for entry in entries]
    if not all(isinstance(score, (int, float)) and not isinstance(score, bool) for score in found):
        raise NonsenseError("a result without relevance_score or score")
    array = np.array(found, dtype=np.float64)
    if not np.isfinite(array).all():
        raise UnfitError("a score of NaN or infinity")
    return array


def _in_order(entries: Any, count: int, what: str) -> list[Mapping[str, Any]]:
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise NonsenseError(f"no list of objects in {what}")
    if len(entries) != count:
        raise NonsenseError(f"{len(entries)} results for {count} texts")
    places = [entry.get("index") for entry in entries]
    if not all(type(place) is int for place in places) or sorted(places) != list(range(count)):
        raise NonsenseError(
            f"results whose index is not each of 0 to {count - 1} once, so which is whose is not"
            " known"
        )
    return sorted(entries, key=lambda entry: int(entry["index"]))


def _vector(given: Any) -> npt.NDArray[np.float32]:
    try:
        with np.errstate(over="ignore"):  # infinity is refused with the others
            if isinstance(given, str):
                return np.frombuffer(b64decode(given, validate=True), dtype="<f4")
            if not isinstance(given, list) or not all(type(x) in (int, float) for x in given):
                raise NonsenseError("an embedding that is no list of numbers")
            return np.array(given, dtype=np.float32)
    except (OverflowError, TypeError) as error:
        raise UnfitError(f"a vector of what are no numbers ({error})") from error
    except NonsenseError:
        raise
    except ValueError as error:
        raise NonsenseError(f"an embedding that is no base64 of float32 ({error})") from error
