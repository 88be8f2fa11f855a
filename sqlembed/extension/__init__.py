"""The loadable extension: C files, what generates and builds them, and where the result is.

``sqlembed.h`` draws the C files in the order of the data. They know no model and no Python.
"""

from pathlib import Path

MISSING = (
    "the loadable extension was not built, as SQLite's headers or a C compiler were missing when"
    " sqlembed was installed; install them (Debian: apt-get install gcc libsqlite3-dev) and install"
    " sqlembed again: pip install --force-reinstall --no-deps sqlembed"
)


def path() -> Path | None:
    """Where ``sqlembed.so`` is; None if it was not built."""
    found = Path(__file__).with_name("sqlembed.so")
    return found if found.is_file() else None
