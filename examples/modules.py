"""Print the modules of Python's standard library and what each says of itself, as CSV."""

import ast
import csv
import sys
import sysconfig
from pathlib import Path


def main() -> None:
    """A row a module that has a docstring: its name, and the first paragraph."""
    directory = Path(sysconfig.get_path("stdlib"))
    rows = csv.writer(sys.stdout, lineterminator="\n")
    rows.writerow(("name", "about"))
    for name in sorted(sys.stdlib_module_names):
        package, module = directory / name / "__init__.py", directory / f"{name}.py"
        path = package if package.is_file() else module
        if name.startswith("_") or not path.is_file():
            continue
        about = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        paragraph = " ".join(about.partition("\n\n")[0].split())
        if paragraph:
            rows.writerow((name, paragraph))


if __name__ == "__main__":
    main()
