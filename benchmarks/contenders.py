"""What nearest.py compares, each in processes of its own: one that builds, and one that answers.

``contenders.py NAME build DIRECTORY GIVEN`` makes what is asked out of the vectors in GIVEN, and
prints how many seconds it took; ``contenders.py NAME answer DIRECTORY GIVEN`` then does what each
line says, in JSON both ways. Some run in the peers' environment, where nothing of sqlembed is
installed, so each imports what it needs.
"""

import json
import os
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Vectors = npt.NDArray[np.float32]

TABLE = "CREATE TABLE rows(id INTEGER PRIMARY KEY, body TEXT)"
INSERT = "INSERT INTO rows VALUES (?, ?)"
LAST = "SELECT max(id) FROM rows"
SOME = {
    "1 of 100": "SELECT id FROM rows WHERE id % 100 = 0",
    "9 of 10": "SELECT id FROM rows WHERE id % 10 <> 0",
}
OVERSAMPLED = 20
"""Candidates by bits for each row that is wanted."""
MOST_OF_VEC0 = 4096
LINKS = 16
"""Of a node of a graph; HNSW's M."""
BUILD_DEPTH = 128
"""HNSW's ef_construction."""
SLICE = 50_000
MILLISECONDS = 1000


def depth(k: int) -> int:
    """HNSW's ef for *k* rows."""
    return 100 + 3 * k


class Contender(ABC):
    """One way to find the nearest rows. Rows have ids from 1."""

    def __init__(self, directory: Path, given: Path) -> None:
        """Import what it needs; *directory* is its own, *given* has the vectors."""
        self.directory = directory
        self.given = given / "vectors.npy"

    def vectors(self) -> Vectors:
        """Those to be found, of shape (rows, dimension)."""
        found: Vectors = np.load(self.given, mmap_mode="r")
        return found

    @abstractmethod
    def build(self) -> None:
        """Make what is searched, and keep it in the directory."""

    @abstractmethod
    def open(self) -> None:
        """Open it in a fresh process."""

    @abstractmethod
    def nearest(self, query: Vectors, k: int, among: str | None) -> list[int]:
        """The ids of the *k* nearest; *among* is a name of SOME."""

    def write(self) -> None:
        """Commit another row; only where that is asked."""
        raise NotImplementedError


class InSQL(Contender):
    """A database, through APSW."""

    def connect(self) -> Any:
        """A connection that can do it."""
        import apsw

        db = apsw.Connection(str(self.directory / "app.db"))
        db.enable_load_extension(True)
        db.load_extension(self.extension())
        return db

    def extension(self) -> str:
        """What is loaded."""
        raise NotImplementedError

    def open(self) -> None:
        self.db = self.connect()

    def ids(self, sql: str, *values: object) -> list[int]:
        """What *sql* finds."""
        return [row[0] for row in self.db.execute(sql, values)]

    def blobs(self) -> Iterator[tuple[int, bytes]]:
        """Ids and vectors."""
        vectors = self.vectors()
        for start in range(0, len(vectors), SLICE):
            part = np.array(vectors[start : start + SLICE])
            yield from enumerate((row.tobytes() for row in part), start + 1)

    def bodies(self, db: Any) -> None:
        """Make and fill the application's own table."""
        db.execute(TABLE)
        with db:
            db.executemany(INSERT, ((n, f"row {n}") for n in range(1, len(self.vectors()) + 1)))


