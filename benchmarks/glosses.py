"""The glosses of WordNet and their vectors: real and many.

Both are kept in the user's data directory. They come out of Debian's package wordnet-base, so there
must be apt-get and dpkg.
"""

import subprocess
import tempfile
from hashlib import blake2b
from pathlib import Path

import numpy as np
from report import tell
from vectors import Vectors, embedded

from sqlembed import settings
from sqlembed.engine.cache import Cache
from sqlembed.engine.local import LocalEngine

PACKAGE = "wordnet-base"
PARTS = ("noun", "verb", "adj", "adv")
SEED = 1
TOGETHER = 2000


def texts() -> list[str]:
    """The 117,659 meanings, each a word and its gloss, in an order fixed by a seed.

    :raises OSError, subprocess.SubprocessError: the package cannot be fetched here
    """
    found = []
    for path in _files():
        for line in path.read_text(encoding="utf-8").splitlines():
            if not line.startswith("  ") and "|" in line:
                meaning, gloss = line.split("|", 1)
                word = meaning.split()[4].replace("_", " ")
                found.append(f"{word}: {gloss.strip()}")
    order = np.random.default_rng(SEED).permutation(len(found))
    return [found[n] for n in order]


def vectors(limit: int | None = None) -> Vectors:
    """Those of the first *limit* texts, of unit length; all are computed once, in ten minutes.

    :raises OSError, subprocess.SubprocessError: the package cannot be fetched here
    """
    every = texts()
    chosen = every[:limit]
    kept = _directory() / f"{_digest(every)}.npy"
    if kept.exists():
        found: Vectors = np.array(np.load(kept, mmap_mode="r")[:limit])
        return found
    tell(f"embedding {len(chosen):,} glosses of WordNet" + " once: ten minutes" * (limit is None))
    with tempfile.TemporaryDirectory() as work:
        engine = LocalEngine(Cache(f"{work}/cache.db", settings.cache_bytes()))
        parts = range(0, len(chosen), TOGETHER)
        computed = np.concatenate([embedded(engine, chosen[n : n + TOGETHER]) for n in parts])
        engine.close()
    if limit is None:
        half = kept.with_suffix(".half.npy")
        np.save(half, computed)
        half.replace(kept)
    return computed


def _digest(every: list[str]) -> str:
    """What the vectors are of: the model's name, and the texts."""
    whole = "\n".join([settings.default_model(), *every])
    return blake2b(whole.encode(), digest_size=8).hexdigest()


def _directory() -> Path:
    return settings.data_directory() / "datasets" / "wordnet"


def _files() -> list[Path]:
    files = [_directory() / f"data.{part}" for part in PARTS]
    if not all(file.is_file() for file in files):
        _directory().mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=_directory()) as work:
            subprocess.run(["apt-get", "-qq", "download", PACKAGE], cwd=work, check=True)
            (package,) = Path(work).glob("*.deb")
            subprocess.run(["dpkg", "-x", package, work], check=True)
            for file in files:
                (Path(work) / "usr/share/wordnet" / file.name).replace(file)
    return files
