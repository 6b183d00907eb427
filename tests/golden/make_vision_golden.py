#!/usr/bin/env python3
"""Stores what Transformers' vision encoders make of seeded weights and noise: MEMBER/vision.safetensors.

    ninja -C build/dev carat_golden_export
    OMP_NUM_THREADS=1 PYTHON tests/golden/make_vision_golden.py --export build/dev/bin/carat_golden_export

PYTHON needs torch, safetensors and transformers (5.24.0 made the stored files). Per picture NAME: .shape (soft tokens wide and high, seed of
noise(), 1 for a video frame; as in vision_golden_test.cc), .out.J (bf16 [patches, C], output of layer J of the tower), .soft (bf16 [tokens, H]),
.noise (relative rms of bf16 against float32: last layer, soft tokens). Attention runs in float32 with one rounding at its end.
"""

import argparse
import json
import subprocess
import tempfile
from pathlib import Path

import numpy
import torch
from safetensors.torch import load_file, save_file
from transformers import AttentionInterface, AttentionMaskInterface, Gemma4UnifiedTextConfig, Gemma4UnifiedVisionConfig, Gemma4VisionConfig, Gemma4VisionModel
from transformers.masking_utils import eager_mask
from transformers.models.gemma4_unified.modeling_gemma4_unified import Gemma4UnifiedVisionEmbedder

from make_audio_golden import project, relative_rms
from make_text_golden import float32_attention

SEED = 1
PICTURES = {"one": (1, 1, 3, 0), "wide": (4, 2, 4, 0), "frame": (1, 5, 5, 1)}
HERE = Path(__file__).parent


def noise(count, seed):
    out = numpy.zeros(count, numpy.uint8)
    for i in range(count):
        seed = (seed * 1664525 + 1013904223) % 2**32
        out[i] = seed >> 24
    return out


def inputs(shape, patch):
    """Pixels as the processors scale them [1, patches, values], positions [1, patches, 2]."""
    wide, high, seed, frame = shape
    columns, rows = wide * 48 // patch, high * 48 // patch
    count = columns * rows
    pixels = torch.from_numpy(noise(count * patch * patch * 3, seed)).float().reshape(1, count, -1)
    positions = torch.tensor([[(i % columns, i // columns) for i in range(count)]])
    return pixels / 255 if frame else pixels * (1 / 255), positions


def tower(config, text, tensors, dtype):
    prefix = "vision_tower."
    model = Gemma4VisionModel._from_config(Gemma4VisionConfig(**config), attn_implementation="float32").eval()
    model.load_state_dict({k.removeprefix(prefix): v.float() for k, v in tensors.items() if k.startswith(prefix)})
    for parameter in model.parameters():  # not the buffers: the rotation's frequencies stay float32 in loaded models too
        parameter.data = parameter.data.to(dtype)
    weight = tensors["embed_vision.embedding_projection.weight"].to(dtype)

    def run(shape):
        pixels, positions = inputs(shape, 16)
        layers = []
        hooks = [
            layer.register_forward_hook(lambda _, __, out: layers.append((out[0] if isinstance(out, tuple) else out)[0]))
            for layer in model.encoder.layers
        ]
        out = model(pixels, positions)
        for hook in hooks:
            hook.remove()
        return layers, project(out.last_hidden_state, weight, config["rms_norm_eps"])

    return run


def embedder(config, text, tensors, dtype):
    model = Gemma4UnifiedVisionEmbedder(Gemma4UnifiedVisionConfig(**config), Gemma4UnifiedTextConfig(**text)).to(dtype).eval()
    state = {k.removeprefix("vision_embedder."): v.to(dtype) for k, v in tensors.items()}
    state = {k.replace("embed_vision.", "multimodal_embedder."): v for k, v in state.items()}
    model.load_state_dict(state)
    return lambda shape: ([], model(*inputs(shape, 48)).pooler_output[0])


@torch.no_grad()
def run(config, text, tensors):
    make = embedder if config["model_type"] == "gemma4_unified_vision" else tower
    rounded, exact = make(config, text, tensors, torch.bfloat16), make(config, text, tensors, torch.float32)
    out = {}
    for name, shape in PICTURES.items():
        layers, soft = rounded(shape)
        exact_layers, exact_soft = exact(shape)
        for j, layer in enumerate(layers):
            out[f"{name}.out.{j}"] = layer.contiguous()
        out[f"{name}.soft"] = soft.contiguous()
        out[f"{name}.shape"] = torch.tensor(shape, dtype=torch.int32)
        last = relative_rms(layers[-1], exact_layers[-1]) if layers else 0.0
        out[f"{name}.noise"] = torch.tensor([last, relative_rms(soft, exact_soft)])
        print(f"  {name}: {soft.shape[0]} soft tokens, noise {out[f'{name}.noise'].tolist()}")
    return out


def main():
    AttentionInterface.register("float32", float32_attention)
    AttentionMaskInterface.register("float32", eager_mask)
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--export", required=True, help="the program carat_golden_export")
    options = arguments.parse_args()
    for path in sorted(HERE.glob("*/config.json")):
        config = json.loads(path.read_text())
        if not config.get("vision_config"):
            continue
        print(path.parent.name)
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run([options.export, path.parent, folder, str(SEED)], check=True)
            tensors = load_file(Path(folder) / "vision.safetensors")
        out = path.parent / "vision.safetensors"
        save_file(run(config["vision_config"], config["text_config"], tensors), out)
        out.chmod(0o644)


if __name__ == "__main__":
    main()
