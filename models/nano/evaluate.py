#!/usr/bin/env python3
"""Held-out scores of a checkpoint, asked through a server's chat API or through Transformers.

  python3 models/nano/evaluate.py --url http://127.0.0.1:30000 [--scores OUT/scores.json] [--save api.json] [--against hf.json]
  python3 models/nano/evaluate.py --transformers models/nano/base [--save hf.json]

Prints for each skill how many cases were answered rightly (what a client sees: text, calls, JSON), and how many exactly (the thought too), which is what
train.py counts. `--scores` puts train.py's numbers beside them, `--against` another run's, with the number of cases that the two judge differently.
Only the standard library, numpy and Pillow are needed for --url; --transformers needs Transformers 5.24 or newer and runs on the CPU.
"""

import argparse
import base64
import io
import json
import struct
import urllib.error
import urllib.request
import wave
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable

import numpy as np
from PIL import Image

import pictures
import skills
import sounds
import tools

MAX_TOKENS = 400


@dataclass
class Verdict:
    right: bool
    exact: bool
    got: str


def split(turn: str) -> tuple[str, str]:
    """(thought, rest) of a model's turn."""
    thought, _, rest = turn.rpartition("<channel|>")
    return thought.removeprefix("<|channel>thought\n").strip(), rest


def same(case: skills.Case, got: str, expected: str) -> bool:
    if not case.schema:
        return got == expected
    try:
        return json.loads(got) == json.loads(expected)
    except ValueError:
        return False


# ---- files as a client sends them --------------------------------------------------------------------------------

