#!/usr/bin/env python3
"""Trains carat-nano (or carat-nano-moe) on its generated corpus, in resumable parts.

  python3 models/nano/train.py --form base --minutes 8 --out OUT             # first part
  python3 models/nano/train.py --form base --minutes 8 --out OUT --resume IN # next part: IN holds what the part before wrote

Writes to OUT (files below 16 MiB each): model.safetensors (bf16, the checkpoint's weights), state.0, state.1, ... (what --resume needs),
scores.json (held-out scores by skill) and train.log. Training time is given, not steps; the learning rate falls to zero at the end of each part.

Held-out scores are exact: a case counts if the most likely token is the right one after every token of the right answer, which is the same as greedy
decoding giving exactly the right answer.
"""

import argparse
import io
import json
import math
import multiprocessing
import os
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # each worker is one of many

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

import batches
import checkpoint
import model as m
import skills

PART_BYTES = 15 << 20
Batch = dict[str, Tensor]


def media_of(b: Batch) -> m.Media:
    vision, audio = "patches" in b, "features" in b
    return m.Media(b["patches"] if vision else None, b["xy"].long() if vision else None, b["vision_at"] if vision else None, b["features"] if audio else None,
                   b["frames"] if audio else None, b["audio_at"] if audio else None)


def target_logits(net: m.Nano, b: Batch, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """(logits [targets, vocabulary], load-balancing loss of the experts)."""
    hidden, _, routed = net.hidden(b["ids"].long(), b["doc"], b["pos"], media_of(b), dtype)
    balance = hidden.new_zeros((), dtype=torch.float32)
    for p in routed:
        used = torch.zeros_like(p).scatter(-1, p.topk(net.form.text.top_k, -1).indices, 1.0)
        balance = balance + p.shape[-1] * (p.mean((0, 1)) * used.mean((0, 1))).sum() / net.form.text.top_k / len(routed)
    return net.logits(hidden.flatten(0, 1)[b["at"]]), balance


# ---- optimiser ---------------------------------------------------------------------------------------------------

def orthogonal(g: Tensor) -> Tensor:
    """The nearest matrices with all singular values near 1, for a stack [n, rows, columns], by Newton-Schulz steps."""
    x = g.bfloat16() if g.is_cuda else g
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(5):
        a = x @ x.mT
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return x.mT if tall else x


class Optimiser:
    """Muon (orthogonalised momentum) for the matrices inside the layers, Adam for everything else."""

    MOMENTUM, DECAY = 0.95, 0.02
    BETAS = (0.9, 0.98)

    def __init__(self, net: m.Nano, matrix_rate: float, other_rate: float):
        self.rates = (matrix_rate, other_rate)
        self.stacks: dict[tuple[int, int], list[tuple[str, Tensor]]] = {}
        self.others: list[tuple[str, Tensor]] = []
        for name, p in net.named_parameters():
            inner = p.ndim in (2, 3) and not any(x in name for x in ("embed_tokens", "router", "conv", "position_embedding_table"))
            if inner:
                self.stacks.setdefault((p.shape[-2], p.shape[-1]), []).append((name, p))
            else:
                self.others.append((name, p))
        self.momentum = {n: torch.zeros_like(p) for group in self.stacks.values() for n, p in group}
        self.mean = {n: torch.zeros_like(p) for n, p in self.others}
        self.square = {n: torch.zeros_like(p) for n, p in self.others}
        self.steps = 0

    @torch.no_grad()
    def step(self, share: float) -> None:
        """One step at `share` of the full rates."""
        self.steps += 1
        rate = self.rates[0] * share
        for (rows, columns), group in self.stacks.items():
            grads, moments = [p.grad for _, p in group], [self.momentum[n] for n, _ in group]
            torch._foreach_lerp_(moments, grads, 1 - self.MOMENTUM)
            ahead = torch._foreach_lerp(grads, moments, self.MOMENTUM)
            stack = torch.cat([g.view(-1, rows, columns) for g in ahead])
            updates = orthogonal(stack).split([g.numel() // (rows * columns) for g in ahead])
            params = [p for _, p in group]
            torch._foreach_mul_(params, 1 - rate * self.DECAY)
            torch._foreach_add_(params, [u.reshape(p.shape).to(p.dtype) for u, p in zip(updates, params)], alpha=-rate * max(1, rows / columns) ** 0.5)
        rate = self.rates[1] * share
        params, grads = [p for _, p in self.others], [p.grad for _, p in self.others]
        mean, square = [self.mean[n] for n, _ in self.others], [self.square[n] for n, _ in self.others]
        torch._foreach_lerp_(mean, grads, 1 - self.BETAS[0])
        torch._foreach_mul_(square, self.BETAS[1])
        torch._foreach_addcmul_(square, grads, grads, 1 - self.BETAS[1])
        root = torch._foreach_div(square, 1 - self.BETAS[1] ** self.steps)
        torch._foreach_sqrt_(root)
        torch._foreach_add_(root, 1e-10)
        torch._foreach_addcdiv_(params, mean, root, -rate / (1 - self.BETAS[0] ** self.steps))

    def state(self) -> dict[str, Any]:
        half = lambda d: {k: v.bfloat16().cpu() for k, v in d.items()}
        return dict(steps=self.steps, momentum=half(self.momentum), mean=half(self.mean), square={k: v.cpu() for k, v in self.square.items()})

    def load(self, state: dict[str, Any]) -> None:
        self.steps = state["steps"]
        for mine, theirs in ((self.momentum, state["momentum"]), (self.mean, state["mean"]), (self.square, state["square"])):
            for k, v in mine.items():
                v.copy_(theirs[k])


def share_of_rate(progress: float, steps: int, fall: float) -> float:
    """Warm-up over 40 steps, level, and a straight fall over the last part of the time."""
    return min(1.0, (steps + 1) / 40) * min(1.0, max(0.0, (1 - progress) / fall))


# ---- state -------------------------------------------------------------------------------------------------------

def save_state(folder: Path, state: dict[str, Any]) -> None:
    """One torch file cut into parts that travel."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    data = buffer.getvalue()
    for old in folder.glob("state.*"):
        old.unlink()
    for k in range(0, math.ceil(len(data) / PART_BYTES)):
        (folder / f"state.{k}").write_bytes(data[k * PART_BYTES : (k + 1) * PART_BYTES])


def load_state(folder: Path) -> dict[str, Any]:
    parts = sorted(folder.glob("state.*"), key=lambda p: int(p.suffix[1:]))
    return torch.load(io.BytesIO(b"".join(p.read_bytes() for p in parts)), map_location="cpu", weights_only=True)


# ---- scores ------------------------------------------------------------------------------------------------------

def make_test(job: tuple[Path, list[str], bool, str, int]) -> tuple[str, list[dict[str, np.ndarray]]]:
    folder, names, closed, name, size = job
    torch.set_num_threads(1)
    return name, batches.test_batches(batches.Packer(folder, names, closed), name, size)


@torch.no_grad()
def score(net: m.Nano, tests: dict[str, list[dict[str, np.ndarray]]], device: torch.device, dtype: torch.dtype) -> tuple[dict[str, float], dict[str, tuple[list[int], list[int]]]]:
    """(share of cases answered exactly, by skill; one wrong answer by skill: expected ids, most likely ids)."""
    scores, wrong = {}, {}
    for name, parts in tests.items():
        right = total = 0
        for arrays in parts:
            b = {k: torch.from_numpy(v).to(device) for k, v in arrays.items()}
            best = target_logits(net, b, dtype)[0].argmax(-1)
            count = int(b["case"].max()) + 1
            missed = torch.zeros(count, device=device).index_add_(0, b["case"], (best != b["goal"]).float())
            right, total = right + int((missed == 0).sum()), total + count
            if name not in wrong and missed.any():
                mine = b["case"] == int(missed.argmax())
                wrong[name] = (b["goal"][mine].tolist(), best[mine].tolist())
        scores[name] = right / total
    return scores, wrong


def table(scores: dict[str, float]) -> str:
    groups: dict[str, list[float]] = {}
    for name, s in scores.items():
        groups.setdefault(skills.SKILLS[name].group, []).append(s)
    return ("scores  " + "  ".join(f"{n} {100 * s:.1f}" for n, s in scores.items()) + "\ngroups  " + "  ".join(f"{g} {100 * sum(v) / len(v):.1f}" for g, v in groups.items()))


# ---- training ----------------------------------------------------------------------------------------------------

def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--form", choices=list(m.FORMS), default="base")
    parser.add_argument("--tokenizer", type=Path, default=Path(__file__).resolve().parent / "base", help="folder with tokenizer.json")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--resume", type=Path)
    parser.add_argument("--minutes", type=float, default=8, help="of this part, everything counted")
    parser.add_argument("--tokens", type=int, default=65536, help="per step")
    parser.add_argument("--fall", type=float, default=0.35, help="share of the time in which the learning rate falls")
    parser.add_argument("--matrix-rate", type=float, default=0.02)
    parser.add_argument("--other-rate", type=float, default=0.003)
    parser.add_argument("--skills", help="comma-separated; default all that the form has towers for")
    parser.add_argument("--test", type=int, default=200, help="held-out cases per skill")
    parser.add_argument("--score-every", type=float, default=90, help="seconds")
    parser.add_argument("--seed", default="1")
    parser.add_argument("--workers", type=int, default=batches.default_workers())
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--compile", action="store_true", help="compile the decoder layers (a minute at the start)")
    options = parser.parse_args()
    began = time.monotonic()

    form = m.FORMS[options.form]
    towers = {"vision"} | ({"audio"} if form.audio else set())
    names = options.skills.split(",") if options.skills else [n for n, s in skills.SKILLS.items() if not s.needs or s.needs in towers]
    options.out.mkdir(parents=True, exist_ok=True)
    log_file = open(options.out / "train.log", "a", buffering=1)

    def say(text: str) -> None:
        line = f"[{time.monotonic() - began:6.1f} s] {text}"
        print(line, flush=True)
        print(line, file=log_file)

    # Workers are forked before the device is touched.
    old = load_state(options.resume) if options.resume else None
    start = old["step"] if old else 0
    closed = form.text.ple == 0
    packer = batches.Packer(options.tokenizer, names, closed)
    jobs = [(options.tokenizer, names, closed, n, options.test) for n in sorted(names, key=lambda n: not skills.SKILLS[n].long) if skills.SKILLS[n].tested]  # slow ones first
    with multiprocessing.get_context("fork").Pool(options.workers) as pool:
        made = dict(pool.imap_unordered(make_test, jobs))
    tests = {n: made[n] for n in names if n in made}
    say(f"{len(tests)} held-out sets of {options.test} cases")
    stream = batches.Stream(packer, options.seed, start, options.tokens, options.workers)

    device = torch.device(options.device)
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    torch.manual_seed(int.from_bytes(options.seed.encode(), "little") % (1 << 31))
    torch.backends.cuda.matmul.allow_tf32 = True
    net = m.Nano(form)
    if old:
        net.load_state_dict(old["net"])
    net.to(device)
    optimiser = Optimiser(net, options.matrix_rate, options.other_rate)
    if old:
        optimiser.load(old["optimiser"])
    if options.compile:
        torch._dynamo.config.cache_size_limit = 64
        for layer in net.model.language_model.layers:
            layer.compile(dynamic=False)
    say(f"{form.name}: {sum(x.numel() for x in net.state_dict().values()):,} values, {len(names)} skills, {options.workers} workers, "
        f"{torch.cuda.get_device_name() if device.type == 'cuda' else 'CPU'}, from step {start}")

    limit = options.minutes * 60 - 10  # for the last scores and files
    origin, last_said, last_scored, tokens, step, skipped = time.monotonic(), time.monotonic(), time.monotonic(), 0, start, 0
    by_skill = torch.zeros(2, len(names), device=device)  # sums of loss and numbers of targets since the last report
    for b in stream.open(device):
        now = time.monotonic()
        progress = (now - origin) / (limit - (origin - began))
        if progress >= 1:
            break
        logits, balance = target_logits(net, b, dtype)
        losses = F.cross_entropy(logits, b["goal"].long(), reduction="none")
        loss = (losses * b["weight"]).sum() / b["weight"].sum() + 0.02 * balance
        for p in net.parameters():
            p.grad = None
        loss.backward()
        for p in net.parameters():  # a tower that a batch has no use for
            if p.grad is None:
                p.grad = torch.zeros_like(p)
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0, foreach=True)
        optimiser.step(share_of_rate(progress, step - start, options.fall))
        by_skill.index_add_(1, b["skill"], torch.stack([losses.detach(), torch.ones_like(losses)]))
        step, tokens = step + 1, tokens + b["ids"].numel()
        if now - last_said > 20 or step == start + 1:
            sums = by_skill.cpu()
            say(f"step {step}  loss {float(sums[0].sum() / sums[1].sum()):.3f}  {tokens / (time.monotonic() - origin) / 1e3:.0f} k tokens/s  waited {stream.waiting:.0f} s  "
                + " ".join(f"{n} {sums[0, k] / sums[1, k]:.3f}" for k, n in enumerate(names) if sums[1, k]))
            by_skill.zero_()
            last_said = now
        if now - last_scored > options.score_every:
            say(f"step {step}\n" + table(score(net, tests, device, dtype)[0]))
            last_scored = time.monotonic()
    stream.close()

    rounded = {k: v.to(torch.bfloat16).float() for k, v in net.state_dict().items()}  # what the checkpoint holds
    save_state(options.out, dict(step=step, net={k: v.cpu() for k, v in net.state_dict().items()}, optimiser=optimiser.state()))
    checkpoint.write_weights(net, options.out / "model.safetensors")
    net.load_state_dict(rounded)
    scores, wrong = score(net, tests, device, dtype)
    checkpoint.write_json(options.out / "scores.json", scores)
    say(f"end at step {step}, {tokens:,} tokens\n" + table(scores))
    for name, (expected, got) in wrong.items():
        say(f"wrong {name}: {packer.encode.tokenizer.decode(expected, skip_special_tokens=False)!r} <- {packer.encode.tokenizer.decode(got, skip_special_tokens=False)!r}")


if __name__ == "__main__":
    main()
