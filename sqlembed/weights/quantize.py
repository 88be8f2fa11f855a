"""Store a GGUF's matrices in fewer bits, by llama.cpp's own quantizer in a process of its own.

Its k-quants store 256 weights together. Where a matrix has a number of columns that 256 does
not divide, as BERT's 384, it takes formats of 32 weights with more bits: ``q4_k_m`` becomes a
mixture of Q5_0 and Q8_0 (``tensor_type_fallback`` in llama.cpp's ``llama-quant.cpp``).
"""

import errno
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from gguf import LlamaFileType

from sqlembed.errors import ModelError, ModelFileError, OptionError
from sqlembed.weights.gguf_file import FILE_TYPES as OURS
from sqlembed.weights.replacing import replacing

K_QUANTS = {
    "q6_k": LlamaFileType.MOSTLY_Q6_K,
    "q5_k_m": LlamaFileType.MOSTLY_Q5_K_M,
    "q4_k_m": LlamaFileType.MOSTLY_Q4_K_M,
}
"""What only llama.cpp writes: 6.6, 5.7 and 4.9 bits a weight where 256 divides the columns."""
FILE_TYPES = {**{name: llama for name, (_, llama) in OURS.items()}, **K_QUANTS}
"""Every way to store matrices."""

ALREADY = re.compile(r"requantizing from type (\w+) is disabled")
SAID = re.compile(r"(?:failed to quantize|error): *(.+)", re.IGNORECASE)
LITTLE_ROOM = 1 << 20
"""Bytes left on a disk that count as none, since llama.cpp does not say why a write failed."""


def checked_file_type(file_type: str) -> str:
    """*file_type*, if it is one.

    :raises OptionError: it is not
    """
    if file_type not in FILE_TYPES:
        raise OptionError(f"file type {file_type!r}; the file types are {', '.join(FILE_TYPES)}")
    return file_type


def quantize(source: Path, target: Path, file_type: str, *, requantize: bool = False) -> None:
    """Write the GGUF *source* as *target* with its matrices stored as *file_type*, or nothing.

    :param requantize: also from weights that are quantized already, whose losses add up
    :raises OptionError: no such file type, or *source* is quantized already
    :raises ModelFileError: llama.cpp cannot read *source*, or ended over it
    :raises OSError: the disk is full, or the directory cannot be written
    """
    number = FILE_TYPES[checked_file_type(file_type)].value
    with replacing(target) as partial:
        command = [sys.executable, "-P", "-m", "sqlembed.weights.quantizer"]
        command += [str(source.absolute()), str(partial.absolute()), str(number)]
        # Who calls us may have us from a place of its own.
        paths = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        done = subprocess.run(
            command + ["requantize"] * requantize,
            env=paths,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
            errors="replace",
        )
        if done.returncode:
            if shutil.disk_usage(partial.parent).free < LITTLE_ROOM:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target))
            raise _reason(source, file_type, done.returncode, done.stderr)


def _reason(source: Path, file_type: str, code: int, said: str) -> ModelError | OptionError:
    if already := ALREADY.search(said):
        return OptionError(
            f"{source} is quantized already ({already[1]}), and as {file_type} it would lose twice;"
            " take its f16 or f32 weights, or say --requantize"
        )
    words = SAID.findall(said) or said.strip().splitlines()[-1:] or ["nothing"]
    ended = f"was ended by {signal.Signals(-code).name}" if code < 0 else "failed"
    return ModelFileError(
        f"llama.cpp's quantizer {ended} on {source}: {words[-1].strip()}; nothing was written"
    )
