"""Rows of packed conversations, made by worker processes while the model trains."""

import itertools
import math
import mmap
import multiprocessing
import os
import queue
import random
import threading
import time
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Iterator

import numpy as np
import torch

import chat
import model as m
import skills

SHORT, LONG = 1024, 2560  # tokens per row
SLOT_BYTES = 768 << 20  # room for one batch; only what is used takes memory


@dataclass
class Row:
    length: int
    samples: list[chat.Sample] = field(default_factory=list)
    used: int = 0

    def takes(self, s: chat.Sample) -> bool:
        if self.used + len(s.ids) > self.length:
            return False
        self.samples.append(s)
        self.used += len(s.ids)
        return True


def collate(rows: list[Row], names: list[str]) -> dict[str, np.ndarray]:
    """Arrays of a batch. Targets: `at` says after which position of the flattened rows token `goal` is to come, `weight` how much it counts
    (all targets of an answer of n tokens together: sqrt(n)), `skill` and `case` whose it is."""
    b, t = len(rows), rows[0].length
    ids, doc, pos = np.zeros((b, t), np.int32), np.zeros((b, t), np.int32), np.zeros((b, t), np.int32)
    at, goal, weight, skill, case, vision_at, audio_at = [], [], [], [], [], [], []
    samples = [s for row in rows for s in row.samples]
    images, clips = [i for s in samples for i in s.images], [c for s in samples for c in s.clips]
    number = 0
    for y, row in enumerate(rows):
        x = 0
        for d, s in enumerate(row.samples):
            n = len(s.ids)
            ids[y, x : x + n], doc[y, x : x + n], pos[y, x : x + n] = s.ids, d + 1, np.arange(n)
            for begin, end in s.answers:
                targets = end - begin
                at.append(y * t + x + np.arange(begin - 1, end - 1))
                goal.append(s.ids[begin:end])
                weight.append(np.full(targets, targets**-0.5, np.float32))
                skill.append(np.full(targets, names.index(s.skill)))
                case.append(np.full(targets, number))
            number += 1
            x += n
    out: dict[str, Any] = dict(ids=ids, doc=doc, pos=pos, at=np.concatenate(at), goal=np.concatenate(goal), weight=np.concatenate(weight), skill=np.concatenate(skill), case=np.concatenate(case))
    if images:
        patches, xy = np.zeros((len(images), m.PATCHES, 768), np.uint8), np.full((len(images), m.PATCHES, 2), -1, np.int32)
        for k, i in enumerate(images):
            n = i.rows * i.columns
            patches[k, :n] = i.values
            xy[k, :n, 0], xy[k, :n, 1] = np.arange(n) % i.columns, np.arange(n) // i.columns
        out |= dict(patches=patches, xy=xy)
    if clips:
        longest = math.ceil(max(map(len, clips)) / 32) * 32
        features = np.zeros((len(clips), longest, m.MEL), np.float32)
        for k, c in enumerate(clips):
            features[k, : len(c)] = c
        out |= dict(features=features, frames=np.array([len(c) for c in clips]))
    return out


