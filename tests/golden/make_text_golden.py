#!/usr/bin/env python3
"""Stores what Transformers computes for the small seeded models in this folder: MEMBER/golden.safetensors.

    ninja -C build/dev carat_golden_export
    OMP_NUM_THREADS=1 PYTHON tests/golden/make_text_golden.py --export build/dev/bin/carat_golden_export

PYTHON needs torch, safetensors and transformers (5.24.0 made the stored files). Per prompt: .input_ids, .layers (the last
row of every layer's output, bf16 [L, H]), .logits (of that row, soft-capped, bf16 [V]), .greedy and .margins (greedy tokens
and how far the best logit leads), .noise (relative rms
of bf16 against float32: layer outputs, logits). Attention runs in float32 with one rounding at its end, as docs/numerics.md says.
"""

import argparse
import subprocess
import tempfile
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import AttentionInterface, AttentionMaskInterface, AutoModelForMultimodalLM, DynamicCache
from transformers.masking_utils import eager_mask

SEED = 1
STEPS = 16
HERE = Path(__file__).parent


def float32_attention(module, query, key, value, attention_mask, scaling=1.0, **_):
    groups = query.shape[1] // key.shape[1]
    q, k, v = query.float(), key.float().repeat_interleave(groups, 1), value.float().repeat_interleave(groups, 1)
    scores = q @ k.mT * scaling
    if attention_mask is not None:
        scores = scores.masked_fill(attention_mask < -1, float("-inf"))
    return (scores.softmax(-1) @ v).to(query.dtype).transpose(1, 2).contiguous(), None


def prompts(window, first_special):
    draw = torch.Generator().manual_seed(SEED)
    ids = lambda n: torch.randint(3, first_special, (n,), generator=draw).tolist()
    return {"one": [2], "short": [2] + ids(9), "window": [2] + ids(window), "long": [2] + ids(3 * window + 6)}


def load(folder, dtype):
    model = AutoModelForMultimodalLM.from_pretrained(folder, dtype=dtype, attn_implementation="float32").eval()
    for module in model.modules():
        if hasattr(module, "embed_scale"):  # the trained value also in float32
            module.embed_scale.data = module.embed_scale.data.to(torch.bfloat16).to(module.embed_scale.dtype)
    return model


def last_row(model, ids, cache=None):
    """Layer outputs [L, H] and logits [V] of the last row."""
    layers = []
    hooks = [
        layer.register_forward_hook(lambda _, __, out: layers.append((out[0] if isinstance(out, tuple) else out)[0, -1]))
        for layer in model.model.language_model.layers
    ]
    # Hidden states are asked for so that no layer drops the rows of which no logits are wanted.
    out = model(torch.tensor([ids]), cache=cache, use_cache=cache is not None, output_hidden_states=True)
    for hook in hooks:
        hook.remove()
    return torch.stack(layers), out.logits[0, -1]


def relative_rms(a, b):
    return float((a.float() - b.float()).norm() / b.float().norm())


@torch.no_grad()
def run(folder):
    model, exact = load(folder, torch.bfloat16), load(folder, torch.float32)
    tensors = {}
    for name, ids in prompts(model.config.get_text_config().sliding_window, model.config.boi_token_id).items():
        cache = DynamicCache(config=model.config)
        layers, logits = last_row(model, ids, cache)
        exact_layers, exact_logits = last_row(exact, ids)
        tensors[f"{name}.input_ids"] = torch.tensor(ids, dtype=torch.int32)
        tensors[f"{name}.layers"], tensors[f"{name}.logits"] = layers, logits.clone()
        tensors[f"{name}.noise"] = torch.tensor([relative_rms(layers, exact_layers), relative_rms(logits, exact_logits)])
        tokens, margins = [], []
        for _ in range(STEPS):
            best = logits.float().topk(2).values
            tokens.append(int(logits.float().argmax()))
            margins.append(float(best[0] - best[1]))
            logits = model(torch.tensor([[tokens[-1]]]), cache=cache, use_cache=True).logits[0, -1]
        tensors[f"{name}.greedy"] = torch.tensor(tokens, dtype=torch.int32)
        tensors[f"{name}.margins"] = torch.tensor(margins)
        print(f"  {name}: {tokens}, smallest margin {min(margins)}, noise {tensors[f'{name}.noise'].tolist()}")
    return tensors


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--export", required=True, help="the program carat_golden_export")
    options = arguments.parse_args()
    AttentionInterface.register("float32", float32_attention)
    AttentionMaskInterface.register("float32", eager_mask)
    for config in sorted(HERE.glob("*/config.json")):
        print(config.parent.name)
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run([options.export, config.parent, folder, str(SEED)], check=True)
            out = config.parent / "golden.safetensors"
            save_file(run(folder), out)
            out.chmod(0o644)


if __name__ == "__main__":
    main()
