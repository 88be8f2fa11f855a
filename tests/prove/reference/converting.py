"""Convert tiny models with llama.cpp's own converter, as its package has it.

The converter knows a tokenizer's cuts by a hash of what the real vocabulary gives for a text, which
no small vocabulary has. So their name, which it would look up, is told it; the rest is unpatched.
"""

import runpy
import sys
from collections.abc import Sequence
from pathlib import Path
from unittest import mock

from cases import Case

CUTS = {
    "word_piece": "jina-v2-en",
    "byte_pairs_of_qwen": "qwen2",
    "byte_pairs_of_modern_bert": "modern-bert",
    "byte_pairs_of_roberta": "jina-v1-en",
    "unigram": "default",
    "byte_fallback_of_gemma": "default",
}
"""What llama.cpp calls each family's cuts before the pieces."""
NAMED = {"qwen3-reranker"}
"""Cases that the converter knows by the name of their directory."""


def convert(cases: Sequence[Case], directory: Path, llama_cpp: Path) -> None:
    """Write DIRECTORY/NAME/NAME.gguf at f16 for each case.

    :param llama_cpp: the directory of ``convert_hf_to_gguf.py``
    :raises SystemExit: the converter refuses one
    """
    sys.path[:0] = [str(llama_cpp), str(llama_cpp / "gguf-py")]
    from conversion.base import TextModel

    for case in cases:
        place = directory / case.name
        source = place / "weights"
        if case.name in NAMED:
            (place / case.name).symlink_to(source)
            source = place / case.name
        options = ["--outfile", str(place / f"{case.name}.gguf"), "--outtype", "f16"]
        if case.inside:
            options.append("--sentence-transformers-dense-modules")
        command = ["convert_hf_to_gguf.py", str(source), *options]
        cuts = CUTS[case.tokenizer]
        with (
            mock.patch.object(
                TextModel, "get_vocab_base_pre", lambda self, tokenizer, cuts=cuts: cuts
            ),
            mock.patch.object(sys, "argv", command),
        ):
            runpy.run_path(str(llama_cpp / command[0]), run_name="__main__")
        print("converted", case.name, flush=True)
