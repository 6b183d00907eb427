"""Conversations as token ids, by the checkpoint's own chat template and tokenizer."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import jinja2
import jinja2.sandbox
import numpy as np
from tokenizers import Tokenizer

import pictures
import skills
import sounds

HERE = Path(__file__).resolve().parent
TEMPLATE = HERE / "chat_template.jinja"


def template_text(closed_thought: bool) -> str:
    """The chat template of a checkpoint. With `closed_thought` an empty thought stands before answers without thinking, as in the large members."""
    return TEMPLATE.read_text().replace("set closed_thought = false", f"set closed_thought = {str(closed_thought).lower()}")


@lru_cache
def template(closed_thought: bool) -> jinja2.Template:
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(template_text(closed_thought))


def texts(case: skills.Case, closed_thought: bool = False) -> tuple[str, str]:
    """(prompt with one placeholder per picture, clip or film; the model's turn with its end)."""
    prompt = template(closed_thought).render(messages=case.messages, tools=case.tools, enable_thinking=case.thinking, add_generation_prompt=True, bos_token="<bos>")
    return prompt, case.answer + case.end


@dataclass
class Image:
    """Patches of one image or frame for the vision tower."""

    values: np.ndarray  # [n, 768] uint8
    rows: int
    columns: int


@dataclass
class Sample:
    """One conversation ready for the model."""

    skill: str
    ids: np.ndarray  # [T] int64
    answers: list[tuple[int, int]]  # [begin, end) of the turns that are taught
    images: list[Image]
    clips: list[np.ndarray]  # [frames, 128] float32


class Encoder:
    """Cases to samples."""

    def __init__(self, folder: Path, closed_thought: bool = False):
        self.closed_thought = closed_thought
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.opening = self.tokens("<|turn>model\n")
        self.ids = {t: self.tokenizer.token_to_id(t) for t in ("<|image>", "<image|>", "<|image|>", "<|audio>", "<audio|>", "<|audio|>", "<|video|>")}

    def tokens(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def turns(self, ids: list[int]) -> list[tuple[int, int]]:
        """The model's turns, each with its end."""
        n, end = len(self.opening), self.tokenizer.token_to_id(skills.TURN_END)
        begins = [k + n for k in range(len(ids) - n) if ids[k : k + n] == self.opening]
        return [(b, ids.index(end, b) + 1) for b in begins]

    def expand(self, media: Any, images: list[Image], clips: list[np.ndarray]) -> list[int]:
        """The ids that stand for one placeholder; what the towers take is appended."""
        i = self.ids
        if isinstance(media, sounds.Sound):
            clip = sounds.features(sounds.play(media))
            clips.append(clip)
            return [i["<|audio>"], *[i["<|audio|>"]] * sounds.soft_tokens(len(clip)), i["<audio|>"]]
        film = isinstance(media, pictures.Film)
        out: list[int] = []
        shots = pictures.frames(media) if film else [pictures.draw(media)]
        stamps = pictures.time_stamps(media) if film else [""]
        for shot, stamp in zip(shots, stamps):
            values, rows, columns = pictures.patches(shot)
            images.append(Image(values, rows, columns))
            soft = rows * columns // pictures.POOL**2
            if film:
                out += self.tokens((" " if out else "") + stamp + " ")
            out += [i["<|image>"], *[i["<|video|>" if film else "<|image|>"]] * soft, i["<image|>"]]
        return out

    def __call__(self, case: skills.Case) -> Sample:
        prompt, answer = texts(case, self.closed_thought)
        ids, images, clips = self.tokens(prompt), [], []
        if case.media:
            places = {self.ids[p] for p in ("<|image|>", "<|audio|>", "<|video|>")}
            media, expanded = iter(case.media), []
            for token in ids:
                expanded += self.expand(next(media), images, clips) if token in places else [token]
            ids = expanded
        begin = len(ids)
        ids += self.tokens(answer)
        return Sample(case.skill, np.array(ids), self.turns(ids) if case.every_turn else [(begin, len(ids))], images, clips)
