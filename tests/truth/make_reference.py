"""Write the reference's token ids and vectors that ``test_reference.py`` compares ours with.

Run by hand, in an environment with sentence-transformers and torch:
``python tests/truth/make_reference.py DIRECTORY`` with the unpacked all-MiniLM-L6-v2.
"""

import json
import sys
from base64 import b64encode
from pathlib import Path

import numpy as np
from sentence_transformers import SentenceTransformer

TEXTS = [
    "", " ", "hello", "Dinner at 8?", "The quick brown fox jumps over the lazy dog.",
    "URGENT! You have won a £1,000 cash prize. Call 09050000327 now!!!",
    "I'm gonna be l8, cya @ 7:30pm lol :-)", "UPPER lower MiXeD", "tabs\tand\nnewlines\r\nand  spaces",
    "user@example.com https://example.com/a?b=c&d=e#f", "C++ / C# / F# & <html> {json: \"yes\"}",
    "3.14159 -42 1e-9 1,000,000 50% $5.99 #1", "[CLS] tokens [SEP] in the [MASK] text [UNK] [PAD]",
    "##ing [unused1] \u2581underline", "antidisestablishmentarianism floccinaucinihilipilification",
    "Où est la bibliothèque ? Là-bas, à côté du café.", "Größe, Straße, Übermut, ÄÖÜ ẞ",
    "¿Dónde está el baño? ¡Aquí mismo, señor!", "Cześć, jak się masz? Źdźbło łąki.",
    "Где находится ближайшая станция метро?", "Πού είναι ο πλησιέστερος σταθμός; ΣΊΣΥΦΟΣ",
    "最近的地铁站在哪里？", "最寄りの駅はどこですか。カタカナ ひらがな", "가장 가까운 지하철역은 어디입니까?",
    "أين أقرب محطة مترو؟", "איפה תחנת הרכבת הקרובה?", "निकटतम मेट्रो स्टेशन कहाँ है?",
    "สถานีรถไฟใต้ดินที่ใกล้ที่สุดอยู่ที่ไหน", "Ga tàu điện ngầm gần nhất ở đâu?", "İstanbul ve Iğdır",
    "😀 great party 🎉🎉", "👨‍👩‍👧‍👦 family 🏳️‍🌈 flag 🏴󠁧󠁢󠁥󠁮󠁧󠁿 👍🏽", "a😀b c❤️d",
    "e\u0301 decomposed, \u00e9 composed, a\u0328\u0301", "zero\u200bwidth \u200ejoin\u200der \ufeffbom soft\u00adhyphen",
    "nbsp\u00a0here thin\u2009space ideographic\u3000space \u2028 line", "\x01control\x02 \x7f chars \x85",
    "ﬁ ﬂ ligatures Ⅷ ½ ① ² ℌ 𝒜𝓁𝓅𝒽𝒶 １２３ ＡＢＣ", "\ufffd replacement \ue000 private \U0010ffff",
    "x" * 99, "x" * 100, "x" * 101, "é" * 101, "word " * 100, "word " * 254, "the cat sat on the mat. " * 36 + "end end",
    "!?" * 60, "a" + "\u0301" * 40,
]  # fmt: skip


def main(directory: str) -> None:
    """Compute every text alone, in float32, and write what came."""
    model = SentenceTransformer(directory, device="cpu")
    limit = model.max_seq_length
    cases = []
    for text in TEXTS:
        ids = model.tokenizer(text, truncation=False)["input_ids"]
        assert len(ids) <= limit, (len(ids), text[:40])
        vector = model.encode(text, normalize_embeddings=True).astype("<f2")
        cases.append({"text": text, "ids": ids, "vector": b64encode(vector.tobytes()).decode()})
    assert max(len(case["ids"]) for case in cases) == limit, "one text has to reach the limit"
    lines = ",\n".join(json.dumps(case, ensure_ascii=True) for case in cases)
    Path(__file__).with_name("all-MiniLM-L6-v2.json").write_text(f"[\n{lines}\n]\n")
    print(len(cases), "texts,", max(len(c["ids"]) for c in cases), "tokens at most", np.__version__)


if __name__ == "__main__":
    main(sys.argv[1])
