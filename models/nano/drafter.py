#!/usr/bin/env python3
"""Trains carat-nano-assistant, the drafter of a trained carat-nano, and writes its checkpoint.

  python3 models/nano/drafter.py --form base --target PART2/model.safetensors --minutes 2 --out OUT

The drafter owns no keys and no values: its four layers read those of the target's last own layers, and it goes on from the target's last hidden state. All
tokens of a round are drafted at one position; each step gives the next one its token and its state. Training unrolls a round at every token of an answer,
with the target frozen. Acceptance is the share of a round's drafts that a greedy target takes, over the held-out answers.
"""

import argparse
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

import batches
import checkpoint
import model as m
import skills
import train

HIDDEN, INTER = 64, 256
TYPES = (m.S, m.S, m.S, m.FULL)
DRAFTS = 3


class Layer(nn.Module):
    """A decoder layer that has queries alone."""

    def __init__(self, c: m.Text, kind: str):
        super().__init__()
        dim, post = c.dim(kind), 0.4
        self.kind = kind
        self.self_attn = nn.ModuleDict(dict(q_proj=m.Weight(c.heads * dim, HIDDEN), q_norm=m.Weight(dim, value=dim**-0.25), o_proj=m.Weight(HIDDEN, c.heads * dim)))
        self.mlp = m.Mlp(HIDDEN, INTER)
        self.input_layernorm, self.post_attention_layernorm = m.Weight(HIDDEN), m.Weight(HIDDEN, value=post)
        self.pre_feedforward_layernorm, self.post_feedforward_layernorm = m.Weight(HIDDEN), m.Weight(HIDDEN, value=post)
        self.layer_scalar = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor, rope: tuple[Tensor, Tensor], kv: tuple[Tensor, Tensor], mask: Tensor) -> Tensor:
        b, t, _ = x.shape
        a, (k, v) = self.self_attn, kv
        dim = k.shape[-1]
        q = m.linear(m.rms(x, self.input_layernorm.weight), a["q_proj"].weight).view(b, t, -1, dim)
        q = m.rotate(m.rms(q, a["q_norm"].weight), *rope)
        out = m.attend(q.transpose(1, 2), k, v, mask).transpose(1, 2).reshape(b, t, -1)
        x = x + m.rms(m.linear(out, a["o_proj"].weight), self.post_attention_layernorm.weight)
        x = x + m.rms(self.mlp(m.rms(x, self.pre_feedforward_layernorm.weight)), self.post_feedforward_layernorm.weight)
        return x * self.layer_scalar.to(x.dtype)


