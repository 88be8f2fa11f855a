"""llama.cpp's own quantizer, as a program: ``python -m sqlembed.weights.quantizer IN OUT TYPE``.

It is C++ and may abort, and a host must not die of a file; so :mod:`sqlembed.weights.quantize`
runs it in a process of its own. Nothing imports this file.
"""

import ctypes
import re
import sys

import llama_cpp

EXACT = ("cls.weight", "cls.output.weight")
"""A reranker's head: small, and its scores are what is asked for, so it stays float32."""
F32 = 0
"""``GGML_TYPE_F32`` of ggml.h, which the binding does not export."""


def main(source: str, target: str, file_type: int, requantize: bool) -> int:
    """Quantize the GGUF *source* to *target*.

    :param file_type: a ``LLAMA_FTYPE`` of llama.h
    :param requantize: also weights that are quantized already
    :returns: the exit code; llama.cpp has said on stderr what is wrong
    """
    patterns = [f"^{re.escape(name)}$".encode() for name in EXACT]
    overrides = [llama_cpp.llama_model_tensor_override(each, F32) for each in (*patterns, None)]
    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.ftype = file_type
    parameters.allow_requantize = requantize
    parameters.tt_overrides = (llama_cpp.llama_model_tensor_override * len(overrides))(*overrides)
    failed = llama_cpp.llama_model_quantize(
        source.encode(), target.encode(), ctypes.byref(parameters)
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), "requantize" in sys.argv[4:]))