class Packer:
    """Draws cases so that each skill gets its share of tokens, and packs them into rows."""

    def __init__(self, folder: Path, names: list[str], closed_thought: bool):
        self.encode, self.names = chat.Encoder(folder, closed_thought), names
        self.given = {n: 0.0 for n in names}  # tokens by weight
        self.soft_vision = np.array([self.encode.ids["<|image|>"], self.encode.ids["<|video|>"]])
        self.soft_audio = self.encode.ids["<|audio|>"]

    def batch(self, r: random.Random, length: int, tokens: int) -> dict[str, np.ndarray]:
        rows = [Row(length) for _ in range(max(1, tokens // length))]
        names = [n for n in self.names if skills.SKILLS[n].long == (length == LONG)] or self.names
        fillers = [n for n in self.names if not skills.SKILLS[n].long] or self.names
        refused = 0
        while refused < 24:
            name = min(names, key=lambda n: self.given[n] / skills.SKILLS[n].weight)
            if r.random() < 0.2:  # some disorder, so that neighbours differ
                name = r.choice(names)
            sample = self.encode(skills.draw(name, r))
            self.given[name] += len(sample.ids)
            if any(row.takes(sample) for row in rows):
                continue
            refused += 1
            if refused == 8:
                names = fillers
        return self.finish(rows)

    def finish(self, rows: list[Row]) -> dict[str, np.ndarray]:
        out = collate([row for row in rows if row.samples], self.names)
        flat = out["ids"].ravel()
        out["vision_at"] = np.flatnonzero(np.isin(flat, self.soft_vision))
        out["audio_at"] = np.flatnonzero(flat == self.soft_audio)
        return out


def test_batches(packer: Packer, name: str, size: int) -> list[dict[str, np.ndarray]]:
    """The held-out set of a skill in rows."""
    length = LONG if skills.SKILLS[name].long else SHORT
    rows: list[Row] = []
    for case in skills.held_out_set(name, size):
        sample = packer.encode(case)
        if not any(row.takes(sample) for row in rows):
            rows.append(Row(length))
            rows[-1].takes(sample)
    most = max(1, 65536 // length // 2)
    return [packer.finish(rows[k : k + most]) for k in range(0, len(rows), most)]


# ---- between processes -------------------------------------------------------------------------------------------

def is_long(step: int) -> bool:
    """Which steps have long rows: every seventh, after a start with short ones only."""
    return step >= 150 and step % 7 == 0


def work(pipe: Connection, slots: list[mmap.mmap], packer: Packer, seed: str, first: int, stride: int, tokens: int) -> None:
    """A worker: makes batch `first`, `first + stride`, ... in its slots, in turn."""
    torch.set_num_threads(1)
    has_long = any(skills.SKILLS[n].long for n in packer.names)
    has_short = any(not skills.SKILLS[n].long for n in packer.names)
    for made in itertools.count():
        step, turn = first + stride * made, made % len(slots)
        long = has_long and (is_long(step) or not has_short)
        arrays = packer.batch(random.Random(f"{seed} {step}"), LONG if long else SHORT, tokens)
        try:
            if made >= len(slots):
                pipe.recv()  # the batch that this slot held has been taken
            head, end = [], 0
            for name, a in arrays.items():
                if a.nbytes:
                    np.frombuffer(slots[turn], np.uint8, a.nbytes, end)[:] = np.ascontiguousarray(a).view(np.uint8).ravel()
                head.append((name, a.dtype.str, a.shape, end))
                end += -(-a.nbytes // 64) * 64
            pipe.send((turn, head))
        except (EOFError, BrokenPipeError, KeyboardInterrupt):
            return


class Stream:
    """Batches in order, on the device. The order does not depend on which worker is faster."""

    def __init__(self, packer: Packer, seed: str, start: int, tokens: int, workers: int):
        context = multiprocessing.get_context("fork")
        self.pipes, self.slots, self.processes = [], [], []
        for k in range(workers):
            slots = [mmap.mmap(-1, SLOT_BYTES) for _ in range(2)]
            mine, theirs = context.Pipe()
            process = context.Process(target=work, args=(theirs, slots, packer, seed, start + k, workers, tokens), daemon=True)
            process.start()
            theirs.close()
            self.pipes.append(mine)
            self.slots.append(slots)
            self.processes.append(process)
        self.waiting = 0.0

    def open(self, device: torch.device) -> Iterator[dict[str, torch.Tensor]]:
        """Starts moving batches to the device, two ahead, beside its work."""
        ready: queue.Queue[dict[str, torch.Tensor]] = queue.Queue(2)
        side = torch.cuda.Stream(device) if device.type == "cuda" else None

        def move() -> None:
            for pipe, slots in itertools.cycle(zip(self.pipes, self.slots)):
                try:
                    turn, head = pipe.recv()
                except (EOFError, OSError):
                    return
                arrays = {name: np.frombuffer(slots[turn], np.dtype(dtype), math.prod(shape), offset).reshape(shape) for name, dtype, shape, offset in head}
                with torch.cuda.stream(side):
                    batch = {name: torch.from_numpy(a).to(device, copy=True) for name, a in arrays.items()}
                if side:
                    side.synchronize()
                pipe.send(turn)
                ready.put(batch)

        threading.Thread(target=move, daemon=True).start()
        while True:
            began = time.monotonic()
            batch = ready.get()
            self.waiting += time.monotonic() - began
            if side:
                for x in batch.values():
                    x.record_stream(torch.cuda.current_stream(device))
            yield batch

    def close(self) -> None:
        for process in self.processes:
            process.terminate()


def default_workers() -> int:
    return max(1, (os.cpu_count() or 2) - 1)
