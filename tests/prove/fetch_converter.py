"""Get llama.cpp's own converter out of the source package of llama-cpp-python.

``fetch_converter.py DIRECTORY`` leaves ``convert_hf_to_gguf.py`` and what it imports there: 2 of
the package's 77 MB. It is of the version whose llama.cpp computes here.
"""

import hashlib
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

VERSION = "0.3.36"
SHA256 = "832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e"
INSIDE = f"llama_cpp_python-{VERSION}/vendor/llama.cpp"
WANTED = ("convert_hf_to_gguf.py", "conversion", "gguf-py")


def main(directory: Path) -> None:
    """Download, check, unpack.

    :raises SystemExit: it is not the package that was opened and checked
    """
    with tempfile.TemporaryDirectory() as place:
        command = [sys.executable, "-m", "pip", "download", "-qq", "--no-deps", "--dest", place]
        wanted = ["--no-binary", "llama-cpp-python", f"llama-cpp-python=={VERSION}"]
        subprocess.run([*command, *wanted], check=True)
        (package,) = Path(place).iterdir()
        found = hashlib.sha256(package.read_bytes()).hexdigest()
        if found != SHA256:
            raise SystemExit(f"{package.name} has sha256 {found}, expected {SHA256}")
        with tarfile.open(package) as archive:
            members = [member for member in archive if _is_wanted(member)]
            for member in members:
                member.name = member.name.removeprefix(f"{INSIDE}/")
            archive.extractall(directory, members, filter="data")


def _is_wanted(member: tarfile.TarInfo) -> bool:
    _, found, path = member.name.partition(f"{INSIDE}/")
    return bool(found) and path.partition("/")[0] in WANTED


if __name__ == "__main__":
    main(Path(sys.argv[1]))
