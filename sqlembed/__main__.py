"""``python -m sqlembed``: the ``sqlembed`` command of this Python."""

from sqlembed.cli import main

main(prog_name="sqlembed")
