"""Read the SQL, migrations and manifests that ship with the package.

In an installed wheel they lie inside the package; in a source tree they stand
beside it, at the top, where readers look for them.
"""

from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parent


def directory(name: str) -> Path:
    """The directory *name* (``sql``, ``migrations`` or ``models``) of this installation."""
    inside = PACKAGE / name
    return inside if inside.is_dir() else PACKAGE.parent / name


@cache
def sql(name: str) -> str:
    """The text of ``sql/<name>.sql``."""
    return (directory("sql") / f"{name}.sql").read_text(encoding="utf-8")
