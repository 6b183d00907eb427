#!/usr/bin/env python3
"""Writes the files of a checkpoint in Hugging Face layout.

  python3 models/nano/checkpoint.py --form base --out models/nano/base [--weights model.safetensors | --random]

Without weights: everything but them (config.json, generation_config.json, processor_config.json, preprocessor_config.json,
chat_template.jinja). The tokenizer must be in the folder already (tokenizer.py).
"""

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer

import chat
import model as m


def token_ids(folder: Path) -> dict[str, int]:
    """Ids of the special tokens by their text."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    return {t.content: i for i, t in tokenizer.get_added_tokens_decoder().items()}


def write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1) + "\n")


def write_files(form: m.Form, folder: Path) -> None:
    ids = token_ids(folder)
    write_json(folder / "config.json", m.checkpoint_config(form, ids))
    write_json(folder / "generation_config.json", m.generation_config(ids))
    processor = m.processor_config()
    write_json(folder / "processor_config.json", processor)
    write_json(folder / "preprocessor_config.json", processor["feature_extractor"] | processor["image_processor"] | {"processor_class": processor["processor_class"]})
    (folder / "chat_template.jinja").write_text(chat.template_text(form.text.ple == 0))


def write_weights(model: m.Nano, path: Path) -> None:
    """All tensors in bf16."""
    tensors = {name: x.detach().to("cpu", torch.bfloat16).contiguous() for name, x in model.state_dict().items()}
    save_file(tensors, path, metadata={"format": "pt"})
    path.chmod(0o644)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--form", choices=list(m.FORMS), default="base")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--weights", type=Path, help="a model.safetensors that train.py has written")
    parser.add_argument("--random", action="store_true", help="untrained weights, for tests")
    options = parser.parse_args()
    write_files(m.FORMS[options.form], options.out)
    if options.weights:
        shutil.copyfile(options.weights, options.out / "model.safetensors")
    elif options.random:
        torch.manual_seed(0)
        write_weights(m.Nano(m.FORMS[options.form]), options.out / "model.safetensors")


if __name__ == "__main__":
    main()
