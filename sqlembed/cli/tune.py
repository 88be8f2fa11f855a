"""``sqlembed doctor --tune``: find how each model is computed fastest here, and keep that."""

import json

import click

from sqlembed.cli.tables import show
from sqlembed.engine import calibration, computing
from sqlembed.errors import NotFoundError
from sqlembed.weights import manifest, receipt
from sqlembed.weights.manifest import STATIC, Manifest


def tune(as_json: bool) -> None:
    """Measure every model that is installed, and print what was measured.

    :raises NotFoundError: none is
    """
    found = [each for each in manifest.available().values() if _is_computed_here(each)]
    if not found:
        raise NotFoundError("no model is installed, so there is nothing to tune; sqlembed pull")
    rows = [row for each in found for row in _tuned(each)]
    if as_json:
        click.echo(json.dumps(rows))
    else:
        show(list(rows[0]), rows)


def _is_computed_here(each: Manifest) -> bool:
    """Whether tokens of it are computed, and on this machine."""
    computed = each.server is None and each.architecture != STATIC and each.kind != "generator"
    return computed and receipt.is_usable(each)


def _tuned(each: Manifest) -> list[dict[str, object]]:
    path, _ = receipt.verified(each.name)
    measured = calibration.speeds(each, path)
    chosen = calibration.best(measured)
    computing.keep(each.name, chosen)
    return [
        {
            "model": each.name,
            "arithmetic": way.arithmetic,
            "batch_tokens": way.batch_tokens,
            "texts_per_second": round(texts_per_second),
            "kept": "yes" if way == chosen else None,
        }
        for way, texts_per_second in measured
    ]
