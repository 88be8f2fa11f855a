"""What is proven on tiny weights: an architecture each, with the settings that real models have.

Read by both sides, the references' (which builds them) and ours (which is compared); it
imports nothing of either.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

TESTS = Path(__file__).parents[1]
TEXTS: list[str] = [
    case["text"] for case in json.loads((TESTS / "truth/all-MiniLM-L6-v2.json").read_text())
]
"""Hard texts: many scripts, emoji, white space, nothing at all, long words."""
PAIRS: list[tuple[str, str]] = [
    (query, document)
    for query in ("how do I restart the router", "Wo ist der Bahnhof?", "最近的地铁站在哪里？")
    for document in TEXTS[2:26]
]
INSTRUCTION = "Given a web search query, retrieve relevant passages that answer the query"
TEMPLATE = (
    "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and"
    ' the Instruct provided. Note that the answer can only be "yes" or "no".<|im_end|>\n'
    f"<|im_start|>user\n<Instruct>: {INSTRUCTION}\n<Query>: {{query}}\n<Document>: {{document}}"
    "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
)
"""How Qwen3-Reranker is asked (https://huggingface.co/Qwen/Qwen3-Reranker-0.6B)."""


@dataclass(frozen=True)
class Dense:
    """A linear head after the pooling, as sentence-transformers has it."""

    path: str
    """Its file in the model's directory."""
    read: int
    give: int
    activation: str = "identity"
    bias: bool = False
    tensor: str = "linear"
    """What it is called there."""
    width: int | None = None
    """Of several heads the one that serves this width (stella)."""


@dataclass(frozen=True)
class Case:
    """One tiny model."""

    name: str
    stands_for: str
    """Real models of this kind."""
    model: str
    """The function of ``reference/architectures.py`` that makes it."""
    tokenizer: str
    """The function of ``reference/vocabularies.py`` that trains it."""
    architecture: str
    """What llama.cpp calls it."""
    pooling: str
    attention: str = "bidirectional"
    prompts: Mapping[str, str] = field(default_factory=dict)
    end: str | None = None
    dense: tuple[Dense, ...] = ()
    inside: bool = False
    """Whether the dense layers are in the GGUF, where llama.cpp applies them."""
    layer_norm: bool = False
    dimensions: tuple[int, ...] = ()
    kind: str = "embedder"
    labels: int = 1
    converter: str = "llama.cpp"
    """Whose: ``llama.cpp``'s own or ``sqlembed``'s."""


WIDTH = 64
SEARCH = {"query": "search_query: ", "document": "search_document: "}
E5 = {"query": "query: ", "document": "passage: "}
BGE = {"query": "Represent this sentence for searching relevant passages: "}
GEMMA = {"query": "task: search result | query: ", "document": "title: none | text: "}
INSTRUCT = {"query": f"Instruct: {INSTRUCTION}\nQuery: "}
END = "<|endoftext|>"


def _qwen2(name: str, stands_for: str, pooling: str, attention: str, **more: object) -> Case:
    return Case(
        name,
        stands_for,
        "qwen2",
        "byte_pairs_of_qwen",
        "qwen2",
        pooling,
        attention,
        prompts=INSTRUCT,
        end=END,
        **more,
    )


CASES = [
    Case(
        "bert-mean", "all-MiniLM-L6-v2, all-MiniLM-L12-v2",
        "bert", "word_piece", "bert", "mean", converter="sqlembed",
    ),
    Case(
        "bert-cls", "ember-v1, bge-*-en-v1.5, snowflake-arctic-embed-xs to -l",
        "bert", "word_piece", "bert", "cls", prompts=BGE, converter="sqlembed",
    ),
    Case(
        "bert-unigram", "multilingual-e5-small",
        "bert", "unigram", "bert", "mean", prompts=E5, converter="sqlembed",
    ),
    Case(
        "bert-theirs", "the same converted by llama.cpp",
        "bert", "word_piece", "bert", "mean",
    ),
    Case(
        "xlm-roberta-cls", "bge-m3 (dense vectors)",
        "xlm_roberta", "unigram", "bert", "cls",
    ),
    Case(
        "xlm-roberta-mean", "multilingual-e5-base, -large",
        "xlm_roberta", "unigram", "bert", "mean", prompts=E5,
    ),
    Case(
        "nomic-bert", "nomic-embed-text-v1.5",
        "nomic_bert", "word_piece", "nomic-bert", "mean", prompts=SEARCH,
        layer_norm=True, dimensions=(16, 32),
    ),
    Case(
        "modern-bert", "modernbert-embed, gte-modernbert, granite-embedding",
        "modern_bert", "byte_pairs_of_modern_bert", "modern-bert", "mean", prompts=SEARCH,
    ),
    Case(
        "jina-bert", "jina-embeddings-v2 (the encoder of jina-reranker-v1)",
        "jina_bert", "word_piece", "jina-bert-v2", "mean",
    ),
    _qwen2("qwen2-bidirectional-last", "gte-Qwen2-1.5B-instruct", "last", "bidirectional"),
    _qwen2("qwen2-bidirectional-mean", "KaLM, if its reference is bidirectional", "mean",
           "bidirectional"),
    _qwen2("qwen2-causal-last", "gte-Qwen2 as most GGUFs run it", "last", "causal"),
    _qwen2("qwen2-causal-mean", "KaLM-embedding-multilingual-mini, if causal", "mean", "causal"),
    _qwen2(
        "stella", "stella_en_1.5B_v5", "mean", "bidirectional",
        dense=(
            Dense("2_Dense_32/model.safetensors", WIDTH, 32, bias=True, width=32),
            Dense("2_Dense_96/model.safetensors", WIDTH, 96, bias=True, width=96),
        ),
    ),
    Case(
        "qwen3", "Qwen3-Embedding-0.6B",
        "qwen3", "byte_pairs_of_qwen", "qwen3", "last", "causal",
        prompts={"query": f"Instruct: {INSTRUCTION}\nQuery:"}, end=END, dimensions=(16, 32),
    ),
    Case(
        "gemma-embedding", "EmbeddingGemma-300M",
        "gemma", "byte_fallback_of_gemma", "gemma-embedding", "mean", prompts=GEMMA, end="<eos>",
        dense=(Dense("2_Dense/model.safetensors", WIDTH, 192), Dense("3_Dense/model.safetensors", 192, WIDTH)), dimensions=(16, 32),
    ),
    Case(
        "gemma-embedding-inside", "EmbeddingGemma-300M whose GGUF has the dense layers inside",
        "gemma", "byte_fallback_of_gemma", "gemma-embedding", "mean", prompts=GEMMA, end="<eos>",
        dense=(Dense("2_Dense/model.safetensors", WIDTH, 192),
               Dense("3_Dense/model.safetensors", 192, WIDTH)), inside=True,
    ),
    Case(
        "bert-ranker", "ms-marco-MiniLM-L6 (segment ids)",
        "bert_ranker", "word_piece", "bert", "rank", kind="reranker", converter="sqlembed",
    ),
    Case(
        "bert-ranker-theirs", "the same converted by llama.cpp",
        "bert_ranker", "word_piece", "bert", "rank", kind="reranker",
    ),
    Case(
        "xlm-roberta-ranker", "bge-reranker-v2-m3",
        "xlm_roberta_ranker", "unigram", "bert", "rank", kind="reranker",
    ),
    Case(
        "jina-bert-ranker", "jina-reranker-v1-tiny-en",
        "jina_bert_ranker", "byte_pairs_of_roberta", "jina-bert-v2", "cls", kind="reranker",
        dense=(
            Dense("model.safetensors", WIDTH, WIDTH, "tanh", True, "bert.pooler.dense"),
            Dense("model.safetensors", WIDTH, 1, bias=True, tensor="classifier"),
        ),
    ),
    Case(
        "qwen3-reranker", "Qwen3-Reranker-0.6B",
        "qwen3_generator", "byte_pairs_of_qwen", "qwen3", "rank", "causal", kind="reranker",
        labels=2,
    ),
]  # fmt: skip
BY_NAME = {case.name: case for case in CASES}
