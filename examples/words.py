"""Print the most frequent words of GloVe 6B, which its table has in that order, as CSV."""

import csv
import json
import sys

import gguf

from sqlembed.weights import receipt

MODEL = "glove-6b-50d"
MOST = 30_000


def main() -> None:
    """A row a word that is letters only: its rank, and the word."""
    fields = gguf.GGUFReader(receipt.gguf_path(MODEL)).fields
    definition = json.loads(fields[gguf.Keys.Tokenizer.HF_JSON].contents())
    rows = csv.writer(sys.stdout, lineterminator="\n")
    rows.writerow(("rank", "word"))
    for word, rank in definition["model"]["vocab"].items():
        if rank < MOST and word.isalpha():
            rows.writerow((rank + 1, word))


if __name__ == "__main__":
    main()
