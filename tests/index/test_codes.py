"""Codes stand for their vectors, are compared alike by C and by numpy, and find what is nearest."""

import numpy as np
import pytest

from sqlembed.index import compare, scan
from sqlembed.index.codes import Asked, Codes, Frame, Together, joined, size, together

DIMENSIONS = (1, 2, 63, 64, 65, 384, 1023, 1024, 4096)


def made(count: int, dimension: int, seed: int = 1) -> np.ndarray:
    """Unit vectors in all directions."""
    vectors = np.random.default_rng(seed).standard_normal((count, dimension)).astype("<f4")
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def topics(number: int, each: int, spread: float, dimension: int = 128) -> np.ndarray:
    """Unit vectors of many topics, one topic after the other."""
    centres = np.repeat(made(number, dimension), each, axis=0)
    vectors = centres + spread * made(number * each, dimension, 2)
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype("<f4")


def coded(vectors: np.ndarray, frame: Frame, first: int = 1) -> Codes:
    numbers = np.arange(first, first + len(vectors))
    return Codes.of(frame, numbers, 10 * numbers, vectors)


@pytest.fixture(params=["C", "three threads", "numpy"])
def by(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Who compares."""
    if request.param == "numpy":
        monkeypatch.setattr(compare, "library", lambda: None)
    else:
        assert compare.library() is not None, "compare.c was not compiled"
    if request.param == "three threads":
        monkeypatch.setattr(compare, "PART_BYTES", 1)
        monkeypatch.setattr(compare, "_most_threads", lambda: 3)
    return str(request.param)


@pytest.mark.parametrize("dimension", DIMENSIONS)
def test_what_is_written_is_read(dimension: int) -> None:
    codes = coded(made(7, dimension), Frame.of(made(7, dimension), 77))
    content = codes.to_bytes()
    assert len(content) == size(7, dimension) == codes.nbytes
    read = Codes.from_bytes(content)
    assert read.frame is codes.frame and read.frame.made_of == 77
    assert read.error == pytest.approx(codes.error)
    for name in ("chunks", "keys", "signs", "levels"):
        assert (getattr(read, name) == getattr(codes, name)).all()


@pytest.mark.parametrize("content", [b"", b"\0" * 24, b"\xff" * 500])
def test_what_is_none_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match="bytes are"):
        Codes.from_bytes(content)


@pytest.mark.parametrize("dimension", DIMENSIONS)
@pytest.mark.parametrize("count", [1, 3, 4, 21])
def test_it_is_weighed_by_signs_and_estimated_by_levels(
    by: str, dimension: int, count: int
) -> None:
    vectors, (query,) = made(count, dimension), made(1, dimension, 3)
    frame = Frame.of(made(500, dimension))
    blocks = [coded(part, frame) for part in np.array_split(vectors, 3) if len(part)]
    asked = Asked(frame, query)
    from_centre = query - frame.centre
    weights = np.where(
        np.abs(from_centre) >= np.sort(np.abs(from_centre))[-max(1, dimension // 3)], 3, 1
    )
    differ = (vectors >= frame.centre) != (from_centre >= 0)
    codes = Together(blocks)
    assert asked.apart(codes).tolist() == (differ @ weights).tolist()
    cosines = asked.cosines(codes, np.arange(count))
    errors = np.repeat([block.error for block in blocks], [len(block) for block in blocks])
    assert (np.abs(cosines - vectors @ query) <= errors + 1e-5).all()
    assert codes.error == errors.max()
    for step in (2, 5):
        some = np.arange(0, count, step)
        assert asked.cosines(codes, some) == pytest.approx(cosines[some], abs=1e-5)
        assert (
            codes.chunks(some).tolist()
            == [int(number) for block in blocks for number in block.chunks][::step]
        )


@pytest.mark.parametrize("dimension", DIMENSIONS)
@pytest.mark.parametrize("count", [0, 1, 2, 50])
def test_cosines_of_whole_vectors(by: str, dimension: int, count: int) -> None:
    vectors, (query,) = made(count, dimension), made(1, dimension, 3)
    assert compare.cosines(vectors, query) == pytest.approx(vectors @ query, abs=1e-6)


@pytest.mark.parametrize("count", [1, 15, 16, 17, 1000, 3 * compare.SAMPLED + 5])
@pytest.mark.parametrize("most", [1, 255, 257, 65_535])
def test_the_least_apart_are_chosen_by_c_as_by_numpy(
    by: str, count: int, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    apart = np.random.default_rng(count).integers(0, most, count, np.uint16, endpoint=True)
    for wanted in (0, count // 100, count // 2, count):
        chosen = compare.least(apart, wanted)
        with monkeypatch.context() as by_numpy:
            by_numpy.setattr(compare, "library", lambda: None)
            assert chosen.tolist() == compare.least(apart, wanted).tolist()
        # All that are as near as the last, none that is farther, and about as many as wanted.
        assert (np.sort(chosen) == np.flatnonzero(apart <= apart[chosen].max())).all()
        if most == 65_535 and count > 1000:
            assert 0.8 * wanted <= len(chosen) <= 1.2 * wanted + 100


def test_what_lies_far_outside_of_the_frame_has_an_error_that_says_so(by: str) -> None:
    frame = Frame.of(topics(1, 100, 0.05))
    others = made(100, 128)
    codes = coded(others, frame)
    (query,) = made(1, 128, 5)
    cosines = Asked(frame, query).cosines(Together([codes]), np.arange(100))
    assert 0.5 < np.abs(cosines - others @ query).max() * 2 < codes.error * 2


def test_blocks_of_one_frame_are_joined() -> None:
    vectors = made(40, 65)
    frame = Frame.of(vectors)
    whole = coded(vectors, frame)
    parts = joined([coded(vectors[:13], frame), coded(vectors[13:], frame, 14)])
    assert parts.to_bytes() == whole.to_bytes()
    odd = whole.some(whole.chunks % 2 == 1)
    assert odd.chunks.tolist() == list(range(1, 41, 2))
    assert (odd.keys == 10 * odd.chunks).all()
    assert (odd.levels == coded(vectors[::2], frame).levels).all()
    assert (odd.signs == coded(vectors[::2], frame).signs).all()


def nearest(vectors: np.ndarray, query: np.ndarray, k: int) -> set[int]:
    return set((1 + np.argsort(-(vectors @ query), kind="stable")[:k]).tolist())


@pytest.mark.parametrize("k", [1, 10, 100])
@pytest.mark.parametrize("spread", [0.4, 1.0])
@pytest.mark.parametrize("order", ["by topic", "mixed"])
def test_recall(by: str, k: int, spread: float, order: str) -> None:
    vectors = topics(300, 100, spread)
    if order == "mixed":
        np.random.default_rng(4).shuffle(vectors)
    frame = Frame.of(vectors[::15])
    blocks = [coded(vectors[at : at + 3000], frame, at + 1) for at in range(0, len(vectors), 3000)]
    queries = topics(300, 1, spread)[::10]
    codes = together(blocks)
    recalls = [
        len(set(scan.nearest(codes, q, 3 * k + 40).chunks.tolist()) & nearest(vectors, q, k)) / k
        for q in queries
    ]
    assert np.mean(recalls) >= 0.99


def test_only_rows_that_may_be_found_are(by: str) -> None:
    vectors = made(5000, 64)
    frame = Frame.of(vectors)
    blocks = [coded(vectors[at : at + 999], frame, at + 1) for at in range(0, 5000, 999)]
    (query,) = made(1, 64, 6)
    for step in (2, 50, 5000):
        some = np.arange(step, 5001, step)
        found = scan.nearest(together(blocks), query, 20, 10 * some)
        assert set(found.chunks.tolist()) <= set(some.tolist())
        best = some[np.argsort(-(vectors[some - 1] @ query))[:5]]
        assert set(best.tolist()) <= set(found.chunks.tolist())
        assert found.whole == (len(some) <= 20)
    assert scan.nearest(together(blocks), query, 20, np.array([7])).chunks.tolist() == []


def test_the_nearest_are_found_where_most_codes_are_of_another_frame(by: str) -> None:
    vectors = topics(300, 20, 0.7)
    frames = Frame.of(vectors[:5000]), Frame.of(vectors[5000:])
    blocks = [
        coded(vectors[:5000], frames[0]),
        coded(vectors[5000:5990], frames[1], 5001),
        coded(vectors[5990:], Frame.of(vectors[5990:]), 5991),
    ]
    assert len(together(blocks)) == 3
    for at in (*range(5000, 6000, 50), 5995):
        found = scan.nearest(together(blocks), vectors[at], 70)
        assert found.chunks[0] == at + 1
        assert nearest(vectors, vectors[at], 10) <= set(found.chunks.tolist())
        some = scan.nearest(together(blocks), vectors[at], 70, 10 * np.arange(1, 5001))
        assert some.chunks.max() <= 5000


def test_everything_within_a_bound_is_among_the_candidates(by: str) -> None:
    vectors = topics(50, 40, 0.7)
    frames = Frame.of(vectors), Frame.of(vectors[:100])  # the second suits few of them
    blocks = [coded(vectors[:1000], frames[0]), coded(vectors[1000:], frames[1], 1001)]
    for query in topics(50, 1, 0.7)[::7]:
        cosines = vectors @ query
        for least in (0.9, 0.7, 0.3):
            found = scan.within(together(blocks), query, least)
            assert set((1 + np.flatnonzero(cosines >= least)).tolist()) <= set(
                found.chunks.tolist()
            )


def test_equal_vectors_are_all_candidates_up_to_a_bound(by: str) -> None:
    vectors = np.repeat(made(30, 64), 100, axis=0)
    frame = Frame.of(vectors)
    found = scan.nearest(together([coded(vectors, frame)]), vectors[250], 30)
    assert len(found.chunks) == 100
    assert set(found.chunks.tolist()) == set(range(201, 301))
    assert scan.best(np.arange(5), np.zeros(5, np.float32), 1).chunks.tolist() == [0, 1, 2, 3]
