"""The tiny models and what their references give, built once for each state of what builds them.

The references' environment (``make`` makes it, as ``.venv-references``) runs ``reference/make.py``
in a process of its own, and keeps what comes below itself.
"""

import hashlib
import os
import subprocess
import tempfile
from pathlib import Path

import datasets

HERE = Path(__file__).parent
ENVIRONMENT = HERE.parents[1] / ".venv-references"
READY = ENVIRONMENT / ".ready"
PYTHON = ENVIRONMENT / "bin" / "python"
CONVERTER = ENVIRONMENT / "llama.cpp"
SCRIPTS = [HERE / "cases.py", *sorted((HERE / "reference").glob("*.py"))]


def directory() -> Path:
    """A directory for each case of ``cases.py``, built if these scripts have not built it yet.

    :raises RuntimeError: they fail; the message is theirs
    """
    (sms,) = datasets.fetched(datasets.SMS)
    made = ENVIRONMENT / "proofs" / state(sms)
    if not made.is_dir():
        made.parent.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=made.parent) as partial:
            build(Path(partial), sms)
            os.rename(partial, made)
            Path(partial).mkdir()  # for the context to remove
    return made


def state(sms: Path) -> str:
    """A digest of all that the result depends on."""
    digest = hashlib.sha256(READY.read_bytes())
    for path in [*SCRIPTS, HERE.parent / "truth" / "all-MiniLM-L6-v2.json", sms]:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def build(target: Path, sms: Path) -> None:
    """Run the references' side."""
    command = [PYTHON, HERE / "reference" / "make.py", target, sms, CONVERTER]
    offline = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run(
        [str(part) for part in command],
        env=os.environ | offline,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(
            f"reference/make.py fails:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
        )