def data_uri(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def png(pixels: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def wav(samples: np.ndarray) -> bytes:
    out = io.BytesIO()
    with wave.open(out, "wb") as w:
        w.setnchannels(1)
        w.setsampwidth(2)
        w.setframerate(sounds.RATE)
        w.writeframes(np.round(samples * 32768).clip(-32768, 32767).astype("<i2").tobytes())
    return out.getvalue()


def avi(frames: list[np.ndarray], fps: float) -> bytes:
    """A film without loss: PNG frames in an AVI."""
    height, width = frames[0].shape[:2]
    chunk = lambda name, data: name + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)
    listed = lambda name, data: chunk(b"LIST", name + data)
    shots = [png(f) for f in frames]
    rate, biggest = round(fps * 1000), max(map(len, shots))
    main = struct.pack("<14I", round(1e6 / fps), 0, 0, 0x10, len(shots), 0, 1, biggest, width, height, 0, 0, 0, 0)
    stream = b"vidsMPNG" + struct.pack("<IHHIIIIIIiI4H", 0, 0, 0, 0, 1000, rate, 0, len(shots), biggest, -1, 0, 0, 0, width, height)
    form = struct.pack("<IiiHH4sIiiII", 40, width, height, 1, 24, b"MPNG", width * height * 3, 0, 0, 0, 0)
    index, offset, movie = b"", 4, b""
    for s in shots:
        index += b"00dc" + struct.pack("<III", 0x10, offset, len(s))
        movie += chunk(b"00dc", s)
        offset = 4 + len(movie)
    head = listed(b"hdrl", chunk(b"avih", main) + listed(b"strl", chunk(b"strh", stream) + chunk(b"strf", form)))
    return chunk(b"RIFF", b"AVI " + head + listed(b"movi", movie) + chunk(b"idx1", index))


def media_part(media: Any) -> dict[str, Any]:
    """A content part of a chat message."""
    if isinstance(media, sounds.Sound):
        return {"type": "input_audio", "input_audio": {"data": base64.b64encode(wav(sounds.play(media))).decode(), "format": "wav"}}
    if isinstance(media, pictures.Film):
        return {"type": "video_url", "video_url": {"url": data_uri("video/x-msvideo", avi(pictures.frames(media), media.fps))}}
    return {"type": "image_url", "image_url": {"url": data_uri("image/png", png(pictures.draw(media)))}}


# ---- through the API ---------------------------------------------------------------------------------------------

def chat_request(case: skills.Case) -> dict[str, Any]:
    """The case as the body of a chat completion."""
    media, messages = iter(case.media), []
    for m in case.messages:
        m = dict(m)
        if isinstance(m["content"], list):
            m["content"] = [p if p["type"] == "text" else media_part(next(media)) for p in m["content"]]
        if "tool_calls" in m:
            m["tool_calls"] = [{**c, "function": {**c["function"], "arguments": json.dumps(c["function"]["arguments"])}} for c in m["tool_calls"]]
        messages.append(m)
    body: dict[str, Any] = dict(messages=messages, temperature=0, max_tokens=MAX_TOKENS)
    if case.thinking:
        body["chat_template_kwargs"] = {"enable_thinking": True}
    if case.tools:
        body["tools"] = case.tools
    if case.schema:
        body["response_format"] = {"type": "json_schema", "json_schema": {"name": "answer", "schema": case.schema}}
    return body


def post(url: str, body: dict[str, Any]) -> dict[str, Any]:
    request = urllib.request.Request(url + "/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=600) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as e:
        raise SystemExit(f"{e.code}: {e.read().decode()}") from None


def ask_api(url: str) -> Callable[[skills.Case], Verdict]:
    def answer(case: skills.Case) -> Verdict:
        message = post(url, chat_request(case))["choices"][0]["message"]
        thought, text = message.get("reasoning_content") or "", message.get("content") or ""
        for call in message.get("tool_calls") or []:
            text += tools.call_text(call["function"]["name"], json.loads(call["function"]["arguments"]))
        expected_thought, expected = split(case.answer)
        right = same(case, text, expected)
        return Verdict(right, right and thought.strip() == expected_thought, f"[{thought}] {text}" if thought else text)

    return answer


# ---- through Transformers ----------------------------------------------------------------------------------------

def ask_transformers(folder: Path, dtype: str) -> Callable[[skills.Case], Verdict]:
    """Its own template, tokenizer, processor and model. The right answer is given, and each of its tokens must be the most likely one after those before it:
    the same as decoding greedily, in one pass."""
    import torch
    from transformers import AutoModelForMultimodalLM, AutoProcessor
    from transformers.video_utils import VideoMetadata

    processor = AutoProcessor.from_pretrained(folder)
    model = AutoModelForMultimodalLM.from_pretrained(folder, dtype=getattr(torch, dtype)).eval()

    @torch.inference_mode()
    def answer(case: skills.Case) -> Verdict:
        prompt = processor.apply_chat_template(case.messages, tools=case.tools, enable_thinking=case.thinking, add_generation_prompt=True, tokenize=False)
        pick = lambda kind: [m for m in case.media if isinstance(m, kind)]
        media: dict[str, Any] = {}
        if pick(pictures.Picture):
            media["images"] = [[Image.fromarray(pictures.draw(p)) for p in pick(pictures.Picture)]]
        if pick(sounds.Sound):
            media["audio"] = [sounds.play(s) for s in pick(sounds.Sound)]
        if pick(pictures.Film):
            media["do_sample_frames"] = False  # it refuses films shorter than 32 frames otherwise
            films = [(f, pictures.frames(f)) for f in pick(pictures.Film)]
            media["videos"] = [torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2) for _, frames in films]
            media["video_metadata"] = [VideoMetadata(total_num_frames=f.frames, fps=f.fps, width=f.start.width, height=f.start.height, frames_indices=list(range(f.frames)))
                                       for f, _ in films]
        inputs = processor(text=[prompt], return_tensors="pt", add_special_tokens=False, **media)
        ids = processor.tokenizer(case.answer + case.end, add_special_tokens=False, return_tensors="pt")["input_ids"]
        n = inputs["input_ids"].shape[1]
        inputs["input_ids"] = torch.cat([inputs["input_ids"], ids], 1)
        for name in ("attention_mask", "mm_token_type_ids"):
            if name in inputs:
                inputs[name] = torch.cat([inputs[name], torch.full_like(ids, int(name == "attention_mask"))], 1)
        best = model(**inputs).logits[0, n - 1 : -1].argmax(-1)
        exact = bool((best == ids[0]).all())
        shown = split(case.answer + case.end)[1]
        tail = len(processor.tokenizer(shown, add_special_tokens=False)["input_ids"])
        return Verdict(bool((best == ids[0])[-tail:].all()), exact, processor.tokenizer.decode(best))

    return answer


# ---- scores ------------------------------------------------------------------------------------------------------

def percent(hits: list[bool]) -> float:
    return 100 * sum(hits) / len(hits)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", help="of a server, e.g. http://127.0.0.1:30000")
    parser.add_argument("--transformers", type=Path, help="folder of the checkpoint")
    parser.add_argument("--dtype", default="bfloat16", help="of --transformers; servers round as bfloat16 does")
    parser.add_argument("--skills", help="comma-separated; default all that have held-out sets")
    parser.add_argument("--cases", type=int, default=200, help="per skill")
    parser.add_argument("--at-once", type=int, default=8, help="requests to the server")
    parser.add_argument("--scores", type=Path, help="scores.json of train.py, to print beside")
    parser.add_argument("--save", type=Path, help="where to write the verdicts")
    parser.add_argument("--against", type=Path, help="what --save wrote in another run")
    parser.add_argument("--wrong", type=int, default=0, help="wrong answers to print per skill")
    options = parser.parse_args()
    if bool(options.url) == bool(options.transformers):
        parser.error("one of --url and --transformers is needed")
    answer = ask_api(options.url) if options.url else ask_transformers(options.transformers, options.dtype)
    names = options.skills.split(",") if options.skills else [n for n, s in skills.SKILLS.items() if s.tested]
    trained = json.loads(options.scores.read_text()) if options.scores else {}
    other = json.loads(options.against.read_text()) if options.against else {}

    print(f"{'skill':16}{'right':>7}{'exact':>7}" + (f"{'train':>7}" if trained else "") + (f"{'other':>7}{'differ':>8}" if other else ""), flush=True)
    verdicts: dict[str, list[bool]] = {}
    groups: dict[str, list[float]] = {}
    with ThreadPoolExecutor(options.at_once if options.url else 1) as pool:
        for name in names:
            cases = list(skills.held_out_set(name, options.cases))
            found = list(pool.map(answer, cases))
            verdicts[name] = [v.exact for v in found]
            right = percent([v.right for v in found])
            groups.setdefault(skills.SKILLS[name].group, []).append(right)
            line = f"{name:16}{right:7.1f}{percent(verdicts[name]):7.1f}"
            if trained:
                line += f"{100 * trained[name]:7.1f}" if name in trained else " " * 7
            if name in other:
                both = list(zip(verdicts[name], other[name]))
                line += f"{percent([b for _, b in both]):7.1f}{sum(a != b for a, b in both):4}/{len(both)}"
            print(line, flush=True)
            for case, v in [(c, v) for c, v in zip(cases, found) if not v.right][: options.wrong]:
                print(f"    {case.messages[-1]['content']!r}: {case.answer!r} <- {v.got!r}")
            if options.save:
                options.save.write_text(json.dumps(verdicts))
    print("\n" + "\n".join(f"{g:16}{sum(v) / len(v):7.1f}" for g, v in groups.items()))


if __name__ == "__main__":
    main()