class Ours(InSQL):
    """knn() of sqlembed; a stand-in for the model gives each row its vector."""

    INDEX = """SELECT sqlembed_index('rows', 'body', '{"words": null}')"""
    KNN = "SELECT id, distance FROM knn('rows', ?, ?)"

    def __init__(self, directory: Path, given: Path) -> None:
        super().__init__(directory, given)
        os.environ |= {"SQLEMBED_DATA": str(directory / "data"), "SQLEMBED_MODEL": "stand-in"}
        import backlog

        import sqlembed.doors.apsw_door  # noqa: F401  # imports are not counted

        vectors = self.vectors()

        class Given(backlog.StandIn):
            def embed(self, texts: Iterable[str], role: str) -> Vectors:
                numbers = [int(text.split()[1]) for text in texts]
                return np.array(vectors[np.array(numbers) % len(vectors) - 1])

        self.engine = backlog.stand_in(Given)

    def connect(self) -> Any:
        import sqlembed

        return sqlembed.connect(str(self.directory / "app.db"), engine=self.engine)

    def build(self) -> None:
        db = self.connect()
        db.execute("PRAGMA journal_mode = WAL")
        self.bodies(db)
        db.execute(self.INDEX).fetchall()
        db.close()

    def nearest(self, query: Vectors, k: int, among: str | None) -> list[int]:
        condition = f" WHERE id IN ({SOME[among]})" if among else ""
        return self.ids(self.KNN + condition, query.tobytes(), k)

    def write(self) -> None:
        other = self.connect()
        ((last,),) = other.execute(LAST)
        other.execute(INSERT, (last + 1, f"row {last + 1}"))
        other.execute("SELECT sqlembed_flush()").fetchall()
        other.close()


class Vec0(InSQL):
    """sqlite-vec's vec0: every float is compared."""

    CREATE = "CREATE VIRTUAL TABLE vec USING vec0(embedding float[{0}])"
    ADD = "INSERT INTO vec(rowid, embedding) VALUES (?, ?)"
    KNN = "SELECT rowid, distance FROM vec WHERE embedding MATCH ? AND k = ?"

    def extension(self) -> str:
        import sqlite_vec

        return str(sqlite_vec.loadable_path())

    def build(self) -> None:
        db = self.connect()
        db.execute("PRAGMA journal_mode = WAL")
        self.bodies(db)
        db.execute(self.CREATE.format(self.vectors().shape[1]))
        with db:
            db.executemany(self.ADD, self.blobs())
        db.close()

    def nearest(self, query: Vectors, k: int, among: str | None) -> list[int]:
        condition = f" AND rowid IN ({SOME[among]})" if among else ""
        return self.ids(f"{self.KNN}{condition} ORDER BY distance", query.tobytes(), k)

    def write(self) -> None:
        other = self.connect()
        with other:
            ((last,),) = other.execute(LAST)
            other.execute(INSERT, (last + 1, f"row {last + 1}"))
            other.execute(self.ADD, (last + 1, np.array(self.vectors()[0]).tobytes()))
        other.close()


class Vec0Bits(InSQL):
    """vec0 of signs, and a table of the vectors, by which the best of them are compared.

    That table is an ordinary one: it takes vec0 0.2 ms to get at a vector by its number.
    """

    CREATE = """
    CREATE TABLE floats(id INTEGER PRIMARY KEY, embedding BLOB);
    CREATE VIRTUAL TABLE vec USING vec0(embedding bit[{0}])"""
    ADD = "INSERT INTO floats VALUES (?, ?)"
    SIGNS = (
        "INSERT INTO vec(rowid, embedding) SELECT id, vec_quantize_binary(embedding) FROM floats"
    )
    KNN = """
    SELECT id, vec_distance_l2(embedding, ?1) AS distance FROM floats
    WHERE id IN (
        SELECT rowid FROM vec WHERE embedding MATCH vec_quantize_binary(?1) AND k = ?2
    ) ORDER BY distance LIMIT ?3"""

    def extension(self) -> str:
        import sqlite_vec

        return str(sqlite_vec.loadable_path())

    def build(self) -> None:
        db = self.connect()
        db.execute("PRAGMA journal_mode = WAL")
        db.execute(self.CREATE.format(self.vectors().shape[1]))
        with db:
            db.executemany(self.ADD, self.blobs())
            db.execute(self.SIGNS)
        db.close()

    def nearest(self, query: Vectors, k: int, among: str | None) -> list[int]:
        return self.ids(self.KNN, query.tobytes(), min(OVERSAMPLED * k, MOST_OF_VEC0), k)


