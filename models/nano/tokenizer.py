#!/usr/bin/env python3
"""Trains the tokenizer of carat-nano on its own corpus and writes tokenizer.json and tokenizer_config.json.

  python3 models/nano/tokenizer.py --out models/nano/base

The form is Gemma's: BPE over characters with byte fallback, spaces written as U+2581, special tokens found by their text. Merges are learned
inside words only (a letter run with the space before it), so every digit is a token of its own and sums can be learned.
Ids: special tokens first, then line breaks, bytes, characters, learned pieces.
"""

import argparse
import json
import random
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from tokenizers import Regex

SIZE = 4096
SPECIAL = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "<|tool>", "<tool|>", "<|tool_call>", "<tool_call|>", "<|tool_response>", "<tool_response|>", '<|"|>', "<|think|>",
           "<|channel>", "<channel|>", "<|turn>", "<turn|>", "<|image>", "<image|>", "<|audio>", "<audio|>", "<|image|>", "<|audio|>", "<|video|>"]
ROLES = {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>", "unk_token": "<unk>", "mask_token": "<mask>",
         "boi_token": "<|image>", "eoi_token": "<image|>", "image_token": "<|image|>", "boa_token": "<|audio>", "eoa_token": "<audio|>", "audio_token": "<|audio|>",
         "sot_token": "<|turn>", "eot_token": "<turn|>", "soc_token": "<|channel>", "eoc_token": "<channel|>", "std_token": "<|tool>", "etd_token": "<tool|>",
         "stc_token": "<|tool_call>", "etc_token": "<tool_call|>", "str_token": "<|tool_response>", "etr_token": "<tool_response|>", "escape_token": '<|"|>', "think_token": "<|think|>"}
CHARACTERS = "▁\t" + "".join(map(chr, range(33, 127))) + "äöüßéèêàáâíîóôúûñçåæøœ°€£§«»–—‘’“”…·×÷"


def corpus(cases: int, seed: int = 0):
    """Texts of the training stream, and every word of the vocabulary in each of its spellings."""
    import chat
    import skills
    import words

    for name in sorted({x for v in vars(words).values() if isinstance(v, list) for x in v}):
        for form in (name, name.capitalize(), name.upper()):
            yield " ".join([form, form] * 20)
    r = random.Random(f"tokenizer {seed}")
    for name in skills.SKILLS:
        if name == "needle_8":
            continue
        for _ in range(cases):
            case = skills.draw(name, r)
            prompt, answer = chat.texts(case)
            yield prompt + answer


def train(cases: int) -> dict:
    # U+2581 stands for a space from the start: the words to learn from are cut with it at their front.
    learner = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    learner.normalizer = normalizers.Replace(" ", "▁")
    letters = "A-Za-zÀ-ÿ"
    learner.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(r"<\|?[a-z_\"]+\|?>"), "removed"),
        pre_tokenizers.Split(Regex(f"▁?[{letters}]+|▁[-+*=]|[^{letters}▁]|▁"), "isolated"),
    ])
    fixed = len(SPECIAL) + 2 + 256
    trainer = trainers.BpeTrainer(vocab_size=SIZE - fixed, initial_alphabet=list(CHARACTERS), limit_alphabet=len(set(CHARACTERS)), min_frequency=2, max_token_length=24, show_progress=False)
    learner.train_from_iterator(corpus(cases), trainer)
    learned = json.loads(learner.to_str())["model"]
    pieces = sorted(learned["vocab"], key=learned["vocab"].get)
    order = SPECIAL + ["\n", "\n\n"] + [f"<0x{b:02X}>" for b in range(256)] + [p for p in pieces if p not in ("\n", "<unk>")]
    vocab = {p: i for i, p in enumerate(order)}
    assert len(vocab) == len(order) <= SIZE, len(order)
    merges = [["\n", "\n"]] + [m if isinstance(m, list) else m.split(" ") for m in learned["merges"]]
    added = [dict(id=vocab[p], content=p, single_word=False, lstrip=False, rstrip=False, normalized=False, special=p != "<mask>") for p in SPECIAL]
    return {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": added,
        "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
        "pre_tokenizer": {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False},
        "post_processor": None,
        "decoder": {"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"}]},
        "model": {"type": "BPE", "dropout": None, "unk_token": "<unk>", "continuing_subword_prefix": None, "end_of_word_suffix": None, "fuse_unk": True, "byte_fallback": True,
                  "ignore_merges": False, "vocab": vocab, "merges": merges},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--cases", type=int, default=2000, help="cases per skill to learn from")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    trained = train(options.cases)
    (options.out / "tokenizer.json").write_text(json.dumps(trained, ensure_ascii=False, separators=(",", ":")) + "\n")
    config = dict(tokenizer_class="GemmaTokenizer", add_bos_token=False, add_eos_token=False, padding_side="left", clean_up_tokenization_spaces=False,
                  spaces_between_special_tokens=False, model_max_length=8192) | ROLES
    (options.out / "tokenizer_config.json").write_text(json.dumps(config, indent=1) + "\n")
    print(f"{options.out}: {len(trained['model']['vocab'])} pieces, {len(trained['model']['merges'])} merges")


if __name__ == "__main__":
    main()
