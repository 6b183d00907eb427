#!/usr/bin/env python3
"""Stores what Transformers' audio encoders make of seeded weights and noise: MEMBER/audio.safetensors.

    ninja -C build/dev carat_golden_export
    OMP_NUM_THREADS=1 PYTHON tests/golden/make_audio_golden.py --export build/dev/bin/carat_golden_export

PYTHON needs torch, safetensors and transformers (5.24.0 made the stored files). Per clip NAME: .samples, .seed (of noise(), as
in audio_golden_test.cc), .out.J (bf16 [tokens, C], output of layer J of the conformer), .soft (bf16 [tokens, H]), .noise (relative rms of
bf16 against float32: last layer, soft tokens). The conformer's sinusoids keep float32 frequencies, as docs/numerics.md says.
"""

import argparse
import json
import math
import subprocess
import tempfile
from pathlib import Path

import numpy
import torch
from safetensors.torch import load_file, save_file
from transformers import Gemma4AudioConfig, Gemma4AudioFeatureExtractor, Gemma4AudioModel

SEED = 1
CLIPS = {"shortest": (161, 5), "second": (16000, 6), "window": (9000, 7)}
HERE = Path(__file__).parent


def noise(samples, seed):
    out = numpy.zeros(samples, numpy.float32)
    for i in range(samples):
        seed = (seed * 1664525 + 1013904223) % 2**32
        out[i] = ((seed >> 16) - 32768) / 32768 * 0.25
    return out


def relative_rms(a, b):
    return float((a.float() - b.float()).norm() / b.float().norm())


def project(x, weight, eps):
    """The projection to the decoder behind its norm without weight."""
    wide = x.float()
    normed = (wide * torch.pow(wide.pow(2).mean(-1, keepdim=True) + eps, -0.5)).to(x.dtype)
    return torch.nn.functional.linear(normed, weight)


def conformer(config, tensors, dtype):
    """A function from samples to layer outputs and soft tokens."""
    prefix = "audio_tower."
    model = Gemma4AudioModel._from_config(Gemma4AudioConfig(**config), attn_implementation="eager").to(dtype).eval()
    model.load_state_dict({k.removeprefix(prefix): v.to(dtype) for k, v in tensors.items() if k.startswith(prefix)})
    frequencies = model.rel_pos_enc.inv_timescales.shape[-1]
    step = -math.log(10000.0) / max(frequencies - 1, 1)
    model.rel_pos_enc.inv_timescales = torch.exp(torch.arange(frequencies).float() * step)[None, None]
    weight = tensors["embed_audio.embedding_projection.weight"].to(dtype)

    def run(samples):
        features = Gemma4AudioFeatureExtractor()([samples], return_tensors="pt")
        layers = []
        hooks = [
            layer.register_forward_hook(lambda _, __, out: layers.append((out[0] if isinstance(out, tuple) else out)[0]))
            for layer in model.layers
        ]
        out = model(features["input_features"].to(dtype), features["input_features_mask"])
        for hook in hooks:
            hook.remove()
        valid = out.attention_mask[0].bool()
        soft = project(out.last_hidden_state[0][valid], weight, config["rms_norm_eps"])
        return [layer[valid] for layer in layers], soft

    return run


def raw_frames(config, tensors, dtype):
    weight = tensors["embed_audio.embedding_projection.weight"].to(dtype)

    def run(samples):
        frames = torch.tensor(numpy.pad(samples, (0, -len(samples) % 640)).reshape(-1, 640)).to(dtype)
        return [], project(frames, weight, config["rms_norm_eps"])

    return run


@torch.no_grad()
def run(config, tensors):
    make = raw_frames if config["model_type"] == "gemma4_unified_audio" else conformer
    rounded, exact = make(config, tensors, torch.bfloat16), make(config, tensors, torch.float32)
    out = {}
    for name, (samples, seed) in CLIPS.items():
        sound = noise(samples, seed)
        layers, soft = rounded(sound)
        exact_layers, exact_soft = exact(sound)
        for j, layer in enumerate(layers):
            out[f"{name}.out.{j}"] = layer.contiguous()
        out[f"{name}.soft"] = soft.contiguous()
        out[f"{name}.samples"] = torch.tensor([samples], dtype=torch.int32)
        out[f"{name}.seed"] = torch.tensor([seed], dtype=torch.int32)
        last = relative_rms(layers[-1], exact_layers[-1]) if layers else 0.0
        out[f"{name}.noise"] = torch.tensor([last, relative_rms(soft, exact_soft)])
        print(f"  {name}: {soft.shape[0]} soft tokens, noise {out[f'{name}.noise'].tolist()}")
    return out


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--export", required=True, help="the program carat_golden_export")
    options = arguments.parse_args()
    for path in sorted(HERE.glob("*/config.json")):
        config = json.loads(path.read_text()).get("audio_config")
        if not config:
            continue
        print(path.parent.name)
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run([options.export, path.parent, folder, str(SEED)], check=True)
            out = path.parent / "audio.safetensors"
            save_file(run(config, load_file(Path(folder) / "audio.safetensors")), out)
            out.chmod(0o644)


if __name__ == "__main__":
    main()
