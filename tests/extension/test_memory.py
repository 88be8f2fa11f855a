"""Every allocation fails once, the extension's and SQLite's: an error in words, and nothing else."""

from pathlib import Path

from extension import compiled

STRIDE = 13
"""Beyond the first allocations of a statement, one of so many fails."""


def test_out_of_memory(service: Path, tmp_path: Path) -> None:
    target = compiled.HERE / "out_of_memory.c"
    wrapped = "-Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc"
    program = compiled.program(tmp_path, target, wrapped)
    said = compiled.run([str(program), str(STRIDE)])
    assert int(said.split()[0]) > 1000, said