class SqliteVector(InSQL):
    """sqlite-vector: quantized, and preloaded when it is opened."""

    INIT = "SELECT vector_init('vec', 'embedding', 'dimension={},type=FLOAT32,distance=cosine')"
    SCAN = "SELECT rowid, distance FROM {}('vec', 'embedding', ?, ?)"

    def extension(self) -> str:
        return f"{os.environ['PEERS']}/sqlite_vector/binaries/vector"

    def build(self) -> None:
        db = self.connect()
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("CREATE TABLE vec(id INTEGER PRIMARY KEY, embedding BLOB)")
        with db:
            db.executemany("INSERT INTO vec VALUES (?, ?)", self.blobs())
        db.execute(self.INIT.format(self.vectors().shape[1])).fetchall()
        db.execute("SELECT vector_quantize('vec', 'embedding')").fetchall()
        db.close()

    def open(self) -> None:
        super().open()
        self.db.execute(self.INIT.format(self.vectors().shape[1])).fetchall()
        self.db.execute("SELECT vector_quantize_preload('vec', 'embedding')").fetchall()
        names = [row[0] for row in self.db.execute("SELECT name FROM pragma_module_list")]
        (scan,) = (n for n in names if n.startswith("vector_quantize_scan") and "stream" not in n)
        self.scan = self.SCAN.format(scan)

    def nearest(self, query: Vectors, k: int, among: str | None) -> list[int]:
        return self.ids(self.scan, query.tobytes(), k)


class Vectorlite(InSQL):
    """vectorlite: hnswlib's graph as a virtual table, kept in a file beside the database."""

    CREATE = """
    CREATE VIRTUAL TABLE {temp}vec USING vectorlite(
        embedding float32[{width}] cosine,
        hnsw(max_elements={rows}, ef_construction={depth}, M={links}), '{file}')"""
    KNN = "SELECT rowid, distance FROM vec WHERE knn_search(embedding, knn_param(?, ?, ?))"

    def extension(self) -> str:
        return f"{os.environ['PEERS']}/vectorlite_py/vectorlite"

    def build(self) -> None:
        db = self.connect()
        rows, width = self.vectors().shape
        where = {"temp": "", "file": self.directory / "vec.hnsw"}
        sizes = {"rows": rows, "width": width, "depth": BUILD_DEPTH, "links": LINKS}
        db.execute(self.CREATE.format(**where, **sizes))
        with db:
            db.executemany("INSERT INTO vec(rowid, embedding) VALUES (?, ?)", self.blobs())
        db.close()

    def nearest(self, query: Vectors, k: int, among: str | None) -> list[int]:
        return self.ids(self.KNN, query.tobytes(), k, depth(k))


class Usearch(Contender):
    """usearch: a graph over what it takes by itself: bf16 or, on older machines, float16."""

    def __init__(self, directory: Path, given: Path) -> None:
        super().__init__(directory, given)
        from usearch.index import Index

        self.index = Index(
            ndim=self.vectors().shape[1],
            metric="cos",
            connectivity=LINKS,
            expansion_add=BUILD_DEPTH,
        )
        self.file = str(directory / "index.usearch")

    def build(self) -> None:
        vectors = self.vectors()
        for start in range(0, len(vectors), SLICE):
            part = np.array(vectors[start : start + SLICE])
            self.index.add(np.arange(start + 1, start + 1 + len(part)), part)
        self.index.save(self.file)

    def open(self) -> None:
        self.index.load(self.file)

    def nearest(self, query: Vectors, k: int, among: str | None) -> list[int]:
        self.index.expansion_search = depth(k)
        found: list[int] = self.index.search(query, k).keys.tolist()
        return found


