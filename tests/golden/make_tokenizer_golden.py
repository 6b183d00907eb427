#!/usr/bin/env python3
"""Writes tests/golden/tokenizer.jsonl: texts and the ids that Hugging Face's `tokenizers` gives them with Gemma's whole vocabulary.

  tests/golden/make_tokenizer_golden.py FOLDER

FOLDER holds tokenizer.json. Needs the Python package `tokenizers`. Each line is {"text": T, "ids": [...]}; "hex" instead of "text" where the
bytes are no UTF-8 (the ids are those of the text that Python repairs them to). An id that comes n > 3 times in a row is [id, n]; a text that
is a unit many times over is [unit, n]."""

import argparse
import json
import random
from itertools import groupby
from pathlib import Path

from tokenizer_texts import SPECIALS, fixed_texts, random_text
from tokenizers import Tokenizer, __version__


def short_ids(ids):
    out = []
    for token, run in groupby(ids):
        n = len(list(run))
        out += [[token, n]] if n > 3 else [token] * n
    return out


def short_text(text):
    for size in range(1, 6):
        if len(text) > 8 * size and text == text[:size] * (len(text) // size):
            return [text[:size], len(text) // size]
    return text


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    folder = Path(parser.parse_args().folder)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    vocab = tokenizer.get_vocab(with_added_tokens=True)
    pieces = sorted(vocab, key=vocab.get)
    rng = random.Random(20260714)
    texts = [text for _, text in fixed_texts()] + [random_text(rng, pieces) for _ in range(250)]
    path = Path(__file__).with_name("tokenizer.jsonl")
    with path.open("w") as out:
        out.write(json.dumps({"made_with": f"tokenizers {__version__}", "pieces": len(vocab)}) + "\n")
        for text in texts:
            clean = text.decode(errors="replace") if isinstance(text, bytes) else text
            ids = tokenizer.encode(clean, add_special_tokens=False).ids
            row = {"hex": text.hex()} if isinstance(text, bytes) else {"text": short_text(text)}
            # Decoding is lossless but for broken UTF-8, "▁" (which reads as a space), and what the file itself says.
            row["ids"] = short_ids(ids)
            if tokenizer.decode(ids, skip_special_tokens=False) != clean:
                row["decoded"] = tokenizer.decode(ids, skip_special_tokens=False)
            if text in SPECIALS:
                row["without_special"] = tokenizer.decode(ids, skip_special_tokens=True)
            out.write(json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n")
    print(f"{path}: {len(texts)} texts, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
