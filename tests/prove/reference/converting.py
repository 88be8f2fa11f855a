"""Convert one tiny model with llama.cpp's own converter: ``converting.py NAME PLACE LLAMA_CPP``.

The converter knows a tokenizer's cuts by a hash of what the real vocabulary gives for a text, which
no small vocabulary has. So their name, which it would look up, is told it; the rest is unpatched.
"""

import json
import runpy
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from cases import BY_NAME

CUTS = {
    "word_piece": "jina-v2-en",
    "byte_pairs_of_qwen": "qwen2",
    "byte_pairs_of_modern_bert": "modern-bert",
    "byte_pairs_of_roberta": "jina-v1-en",
    "unigram": "default",
    "byte_fallback_of_gemma": "default",
}
"""What llama.cpp calls each family's cuts before the pieces."""


def main(name: str, place: Path, llama_cpp: Path) -> None:
    """Write PLACE/NAME.gguf at f16."""
    case = BY_NAME[name]
    sys.path[:0] = [str(llama_cpp), str(llama_cpp / "gguf-py")]
    from conversion.base import TextModel

    TextModel.get_vocab_base_pre = lambda self, tokenizer: CUTS[case.tokenizer]
    source = place / "weights"
    if name == "qwen3-reranker":  # the converter knows it by the directory's name
        source = source.rename(place / "qwen3-reranker")
    sys.argv = [
        "convert_hf_to_gguf.py",
        str(source),
        "--outfile",
        str(place / f"{name}.gguf"),
        "--outtype",
        "f16",
    ]
    if case.inside:
        sys.argv.append("--sentence-transformers-dense-modules")
    runpy.run_path(str(llama_cpp / "convert_hf_to_gguf.py"), run_name="__main__")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