class Faiss(Contender):
    """An index of faiss, of inner products."""

    def __init__(self, directory: Path, given: Path) -> None:
        super().__init__(directory, given)
        import faiss

        self.faiss = faiss
        self.file = str(directory / "index.faiss")

    @abstractmethod
    def made(self, rows: int, width: int) -> Any:
        """An empty index."""

    def build(self) -> None:
        vectors = self.vectors()
        index = self.made(*vectors.shape)
        if not index.is_trained:
            index.train(np.array(vectors[:: max(1, len(vectors) // SLICE)]))
        for start in range(0, len(vectors), SLICE):
            index.add(np.array(vectors[start : start + SLICE]))
        self.faiss.write_index(index, self.file)

    def open(self) -> None:
        self.index = self.faiss.read_index(self.file)

    def how(self, k: int) -> Any:
        """Parameters of a search."""
        return None

    def nearest(self, query: Vectors, k: int, among: str | None) -> list[int]:
        _, found = self.index.search(query[None], k, params=self.how(k))
        return [int(n) + 1 for n in found[0] if n >= 0]


class FaissFlat(Faiss):
    """Every float is compared."""

    def made(self, rows: int, width: int) -> Any:
        return self.faiss.IndexFlatIP(width)


class FaissGraph(Faiss):
    """HNSW over floats."""

    def made(self, rows: int, width: int) -> Any:
        index = self.faiss.IndexHNSWFlat(width, LINKS, self.faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = BUILD_DEPTH
        return index

    def how(self, k: int) -> Any:
        return self.faiss.SearchParametersHNSW(efSearch=depth(k))


class FaissLists(Faiss):
    """Lists of codes of four bits for two dimensions; the best are compared as floats."""

    PROBED = 64
    REFINED = 10

    def made(self, rows: int, width: int) -> Any:
        lists = max(32, round(rows**0.5))
        what = f"IVF{lists},PQ{width // 2}x4fs,RFlat"
        return self.faiss.index_factory(width, what, self.faiss.METRIC_INNER_PRODUCT)

    def how(self, k: int) -> Any:
        inner = self.faiss.SearchParametersIVF(nprobe=self.PROBED)
        return self.faiss.IndexRefineSearchParameters(
            k_factor=self.REFINED, base_index_params=inner
        )


class Numpy(Contender):
    """An array in memory, multiplied."""

    def build(self) -> None:
        """It is there."""

    def open(self) -> None:
        self.array: Vectors = np.load(self.given)

    def nearest(self, query: Vectors, k: int, among: str | None) -> list[int]:
        cosines = self.array @ query
        best = np.argpartition(-cosines, k)[:k]
        return [int(n) + 1 for n in best[np.argsort(-cosines[best])]]


KINDS: dict[str, type[Contender]] = {
    kind.__name__: kind
    for kind in (
        Ours,
        Vec0,
        Vec0Bits,
        SqliteVector,
        Vectorlite,
        Usearch,
        FaissFlat,
        FaissGraph,
        FaissLists,
        Numpy,
    )
}


def answer(contender: Contender, questions: Vectors) -> None:
    """Say how long each thing took that a line asks for, in milliseconds, and what was found."""
    print("{}", flush=True)  # imported
    for asked in map(json.loads, sys.stdin):
        found: list[int] = []
        begun = time.perf_counter()
        match asked:
            case {"query": query, "k": k, "among": among}:
                found = contender.nearest(questions[query], k, among)
            case {"do": "open"}:
                contender.open()
            case {"do": "write"}:
                contender.write()
        taken = MILLISECONDS * (time.perf_counter() - begun)
        print(json.dumps({"ms": taken, "ids": found}), flush=True)


def main(name: str, what: str, directory: str, given: str = "") -> None:
    """Build, or answer."""
    given = given or str(Path(directory).parent)
    contender = KINDS[name](Path(directory), Path(given))
    if what == "answer":
        return answer(contender, np.load(Path(given) / "questions.npy"))
    begun = time.perf_counter()
    contender.build()
    print(json.dumps({"seconds": time.perf_counter() - begun}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
