#!/usr/bin/env python3
"""Writes tests/golden/resize.txt: digests of what torchvision makes of synthetic pictures at 200 random sizes.

  tests/golden/make_resize_golden.py

Needs the Python packages `torch` and `torchvision`. Each line: width height out_width out_height kind seed sha256, where the digest is that
of the bytes [out_height, out_width, 3]. The pictures are made anew by src/media/resize_test.cc (picture() here says how)."""

import hashlib
import random
from pathlib import Path

import numpy as np
import torch
import torchvision
from torchvision.transforms.v2.functional import InterpolationMode, resize


def noise(count, seed):
    """The upper bytes of splitmix64(seed + i)."""
    x = np.arange(count, dtype=np.uint64) + np.uint64(seed)
    with np.errstate(over="ignore"):
        x = (x + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        x ^= x >> np.uint64(31)
    return (x >> np.uint64(56)).astype(np.uint8)


def picture(width, height, kind, seed):
    y, x, c = np.meshgrid(np.arange(height), np.arange(width), np.arange(3), indexing="ij")
    if kind == "noise":
        return noise(width * height * 3, seed).reshape(height, width, 3)
    if kind == "slope":
        return ((x * (3 + seed % 5) + y * (2 + seed % 7)) // 4 + 85 * c & 255).astype(np.uint8)
    return (((x // (1 + seed % 6) + y // (1 + seed % 4) + c) & 1) * 255).astype(np.uint8)


def sizes(rng, i):
    size = lambda: rng.choice([rng.randint(1, 20), rng.randint(1, 150), rng.randint(1, 500)])
    w, h, ow, oh = size(), size(), size(), size()
    if i % 11 == 0:
        ow = w
    if i % 13 == 0:
        oh = h
    return w, h, ow, oh


def main():
    rng = random.Random(20260425)
    lines = [f"# torchvision {torchvision.__version__}; made by make_resize_golden.py"]
    for i in range(200):
        w, h, ow, oh = sizes(rng, i)
        kind, seed = ("noise", "slope", "edges")[i % 3], rng.randint(0, 10**9)
        source = torch.from_numpy(picture(w, h, kind, seed)).permute(2, 0, 1).contiguous()
        out = resize(source, [oh, ow], interpolation=InterpolationMode.BICUBIC, antialias=True)
        digest = hashlib.sha256(out.permute(1, 2, 0).contiguous().numpy().tobytes()).hexdigest()
        lines.append(f"{w} {h} {ow} {oh} {kind} {seed} {digest}")
    (Path(__file__).parent / "resize.txt").write_text("\n".join(lines) + "\n")


main()
