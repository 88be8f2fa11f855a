"""Write the outputs of the examples in docs/*.md and README.md anew: python tests/docs/regenerate.py.

Give pages to do only these. An example that fails without an output block stops it.
"""

import sys
import tempfile
from pathlib import Path

from pages import PAGES, regenerated, surroundings


def main() -> None:
    """Rewrite each page whose outputs changed, and say so."""
    chosen = [Path(argument).absolute() for argument in sys.argv[1:]] or PAGES
    for page in chosen:
        before = page.read_text(encoding="utf-8")
        with tempfile.TemporaryDirectory() as directory, surroundings(Path(directory)):
            after = regenerated(before)
        page.write_text(after, encoding="utf-8")
        print(f"{page.name}: {'as it was' if after == before else 'rewritten'}")


if __name__ == "__main__":
    main()
