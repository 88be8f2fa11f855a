"""The list of functions can be read where the engine's packages are not installed: in a build."""

import subprocess
import sys

HEAVY = ("apsw", "llama_cpp", "tokenizers", "gguf", "safetensors", "huggingface_hub",
         "prometheus_client", "sqlite_vec", "rich", "click", "regex")  # fmt: skip
PROGRAM = f"""
import sys, sqlembed.functions
print(len(sqlembed.functions.ALL), *(name for name in {HEAVY} if name in sys.modules))
"""


def test_importing_the_functions_imports_nothing_of_the_engine() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True
    )
    count, *imported = done.stdout.split()
    assert int(count) > 10
    assert imported == []
