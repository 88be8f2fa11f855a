"""Fuzz the extension's side of the protocol with libFuzzer; what ``make fuzz`` runs.

Its argument is how many seconds. What it finds is left in the directory ``fuzz``, which also
keeps the corpus for the next time.
"""

import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from extension import compiled, mutations

WRAPPED = "-Wl,--wrap=recv,--wrap=send"


def main(seconds: int) -> int:
    """Build and run; the exit code is the fuzzer's."""
    place = Path("fuzz")
    corpus = place / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(mutations.seeds()):
        (corpus / f"seed-{number:02}").write_bytes(seed)
    target = compiled.HERE / "fuzz_frames.c"
    fuzzer = compiled.program(place, target, "-fsanitize=fuzzer", WRAPPED, compiler="clang")
    options = [f"-max_total_time={seconds}", "-max_len=4096", "-timeout=10", "-print_final_stats=1"]
    return subprocess.run([fuzzer.resolve(), *options, "corpus"], cwd=place).returncode


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 300))
