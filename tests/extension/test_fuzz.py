"""The extension reads what makes no sense: refused in words, within bounds, nothing left behind.

A few thousand inputs each time; ``fuzz.py`` goes on for as long as it is told.
"""

import struct
from pathlib import Path

from extension import compiled, mutations

INPUTS = 4000


def test_answers_without_sense(tmp_path: Path) -> None:
    target = compiled.HERE / "fuzz_frames.c"
    wrapped = "-Wl,--wrap=recv,--wrap=send"
    program = compiled.program(tmp_path, target, "-DFUZZ_FILES", wrapped)
    inputs = tmp_path / "inputs"
    with inputs.open("wb") as file:
        for each in mutations.mutated(INPUTS, seed=1):
            file.write(struct.pack("<I", len(each)) + each)
    compiled.run([str(program), str(inputs)])