class Drafter(nn.Module):
    def __init__(self, c: m.Text):
        super().__init__()
        self.c = c
        self.model = nn.Module()
        self.model.embed_tokens = m.Weight(c.vocab, HIDDEN)  # the output head; input embeddings are the target's
        self.model.layers = nn.ModuleList(Layer(c, kind) for kind in TYPES)
        self.model.norm = m.Weight(HIDDEN)
        self.pre_projection, self.post_projection = m.Weight(HIDDEN, 2 * c.hidden), m.Weight(c.hidden, HIDDEN)

    def forward(self, e: Tensor, s: Tensor, rope: dict[str, tuple[Tensor, Tensor]], kv: dict[str, tuple[Tensor, Tensor]], mask: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """One step at every position of the rows: `e` embeddings of the newest tokens, `s` states. Logits, and the states for the next step."""
        x = m.linear(torch.cat([e, s], -1), self.pre_projection.weight)
        for layer in self.model.layers:
            x = layer(x, rope[layer.kind], kv[layer.kind], mask[layer.kind])
        y = m.rms(x, self.model.norm.weight)
        return m.linear(y, self.model.embed_tokens.weight).float(), m.linear(y, self.post_projection.weight)


def ahead(x: Tensor, n: int) -> Tensor:
    """x[:, i + n] at i; zeros past the end."""
    return torch.cat([x[:, n:], torch.zeros_like(x[:, :n])], 1) if n else x


def rounds(target: m.Nano, drafter: Drafter, b: train.Batch, dtype: torch.dtype) -> list[tuple[Tensor, Tensor]]:
    """For each step of a round (logits [N, vocabulary], goals [N]) at the positions from which the answer has that many tokens to go. Position i has just taken
    its token; the target has keys and values before i, and its state at i - 1."""
    c, ids, doc = target.form.text, b["ids"].long(), b["doc"]
    with torch.no_grad():
        hidden, kept, _ = target.hidden(ids, doc, b["pos"], train.media_of(b), dtype)
        kv = {kind: kept[max(i for i in range(c.first_shared) if c.types[i] == kind)] for kind in (m.S, m.FULL)}
        at = torch.arange(ids.shape[1], device=ids.device)
        before = (doc[:, :, None] == doc[:, None, :]) & (at[:, None] > at)
        mask = {m.FULL: before, m.S: before & (at[:, None] - at < c.window)}
        rope = m.make_plan(c, doc, b["pos"], None, dtype).rope
        taught = torch.zeros(ids.numel(), dtype=torch.bool, device=ids.device)
        taught[b["at"] + 1] = True
        taught = taught.view(ids.shape)
        state = torch.cat([torch.zeros_like(hidden[:, :1]), hidden[:, :-1]], 1)
    out, here = [], taught
    for step in range(DRAFTS):
        logits, state = drafter(target.model.language_model.embed(ahead(ids, step), dtype), state, rope, kv, mask)
        here = here & ahead(taught, step + 1) & (ahead(doc, step + 1) == doc)
        out.append((logits[here], ahead(ids, step + 1)[here]))
    return out


@torch.no_grad()
def acceptance(target: m.Nano, drafter: Drafter, tests: dict[str, list], device: torch.device, dtype: torch.dtype) -> dict[str, float]:
    """Share of drafts that are taken, by skill. A draft counts as taken if all before it in its round are."""
    found = {}
    for name, parts in tests.items():
        taken = drafted = 0.0
        for arrays in parts:
            b = {k: torch.from_numpy(v).to(device) for k, v in arrays.items()}
            share = 1.0
            for logits, goal in rounds(target, drafter, b, dtype):
                if not len(goal):
                    break
                share *= float((logits.argmax(-1) == goal).float().mean())
                taken, drafted = taken + share * len(goal), drafted + len(goal)
        found[name] = taken / max(1.0, drafted)
    return found


def config(form: m.Form, ids: dict[str, int]) -> dict:
    """config.json."""
    whole = m.checkpoint_config(form, ids)
    text = whole["text_config"] | dict(
        hidden_size=HIDDEN, intermediate_size=INTER, num_hidden_layers=len(TYPES), layer_types=list(TYPES), num_kv_shared_layers=len(TYPES), final_logit_softcapping=None,
        use_double_wide_mlp=False, use_bidirectional_attention=None, hidden_size_per_layer_input=0, vocab_size_per_layer_input=0, enable_moe_block=False, num_experts=None,
        top_k_experts=None, moe_intermediate_size=None)
    return dict(architectures=["Gemma4AssistantForCausalLM"], model_type="gemma4_assistant", dtype="bfloat16", text_config=text, backbone_hidden_size=form.text.hidden,
                use_ordered_embeddings=False, tie_word_embeddings=True, image_token_id=whole["image_token_id"], audio_token_id=whole["audio_token_id"],
                eos_token_id=whole["eos_token_id"], pad_token_id=ids["<pad>"], bos_token_id=ids["<bos>"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--form", choices=list(m.FORMS), default="base", help="of the target")
    parser.add_argument("--target", type=Path, required=True, help="the target's model.safetensors")
    parser.add_argument("--tokenizer", type=Path, default=Path(__file__).resolve().parent / "base", help="folder with tokenizer.json")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=2, help="everything counted")
    parser.add_argument("--tokens", type=int, default=32768, help="per step")
    parser.add_argument("--test", type=int, default=60, help="held-out cases per skill")
    parser.add_argument("--skills", help="comma-separated; default all that the form has towers for")
    parser.add_argument("--seed", default="drafter")
    parser.add_argument("--workers", type=int, default=batches.default_workers())
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    began = time.monotonic()

    form = m.FORMS[options.form]
    towers = {"vision"} | ({"audio"} if form.audio else set())
    names = options.skills.split(",") if options.skills else [n for n, s in skills.SKILLS.items() if not s.needs or s.needs in towers]
    packer = batches.Packer(options.tokenizer, names, form.text.ple == 0)
    stream = batches.Stream(packer, options.seed, 0, options.tokens, options.workers)
    tests = {n: batches.test_batches(packer, n, options.test) for n in names if skills.SKILLS[n].tested and not skills.SKILLS[n].needs}

    device = torch.device(options.device)
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    torch.manual_seed(1)
    torch.backends.cuda.matmul.allow_tf32 = True
    target = m.Nano(form)
    target.load_state_dict({k: v.float() for k, v in load_file(options.target).items()})
    target.requires_grad_(False).to(device)
    drafter = Drafter(form.text).to(device)
    optimiser = train.Optimiser(drafter, 0.02, 0.003)
    print(f"{sum(p.numel() for p in drafter.parameters()):,} values", flush=True)

    origin, said, limit = time.monotonic(), time.monotonic(), options.minutes * 60 - 10
    for step, b in enumerate(stream.open(device)):
        now = time.monotonic()
        progress = (now - origin) / (limit - (origin - began))
        if progress >= 1:
            break
        losses = [F.cross_entropy(logits, goal) for logits, goal in rounds(target, drafter, b, dtype) if len(goal)]
        loss = sum(losses) / len(losses)
        for p in drafter.parameters():
            p.grad = None
        loss.backward()
        torch.nn.utils.clip_grad_norm_(drafter.parameters(), 1.0, foreach=True)
        optimiser.step(train.share_of_rate(progress, step, 0.5))
        if now - said > 15 or step == 0:
            print(f"[{now - began:6.1f} s] step {step}  losses " + " ".join(f"{float(x):.3f}" for x in losses), flush=True)
            said = now
    stream.close()

    options.out.mkdir(parents=True, exist_ok=True)
    checkpoint.write_json(options.out / "config.json", config(form, checkpoint.token_ids(options.tokenizer)))
    checkpoint.write_json(options.out / "generation_config.json", m.generation_config(checkpoint.token_ids(options.tokenizer)) | dict(num_assistant_tokens=DRAFTS, num_assistant_tokens_schedule="constant"))
    checkpoint.write_weights(drafter, options.out / "model.safetensors")
    found = acceptance(target, drafter, tests, device, dtype)
    print("acceptance  " + "  ".join(f"{n} {100 * x:.1f}" for n, x in found.items()) + f"\nmean {100 * sum(found.values()) / len(found):.1f}")


if __name__ == "__main__":
    main()
