"""Every benchmark in one run: tables on the terminal, in results.json and in README.md.

``make bench`` runs this. The README shows the last two full runs side by side;
``--quick`` is a smoke run that leaves it alone.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import report
import texts
from machine import Machine, Others, await_quiet, describe
from report import Table

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results.json"
README = HERE / "README.md"
BEGIN, END = "<!-- figures: make bench -->\n", "<!-- end of figures -->"
BENCHMARKS = ("embedding", "batches", "calls", "service", "writes", "search", "nearest")
KEPT_RUNS = 2
# Set on some machines for the sake of old OpenBLAS builds; they slow numpy down.
UNSET = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "SQLEMBED_THREADS", "SQLEMBED_MODEL")


def main(argv: Sequence[str] | None = None) -> None:
    """Run, print, and unless it is quick, keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a smoke run of a minute or two")
    parser.add_argument("--only", choices=BENCHMARKS, action="append", help="keeps nothing")
    arguments = parser.parse_args(argv)
    texts.model()
    if not arguments.quick:
        await_quiet()
    machine, others = describe(), Others()
    report.tell(f"{machine.cpu}, {machine.cores} cores, load {machine.load:.2f}")
    tables = [
        table
        for name in arguments.only or BENCHMARKS
        for table in measured(name, quick=arguments.quick)
    ]
    machine = replace(machine, others=others.share())
    report.tell(f"Other processes took {machine.others:.0%} of the machine meanwhile.")
    if not (arguments.quick or arguments.only):
        keep(machine, tables)


def measured(name: str, *, quick: bool) -> list[Table]:
    """Run one benchmark in a process of its own, with a cache of its own."""
    report.console.rule(name)
    with tempfile.TemporaryDirectory() as work:
        environment = {key: value for key, value in os.environ.items() if key not in UNSET}
        environment["SQLEMBED_CACHE"] = f"{work}/cache.db"
        kept = Path(work) / "tables.json"
        command = [sys.executable, str(HERE / f"{name}.py"), "--json", str(kept)]
        subprocess.run([*command, *["--quick"] * quick], env=environment, check=True)
        return report.load(kept)


def keep(machine: Machine, tables: list[Table]) -> None:
    """Add a run to results.json, and write the last two into README.md."""
    runs = json.loads(RESULTS.read_text()) if RESULTS.is_file() else []
    runs.append({"machine": asdict(machine), "tables": [asdict(table) for table in tables]})
    runs = runs[-KEPT_RUNS:]
    RESULTS.write_text(json.dumps(runs, indent=1) + "\n")
    machines = [Machine(**run["machine"]) for run in runs]
    lines = [f"- {each.line()}" for each in machines]
    many = [
        [
            report.from_json(kept)
            for run in runs
            for kept in run["tables"]
            if kept["title"] == table.title
        ]
        for table in tables
    ]
    parts = ["\n".join(lines), *(report.markdown(each) for each in many)]
    head, _, rest = README.read_text(encoding="utf-8").partition(BEGIN)
    _, _, tail = rest.partition(END)
    figures = "\n\n".join(parts)
    README.write_text(f"{head}{BEGIN}\n{figures}\n\n{END}{tail}", encoding="utf-8")


if __name__ == "__main__":
    main()
