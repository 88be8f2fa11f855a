"""``sqlembed doctor``: what is installed and in use, and what is wrong."""

import json
import os
import sys
from importlib.metadata import version
from pathlib import Path

import apsw
import click
import psutil

from sqlembed import __version__, extension, settings
from sqlembed.cli.tune import tune
from sqlembed.doors.apsw_door import shared_engine
from sqlembed.engine import computing
from sqlembed.engine.llama import kernels
from sqlembed.engine.local import LocalEngine
from sqlembed.errors import SqlembedError
from sqlembed.service.daemon import Place, answers
from sqlembed.weights import manifest, receipt
from sqlembed.weights.manifest import STATIC, Manifest

PACKAGES = ("sqlite-vec", "llama-cpp-python", "tokenizers", "numpy")


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option(
    "--tune",
    "tuning",
    is_flag=True,
    help="Measure how each installed model is computed fastest here, and do so from now on.",
)
def verb(as_json: bool, tuning: bool) -> None:
    """The default model is loaded for this, its file hashed and its probes tried.

    The exit code is 1 if something is wrong.
    """
    if tuning:
        tune(as_json)
        return
    engine = shared_engine()
    problems: list[str] = []
    facts = {
        **versions(),
        **machine(),
        **model(engine, problems),
        **cache(engine, problems),
        **data(problems),
        **hosts(problems),
    }
    engine.close()
    if as_json:
        click.echo(json.dumps({**facts, "problems": problems}))
    else:
        show(facts, problems)
    if problems:
        sys.exit(1)


def versions() -> dict[str, str]:
    """What is installed."""
    return {
        "sqlembed": __version__,
        "python": sys.version.split()[0],
        "sqlite": f"{apsw.sqlite_lib_version()} (apsw {apsw.apsw_version()})",
        **{name: version(name) for name in PACKAGES},
    }


def machine() -> dict[str, str]:
    """What computes, and how much of it we use."""
    built = kernels().partition(":")[2].split("|")
    used = [
        name.strip()
        for name, _, value in (part.partition("=") for part in built)
        if value.strip() == "1"
    ]
    cores = psutil.cpu_count(logical=False) or os.cpu_count()
    return {
        "kernels": " ".join(used),
        "threads": f"{settings.threads()} on {cores} cores",
    }


def model(engine: LocalEngine, problems: list[str]) -> dict[str, str]:
    """The default model: whether it is here, whole, and gives what its reference gives."""
    name = settings.default_model()
    facts = {"model": name}
    try:
        engine.load(name)
        space = engine.space(name)
        found = manifest.find(name)
        right = "probes right" if found.probes else "it has no probes"
        if found.server:
            state = f"on the server {found.server.url}, {right}"
        else:
            state = f"{receipt.read_receipt(found.base).file_type}, hash right, {right}"
            facts["computed"] = computed(found)
        facts["model"] = f"{name}, {space.dimension} dimensions, {state}"
        rerankers = [row for row in engine.models() if "rerank" in (row.used_for or "")]
        for row in rerankers:
            late = "cosine" if manifest.find(row.name).server else "late interaction"
            own = "a cross-encoder" if row.kind == "reranker" else late
            facts["rerank"] = f"{row.name}, {own}"
    except SqlembedError as error:
        problems.append(str(error))
        facts["model"] = f"{name}, not usable"
    return facts


def computed(found: Manifest) -> str:
    """By whose arithmetic a model is computed, and why."""
    if found.architecture == STATIC:
        return "by looking its words up in a table"
    path, batch = receipt.gguf_path(found.base), computing.way(found.base).batch_tokens
    if computing.own_contents(found, path):
        return f"by our own arithmetic, {batch} tokens a batch"
    against = computing.reason_against(found, path) or "that was chosen"
    return f"by llama.cpp, {batch} tokens a batch, as {against}"


def cache(engine: LocalEngine, problems: list[str]) -> dict[str, str]:
    """The cache file."""
    path = engine.cache.path
    entries = sum(row.entries for row in engine.cache.holdings())
    if engine.cache.problem:
        problems.append(
            f"the cache cannot be used, so nothing is remembered: {engine.cache.problem};"
            " set SQLEMBED_CACHE to a file that can be written"
        )
        return {"cache": f"{path}, not usable"}
    size = Path(path).stat().st_size / 1e6 if Path(path).is_file() else 0
    return {"cache": f"{path}, {entries:,} entries, {size:.1f} MB"}


def data(problems: list[str]) -> dict[str, str]:
    """The directory of weights."""
    directory = settings.data_directory()
    standing = next(path for path in (directory, *directory.absolute().parents) if path.exists())
    if not os.access(standing, os.W_OK):
        problems.append(
            f"{standing} cannot be written, so no model can be installed in {directory};"
            " set SQLEMBED_DATA to a directory that can"
        )
    return {"data": str(directory)}


def hosts(problems: list[str]) -> dict[str, str]:
    """What programs other than Python's APSW use: the extension, and the service."""
    library, place = extension.path(), Place(settings.socket_path())
    service = f"none runs at {place.path}"
    if place.held():
        service = f"process {place.holder()} at {place.path}"
        if not answers(place.path):
            problems.append(
                f"the service, {service}, does not answer; end it: sqlembed serve --stop"
            )
    return {"extension": str(library or "not built"), "service": service}


def show(facts: dict[str, str], problems: list[str]) -> None:
    """Print what was found, and last what is wrong."""
    width = max(map(len, facts))
    for name, value in facts.items():
        click.echo(f"{name:<{width}}  {value}")
    for problem in problems:
        click.echo(f"wrong: {problem}")
    if not problems:
        click.echo("nothing is wrong")
