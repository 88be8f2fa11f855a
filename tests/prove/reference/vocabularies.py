"""Small tokenizers of the families that embedding models have, trained on real text on the spot.

Each is transformers' own tokenizer class over a vocabulary of a thousand or two pieces: the rules
(normalizer, cuts before the pieces, template) are the real model's, only the pieces are fewer.
"""

import io
import json
from collections.abc import Sequence
from pathlib import Path

import sentencepiece
from sentencepiece import sentencepiece_model_pb2
from tokenizers import AddedToken, processors, trainers
from tokenizers.pre_tokenizers import ByteLevel
from transformers import (
    BertTokenizer,
    GemmaTokenizer,
    GPT2Tokenizer,
    PreTrainedTokenizerBase,
    Qwen2Tokenizer,
    RobertaTokenizer,
    XLMRobertaTokenizer,
)
from transformers.tokenization_utils_base import generate_merges

PIECES = 2000
TURNS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")


def word_piece(lines: Sequence[str]) -> PreTrainedTokenizerBase:
    """BERT's: lower case, without accents, cut at spaces and signs, ``##`` inside a word."""
    model = BertTokenizer()._tokenizer
    model.post_processor = None
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trainer = trainers.WordPieceTrainer(vocab_size=PIECES, special_tokens=specials)
    model.train_from_iterator(lines, trainer)
    return BertTokenizer(vocab=model.get_vocab())


def byte_pairs_of_qwen(lines: Sequence[str], end: str | None) -> PreTrainedTokenizerBase:
    """Qwen2's and Qwen3's: pairs of bytes; *end* is appended to each text, as embedders have it."""
    model = Qwen2Tokenizer()._tokenizer
    _train_byte_pairs(model, lines, TURNS)
    made = Qwen2Tokenizer(**_vocabulary_and_merges(model))
    made.add_tokens([AddedToken(turn, special=True, normalized=False) for turn in TURNS])
    if end is not None:
        made._tokenizer.post_processor = processors.TemplateProcessing(
            single=["$A", end],
            pair=["$A", "$B", end],
            special_tokens=[(end, made.convert_tokens_to_ids(end))],
        )
    return made


def byte_pairs_of_modern_bert(lines: Sequence[str]) -> PreTrainedTokenizerBase:
    """ModernBERT's: GPT-2's pairs of bytes between ``[CLS]`` and ``[SEP]``."""
    specials = ("[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]")
    model = GPT2Tokenizer()._tokenizer
    _train_byte_pairs(model, lines, specials)
    names = {"unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "pad": "[PAD]", "mask": "[MASK]"}
    made = GPT2Tokenizer(
        **_vocabulary_and_merges(model),
        **{f"{role}_token": name for role, name in names.items()},
        bos_token="[CLS]",
        eos_token="[SEP]",
    )
    made._tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0",
        pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[(name, made.convert_tokens_to_ids(name)) for name in ("[CLS]", "[SEP]")],
    )
    return made


def byte_pairs_of_roberta(lines: Sequence[str]) -> PreTrainedTokenizerBase:
    """RoBERTa's: GPT-2's pairs of bytes, two texts with two end tokens between, no segments."""
    specials = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
    model = GPT2Tokenizer()._tokenizer
    _train_byte_pairs(model, lines, specials)
    return RobertaTokenizer(**_vocabulary_and_merges(model))


def unigram(lines: Sequence[str], directory: Path) -> PreTrainedTokenizerBase:
    """XLM-RoBERTa's, with ``sentencepiece.bpe.model`` left in *directory* for converters."""
    data = _sentences(lines, model_type="unigram", normalization_rule_name="nmt_nfkc")
    (directory / "sentencepiece.bpe.model").write_bytes(data)
    proto = sentencepiece_model_pb2.ModelProto.FromString(data)
    head = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    pieces = [(piece.piece, piece.score) for piece in proto.pieces[3:]]
    return XLMRobertaTokenizer(
        vocab=[*head, *pieces, ("<mask>", 0.0)],
        _spm_precompiled_charsmap=proto.normalizer_spec.precompiled_charsmap,
    )


def byte_fallback_of_gemma(lines: Sequence[str], directory: Path) -> PreTrainedTokenizerBase:
    """Gemma's, between ``<bos>`` and ``<eos>``, with ``tokenizer.model`` left in *directory*."""
    data = _sentences(
        lines,
        model_type="bpe",
        byte_fallback=True,
        split_digits=True,
        normalization_rule_name="identity",
        add_dummy_prefix=False,
        remove_extra_whitespaces=False,
        allow_whitespace_only_pieces=True,
        pad_id=0,
        eos_id=1,
        bos_id=2,
        unk_id=3,
        pad_piece="<pad>",
        eos_piece="<eos>",
        bos_piece="<bos>",
        control_symbols=["<mask>"],
    )
    (directory / "tokenizer.model").write_bytes(data)
    proto = sentencepiece_model_pb2.ModelProto.FromString(data)
    vocabulary = {piece.piece: number for number, piece in enumerate(proto.pieces)}
    scores = {piece.piece: piece.score for piece in proto.pieces}
    made = GemmaTokenizer(vocab=vocabulary, merges=generate_merges(vocabulary, scores))
    made._tokenizer.post_processor = processors.TemplateProcessing(
        single=["<bos>", "$A", "<eos>"],
        pair=["<bos>", "$A", "<eos>", "$B", "<eos>"],
        special_tokens=[("<bos>", made.bos_token_id), ("<eos>", made.eos_token_id)],
    )
    return made


def _train_byte_pairs(model: object, lines: Sequence[str], specials: Sequence[str]) -> None:
    trainer = trainers.BpeTrainer(
        vocab_size=PIECES,
        special_tokens=list(specials),
        initial_alphabet=ByteLevel.alphabet(),
        show_progress=False,
    )
    model.train_from_iterator(lines, trainer)


def _vocabulary_and_merges(model: object) -> dict[str, object]:
    trained = json.loads(model.to_str())["model"]
    merges = [tuple(pair) for pair in trained["merges"]]
    return {"vocab": trained["vocab"], "merges": merges}


def _sentences(lines: Sequence[str], **options: object) -> bytes:
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_writer=written,
        vocab_size=PIECES,
        hard_vocab_limit=False,
        character_coverage=0.9995,
        num_threads=1,
        minloglevel=2,
        **options,
    )
    return written.getvalue()
