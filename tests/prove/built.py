"""The tiny models and what their references give, built once for each state of what builds them.

The references' environment (``make`` makes it, as ``.venv-references``) runs ``reference/make.py``
in a process of its own, and keeps what comes below itself.
"""

import fcntl
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
MAKERS = [
    HERE / "cases.py",
    *sorted(path for path in HERE.glob("reference/*.py") if path.name != "real_weights.py"),
]
"""What the tiny models are made by."""


def directory() -> Path:
    """A directory for each case of ``cases.py``, built if these scripts have not built it yet.

    One process builds it; those that come meanwhile, such as pytest's other workers, wait.

    :raises RuntimeError: they fail; the message is theirs
    """
    (sms,) = datasets.fetched(datasets.SMS)
    made = ENVIRONMENT / "proofs" / state(sms)
    made.parent.mkdir(exist_ok=True)
    with (made.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.is_dir():
            with tempfile.TemporaryDirectory(
                dir=made.parent,
                ignore_cleanup_errors=True,  # renamed, it is gone
            ) as partial:
                run("make.py", Path(partial), sms, CONVERTER)
                os.rename(partial, made)
    return made


def state(sms: Path) -> str:
    """A digest of all that the result depends on."""
    digest = hashlib.sha256(READY.read_bytes())
    for path in [*MAKERS, HERE.parent / "truth" / "all-MiniLM-L6-v2.json", sms]:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def run(script: str, *arguments: Path) -> None:
    """Run a script of ``reference/`` in its environment.

    :raises RuntimeError: it fails; the message is what it said
    """
    # Its modules are its own: `datasets` of our examples is not the library of that name.
    outside = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    offline = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run(
        [str(part) for part in (PYTHON, HERE / "reference" / script, *arguments)],
        env=outside | offline,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(f"{script} fails:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
