"""A wheel holds its SQL, migrations and manifests, and works away from the source tree."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROGRAM = """
import sys
sys.path.insert(0, sys.argv[1])
from sqlembed import resources
from sqlembed.index import catalog
from sqlembed.weights import manifest
assert resources.PACKAGE.is_relative_to(sys.argv[1]), resources.PACKAGE
assert "CREATE TABLE" in resources.sql("cache_schema")
assert catalog._migrations()[0][:2] == (1, "first")
assert "all-MiniLM-L6-v2" in manifest.available()
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run(
        [*command, "--wheel-dir", str(directory), str(ROOT)], check=True, capture_output=True
    )
    (built,) = directory.glob("*.whl")
    return built


def test_everything_is_inside(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for top in ("sql", "migrations", "models"):
        for path in (ROOT / top).iterdir():
            if path.suffix in (".sql", ".toml"):
                assert f"sqlembed/{top}/{path.name}" in names
    for path in (ROOT / "sqlembed").rglob("*.py"):
        assert path.relative_to(ROOT).as_posix() in names
    assert "sqlembed/py.typed" in names
    assert any(name.endswith("LICENSE-MIT") for name in names)
    assert any(name.endswith("LICENSE-APACHE") for name in names)


def test_it_works_away_from_the_source(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path / "installed")
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "installed")]
    subprocess.run(command, check=True, cwd=tmp_path)
