"""Gemma 4 in plain PyTorch for training small models: text decoder (both forms), vision tower, audio tower, drafter.

Module names are the checkpoint's tensor names, so a state_dict is the file. Weights are kept in float32; the arithmetic runs in the dtype that
forward() is given. Rows hold several conversations side by side: `doc` [B, T] tells them apart, `pos` [B, T] counts from 0 in each.
"""

import math
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

S, FULL = "sliding_attention", "full_attention"
EPS = 1e-6
CLIP_IN, CLIP_OUT = 8.0, 16.0  # bounds of the clippable linears
MEL = 128
PATCHES, SOFT = 640, 70  # room per image: at most 630 patches are real, 640 suits the kernels


@dataclass(frozen=True)
class Text:
    vocab: int = 4096
    hidden: int = 192
    inter: int = 208
    types: tuple[str, ...] = (S, S, S, FULL, S, S, S, FULL)
    shared: int = 4  # layers at the end that read the K/V of earlier ones
    heads: int = 2  # over one K/V head
    window: int = 128
    head_dim: int = 256
    full_dim: int = 512
    ple: int = 16
    double_wide: bool = True  # MLP of the shared layers
    k_is_v: bool = False  # in full layers
    both_ways: bool = False  # inside images, on sliding layers
    experts: int = 0
    top_k: int = 0
    expert_inter: int = 0
    softcap: float | None = 30.0

    def dim(self, kind: str) -> int:
        return self.full_dim if kind == FULL else self.head_dim

    def width(self, layer: int) -> int:
        return self.inter * (2 if self.double_wide and layer >= self.first_shared else 1)

    @property
    def first_shared(self) -> int:
        return len(self.types) - self.shared

    def source(self, layer: int) -> int:
        """The layer whose keys and values this one reads."""
        if layer < self.first_shared:
            return layer
        return max(i for i in range(self.first_shared) if self.types[i] == self.types[layer])


@dataclass(frozen=True)
class Vision:
    hidden: int = 128
    inter: int = 128
    layers: int = 2
    heads: int = 2
    table: int = 224  # rows of the position table: the longest side of an image within the budget, in patches
    clipped: bool = True
    standardize: bool = False


@dataclass(frozen=True)
class Audio:
    hidden: int = 64
    layers: int = 2
    heads: int = 2
    channels: int = 8  # of the second convolution; the first has 128
    out: int = 96


@dataclass(frozen=True)
class Form:
    """One model of the nano family."""

    name: str
    text: Text
    vision: Vision = field(default_factory=Vision)
    audio: Audio | None = field(default_factory=Audio)


FORMS = {
    "base": Form("carat-nano", Text()),
    "moe": Form("carat-nano-moe", Text(inter=128, types=(S, S, S, S, S, FULL), shared=0, ple=0, double_wide=False, k_is_v=True, both_ways=True, experts=16, top_k=4, expert_inter=32),
                Vision(clipped=False, standardize=True), None),
}


# ---- parts -------------------------------------------------------------------------------------------------------

def linear(x: Tensor, w: Tensor) -> Tensor:
    return F.linear(x, w.to(x.dtype))


def rms(x: Tensor, w: Tensor | None = None) -> Tensor:
    return F.rms_norm(x, (x.shape[-1],), None if w is None else w.to(x.dtype), EPS)


def gelu(x: Tensor) -> Tensor:
    return F.gelu(x, approximate="tanh")


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Pairs (j, j + d/2) of the last axis; cos and sin hold d/2 values."""
    a, b = x.chunk(2, -1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)


def angles(pos: Tensor, dim: int, theta: float, share: float = 1.0) -> Tensor:
    """[..., dim / 2]; frequencies beyond `share` of them are 0."""
    j = torch.arange(dim // 2, device=pos.device)
    freq = torch.where(j < int(share * dim // 2), theta ** (-2.0 * j.float() / dim), 0.0)
    return pos[..., None].float() * freq


class Weight(nn.Module):
    """A matrix [out, in], or the weight of a norm."""

    def __init__(self, *shape: int, std: float | None = None, value: float = 1.0):
        super().__init__()
        start = torch.full(shape, value) if len(shape) == 1 else torch.randn(shape) * (std if std is not None else shape[-1] ** -0.5)
        self.weight = nn.Parameter(start)


class Clippable(nn.Module):
    """A linear between two clamps, or a plain one under the same names."""

    def __init__(self, out: int, inp: int, clipped: bool, std: float | None = None):
        super().__init__()
        self.linear = Weight(out, inp, std=std)
        self.clipped = clipped
        if clipped:
            for name, bound in (("input_min", -CLIP_IN), ("input_max", CLIP_IN), ("output_min", -CLIP_OUT), ("output_max", CLIP_OUT)):
                self.register_buffer(name, torch.tensor(bound))

    def forward(self, x: Tensor) -> Tensor:
        if not self.clipped:
            return linear(x, self.linear.weight)
        return linear(x.clamp(-CLIP_IN, CLIP_IN), self.linear.weight).clamp(-CLIP_OUT, CLIP_OUT)


# ---- text --------------------------------------------------------------------------------------------------------

def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """q [N, heads, Tq, d], k and v [N, Tk, d] shared by the heads, mask [N, Tq, Tk]: [N, heads, Tq, d]. Scores are not scaled."""
    n, heads, tq, d = q.shape
    scores = torch.bmm(q.reshape(n, heads * tq, d), k.transpose(1, 2)).view(n, heads, tq, -1)
    p = scores.float().masked_fill(~mask[:, None], -1e30).softmax(-1).to(v.dtype)
    return torch.bmm(p.view(n, heads * tq, -1), v).view(n, heads, tq, d)


def neighbours(x: Tensor, window: int, ahead: bool) -> Tensor:
    """[B, T, ...] cut into blocks of `window`, each with the block before it (and the one after it): [B * blocks, 2 or 3 windows, ...]."""
    b, t = x.shape[:2]
    blocks = x.view(b, t // window, window, *x.shape[2:])
    zero = torch.zeros_like(blocks[:, :1])
    parts = [torch.cat([zero, blocks[:, :-1]], 1), blocks]
    if ahead:
        parts.append(torch.cat([blocks[:, 1:], zero], 1))
    return torch.cat(parts, 2).flatten(0, 1)


@dataclass
class Plan:
    """What the layers need to know about the rows, made once per batch."""

    rope: dict[str, tuple[Tensor, Tensor]]  # cos, sin [B, T, 1, d / 2]
    mask: dict[str, Tensor]  # full: [B, T, T]; sliding: [B * blocks, window, 2 or 3 windows]


def make_plan(c: Text, doc: Tensor, pos: Tensor, image: Tensor | None, dtype: torch.dtype) -> Plan:
    """`image` [B, T]: number of the image block that a position belongs to, 0 for none; only where images are seen both ways."""
    b, t = doc.shape
    rope = {}
    for kind, theta, share in ((S, 1e4, 1.0), (FULL, 1e6, 0.25)):
        a = angles(pos, c.dim(kind), theta, share)[:, :, None]
        rope[kind] = (a.cos().to(dtype), a.sin().to(dtype))
    at = torch.arange(t, device=doc.device)
    full = (doc[:, :, None] == doc[:, None, :]) & (at[:, None] >= at)
    w, ahead = c.window, image is not None
    spread = lambda x: neighbours(x[:, :, None], w, ahead)[..., 0]
    own = lambda x: x.reshape(b * (t // w), w)
    where = at.expand(b, t) + 1  # 0 marks the empty block before the first and after the last
    q, k = own(where)[:, :, None], spread(where)[:, None, :]
    near = (k > 0) & (own(doc)[:, :, None] == spread(doc)[:, None, :]) & (k > q - w)
    seen = k <= q
    if image is not None:
        mine, theirs = own(image)[:, :, None], spread(image)[:, None, :]
        seen = seen | ((mine > 0) & (mine == theirs))
    return Plan(rope, {FULL: full, S: near & seen})


class Attention(nn.Module):
    def __init__(self, c: Text, layer: int):
        super().__init__()
        self.kind = c.types[layer]
        self.dim, self.heads, self.window, self.ahead = c.dim(self.kind), c.heads, c.window, c.both_ways
        self.q_proj = Weight(c.heads * self.dim, c.hidden)
        self.o_proj = Weight(c.hidden, c.heads * self.dim)
        start = self.dim ** -0.25  # so that scores of a new model have deviation 1
        self.q_norm = Weight(self.dim, value=start)
        self.own = layer < c.first_shared
        self.k_is_v = c.k_is_v and self.kind == FULL
        if self.own:
            self.k_proj = Weight(self.dim, c.hidden)
            self.k_norm = Weight(self.dim, value=start)
            if not self.k_is_v:
                self.v_proj = Weight(self.dim, c.hidden)

    def forward(self, x: Tensor, kv: tuple[Tensor, Tensor] | None, plan: Plan) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        b, t, _ = x.shape
        cos, sin = plan.rope[self.kind]
        q = rotate(rms(linear(x, self.q_proj.weight).view(b, t, self.heads, self.dim), self.q_norm.weight), cos, sin)
        if self.own:
            raw = linear(x, self.k_proj.weight)
            value = raw if self.k_is_v else linear(x, self.v_proj.weight)
            kv = (rotate(rms(raw, self.k_norm.weight)[:, :, None], cos, sin)[:, :, 0], rms(value))
        k, v = kv
        mask = plan.mask[self.kind]
        if self.kind == FULL:
            out = attend(q.transpose(1, 2), k, v, mask).transpose(1, 2)
        else:
            w = self.window
            out = attend(q.reshape(b * (t // w), w, self.heads, self.dim).transpose(1, 2), neighbours(k, w, self.ahead), neighbours(v, w, self.ahead), mask).transpose(1, 2)
        return linear(out.reshape(b, t, self.heads * self.dim), self.o_proj.weight), kv


class Mlp(nn.Module):
    def __init__(self, hidden: int, inter: int):
        super().__init__()
        self.gate_proj, self.up_proj, self.down_proj = Weight(inter, hidden), Weight(inter, hidden), Weight(hidden, inter)

    def forward(self, x: Tensor) -> Tensor:
        return linear(gelu(linear(x, self.gate_proj.weight)) * linear(x, self.up_proj.weight), self.down_proj.weight)


class Router(nn.Module):
    def __init__(self, c: Text):
        super().__init__()
        self.top_k, self.root = c.top_k, c.hidden ** -0.5
        self.proj = Weight(c.experts, c.hidden, std=1.0)
        self.scale = nn.Parameter(torch.ones(c.hidden))
        self.per_expert_scale = nn.Parameter(torch.ones(c.experts))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(weights [B, T, experts], zero for experts not chosen; probabilities of all)."""
        p = linear(rms(x) * self.scale.to(x.dtype) * self.root, self.proj.weight).float().softmax(-1)
        best = p.topk(self.top_k, -1)
        w = best.values / best.values.sum(-1, keepdim=True) * self.per_expert_scale[best.indices]
        return torch.zeros_like(p).scatter(-1, best.indices, w), p


class Experts(nn.Module):
    """All experts are computed for all tokens, which is the fastest way for a handful of tiny ones."""

    def __init__(self, c: Text):
        super().__init__()
        self.gate_up_proj = nn.Parameter(torch.randn(c.experts, 2 * c.expert_inter, c.hidden) * c.hidden ** -0.5)
        self.down_proj = nn.Parameter(torch.randn(c.experts, c.hidden, c.expert_inter) * c.expert_inter ** -0.5)

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        e, two, h = self.gate_up_proj.shape
        gate, up = linear(x, self.gate_up_proj.reshape(e * two, h)).view(*x.shape[:-1], e, 2, two // 2).unbind(-2)
        inner = gelu(gate) * up * weights[..., None].to(x.dtype)
        return F.linear(inner.flatten(-2), self.down_proj.transpose(0, 1).reshape(h, -1).to(x.dtype))


class DecoderLayer(nn.Module):
    def __init__(self, c: Text, layer: int):
        super().__init__()
        h, post = c.hidden, 0.4
        self.self_attn = Attention(c, layer)
        self.mlp = Mlp(h, c.width(layer))
        self.input_layernorm, self.post_attention_layernorm = Weight(h), Weight(h, value=post)
        self.pre_feedforward_layernorm, self.post_feedforward_layernorm = Weight(h), Weight(h, value=post)
        self.layer_scalar = nn.Parameter(torch.ones(1))
        self.has_ple, self.has_experts = c.ple > 0, c.experts > 0
        if c.ple:
            self.per_layer_input_gate, self.per_layer_projection = Weight(c.ple, h), Weight(h, c.ple)
            self.post_per_layer_input_norm = Weight(h, value=post)
        if c.experts:
            self.router, self.experts = Router(c), Experts(c)
            self.pre_feedforward_layernorm_2, self.post_feedforward_layernorm_1, self.post_feedforward_layernorm_2 = Weight(h), Weight(h), Weight(h)

    def forward(self, h: Tensor, ple: Tensor | None, kv: tuple[Tensor, Tensor] | None, plan: Plan) -> tuple[Tensor, tuple[Tensor, Tensor], Tensor | None]:
        """(residual stream, keys and values, router probabilities)."""
        a, kv = self.self_attn(rms(h, self.input_layernorm.weight), kv, plan)
        h = h + rms(a, self.post_attention_layernorm.weight)
        f, routed = self.mlp(rms(h, self.pre_feedforward_layernorm.weight)), None
        if self.has_experts:
            weights, routed = self.router(h)
            e = self.experts(rms(h, self.pre_feedforward_layernorm_2.weight), weights)
            f = rms(f, self.post_feedforward_layernorm_1.weight) + rms(e, self.post_feedforward_layernorm_2.weight)
        h = h + rms(f, self.post_feedforward_layernorm.weight)
        if self.has_ple:
            g = gelu(linear(h, self.per_layer_input_gate.weight)) * ple
            h = h + rms(linear(g, self.per_layer_projection.weight), self.post_per_layer_input_norm.weight)
        return h * self.layer_scalar.to(h.dtype), kv, routed


class Decoder(nn.Module):
    def __init__(self, c: Text):
        super().__init__()
        self.c = c
        self.scale = float(torch.tensor(c.hidden ** 0.5).bfloat16())
        self.embed_tokens = Weight(c.vocab, c.hidden, std=c.hidden ** -0.5)
        if c.ple:
            self.embed_tokens_per_layer = Weight(c.vocab, len(c.types) * c.ple, std=c.ple ** -0.5)
            self.per_layer_model_projection = Weight(len(c.types) * c.ple, c.hidden, std=1.0)
            self.per_layer_projection_norm = Weight(c.ple)
        self.layers = nn.ModuleList(DecoderLayer(c, i) for i in range(len(c.types)))
        self.norm = Weight(c.hidden)

    def embed(self, ids: Tensor, dtype: torch.dtype) -> Tensor:
        return (F.embedding(ids, self.embed_tokens.weight) * self.scale).to(dtype)

    def per_layer_inputs(self, ids: Tensor, h: Tensor) -> Tensor:
        """[B, T, layers, ple]; `ids` has 0 in place of soft tokens."""
        c, shape = self.c, (*ids.shape, len(self.c.types), self.c.ple)
        own = (F.embedding(ids, self.embed_tokens_per_layer.weight) * c.ple ** 0.5).to(h.dtype).view(shape)
        context = rms((linear(h, self.per_layer_model_projection.weight) * c.hidden ** -0.5).view(shape), self.per_layer_projection_norm.weight)
        return (context + own) * 2 ** -0.5

    def forward(self, ids: Tensor, h: Tensor, plan: Plan) -> tuple[Tensor, dict[int, tuple[Tensor, Tensor]], list[Tensor]]:
        """(state after the last norm [B, T, H], keys and values by layer, router probabilities by layer)."""
        ple = self.per_layer_inputs(ids, h) if self.c.ple else None
        kept: dict[int, tuple[Tensor, Tensor]] = {}
        routed = []
        for i, layer in enumerate(self.layers):
            h, kept[i], p = layer(h, ple[:, :, i] if ple is not None else None, kept[self.c.source(i)] if i >= self.c.first_shared else None, plan)
            routed.append(p)
        return rms(h, self.norm.weight), kept, [p for p in routed if p is not None]


# ---- vision ------------------------------------------------------------------------------------------------------

class VisionAttention(nn.Module):
    def __init__(self, c: Vision):
        super().__init__()
        self.heads, self.dim = c.heads, c.hidden // c.heads
        self.q_proj, self.k_proj, self.v_proj, self.o_proj = (Clippable(c.hidden, c.hidden, c.clipped) for _ in range(4))
        self.q_norm, self.k_norm = (Weight(self.dim, value=self.dim ** -0.25) for _ in range(2))

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor) -> Tensor:
        split = lambda y: y.view(*y.shape[:2], self.heads, self.dim)

        def turned(y: Tensor) -> Tensor:  # first half of the channels by column, second by row
            return torch.cat([rotate(p, cos[..., i, :], sin[..., i, :]) for i, p in enumerate(y.chunk(2, -1))], -1)

        q = turned(rms(split(self.q_proj(x)), self.q_norm.weight))
        k = turned(rms(split(self.k_proj(x)), self.k_norm.weight))
        v = rms(split(self.v_proj(x)))
        out = F.scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), attn_mask=mask, scale=1.0)
        return self.o_proj(out.transpose(1, 2).flatten(2))


class VisionMlp(nn.Module):
    def __init__(self, c: Vision):
        super().__init__()
        self.gate_proj, self.up_proj, self.down_proj = Clippable(c.inter, c.hidden, c.clipped), Clippable(c.inter, c.hidden, c.clipped), Clippable(c.hidden, c.inter, c.clipped)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(gelu(self.gate_proj(x)) * self.up_proj(x))


class VisionLayer(nn.Module):
    def __init__(self, c: Vision):
        super().__init__()
        h = c.hidden
        self.self_attn, self.mlp = VisionAttention(c), VisionMlp(c)
        self.input_layernorm, self.post_attention_layernorm, self.pre_feedforward_layernorm, self.post_feedforward_layernorm = Weight(h), Weight(h, value=0.5), Weight(h), Weight(h, value=0.5)

    def forward(self, h: Tensor, cos: Tensor, sin: Tensor, mask: Tensor) -> Tensor:
        h = h + rms(self.self_attn(rms(h, self.input_layernorm.weight), cos, sin, mask), self.post_attention_layernorm.weight)
        return h + rms(self.mlp(rms(h, self.pre_feedforward_layernorm.weight)), self.post_feedforward_layernorm.weight)


class PatchEmbedder(nn.Module):
    def __init__(self, c: Vision):
        super().__init__()
        self.input_proj = Weight(c.hidden, 768)
        self.position_embedding_table = nn.Parameter(torch.randn(2, c.table, c.hidden) * 0.3)


class VisionEncoder(nn.Module):
    def __init__(self, c: Vision):
        super().__init__()
        self.layers = nn.ModuleList(VisionLayer(c) for _ in range(c.layers))


class VisionTower(nn.Module):
    def __init__(self, c: Vision):
        super().__init__()
        self.c = c
        self.patch_embedder, self.encoder = PatchEmbedder(c), VisionEncoder(c)
        if c.standardize:
            self.std_bias, self.std_scale = nn.Parameter(torch.zeros(c.hidden)), nn.Parameter(torch.full((c.hidden,), c.hidden ** -0.5))

    def forward(self, values: Tensor, xy: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """values [N, 640, 768] uint8, xy [N, 640, 2] (column, row; -1: filling): soft tokens [N, 70, h] and which of them exist [N, 70]."""
        real = xy[..., 0] >= 0
        place = xy.clamp(min=0)
        table = self.patch_embedder.position_embedding_table
        h = linear((2 * (values.float() / 255 - 0.5)).to(dtype), self.patch_embedder.input_proj.weight)
        h = h + (F.embedding(place[..., 0], table[0]) + F.embedding(place[..., 1], table[1])).to(dtype)
        a = angles(place, self.c.hidden // self.c.heads // 2, 100.0)[:, :, None]  # [N, 640, 1, 2, d / 4]
        cos, sin = a.cos().to(dtype), a.sin().to(dtype)
        mask = real[:, None, None, :]
        for layer in self.encoder.layers:
            h = layer(h, cos, sin, mask)
        columns = (place[..., 0].amax(1, keepdim=True) + 1) // 3
        group = torch.where(real, place[..., 0] // 3 + columns * (place[..., 1] // 3), SOFT)
        soft = torch.zeros(h.shape[0], SOFT + 1, h.shape[2], device=h.device).scatter_add(1, group[..., None].expand_as(h), h.float() / 9)[:, :SOFT]
        soft = soft.to(dtype).float() * self.c.hidden ** 0.5
        if self.c.standardize:
            soft = (soft - self.std_bias) * self.std_scale
        exists = torch.arange(SOFT, device=h.device) < real.sum(1, keepdim=True) // 9
        return soft.to(dtype), exists


# ---- audio -------------------------------------------------------------------------------------------------------

class ConvStep(nn.Module):
    def __init__(self, inp: int, out: int):
        super().__init__()
        self.conv = nn.Conv2d(inp, out, 3, 2, 1, bias=False)
        self.norm = nn.LayerNorm(out, EPS, bias=False)

    def forward(self, x: Tensor, real: Tensor) -> Tensor:
        x = F.conv2d(x * real[:, None, :, None].to(x.dtype), self.conv.weight.to(x.dtype), stride=2, padding=1)
        y = F.layer_norm(x.permute(0, 2, 3, 1).float(), self.norm.weight.shape, self.norm.weight.float(), None, EPS)
        return F.relu(y.to(x.dtype)).permute(0, 3, 1, 2)


class Subsample(nn.Module):
    def __init__(self, c: Audio):
        super().__init__()
        self.layer0, self.layer1 = ConvStep(1, 128), ConvStep(128, c.channels)
        self.input_proj_linear = Weight(c.hidden, MEL // 4 * c.channels)

    def forward(self, x: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
        x = self.layer1(self.layer0(x[:, None], real), real[:, ::2])
        return linear(x.permute(0, 2, 3, 1).flatten(2), self.input_proj_linear.weight), real[:, ::4]


class AudioFeedForward(nn.Module):
    def __init__(self, h: int):
        super().__init__()
        self.ffw_layer_1, self.ffw_layer_2 = Clippable(4 * h, h, True), Clippable(h, 4 * h, True)
        self.pre_layer_norm, self.post_layer_norm = Weight(h), Weight(h)

    def forward(self, x: Tensor) -> Tensor:
        y = self.ffw_layer_2(F.silu(self.ffw_layer_1(rms(x, self.pre_layer_norm.weight))))
        return x + rms(y, self.post_layer_norm.weight) * 0.5


class AudioAttention(nn.Module):
    PAST = 12  # positions a query sees, itself included; relative keys exist for distances 0 to 12

    def __init__(self, c: Audio):
        super().__init__()
        self.heads, self.dim = c.heads, c.hidden // c.heads
        self.q_proj, self.k_proj, self.v_proj, self.post = (Clippable(c.hidden, c.hidden, True) for _ in range(4))
        self.relative_k_proj = Weight(c.hidden, c.hidden)
        self.per_dim_scale = nn.Parameter(torch.zeros(self.dim))
        n = c.hidden // 2
        tau = torch.exp(torch.arange(n) * (-math.log(10000) / (n - 1)))
        a = torch.arange(self.PAST + 1)[:, None] * tau
        self.register_buffer("sinusoids", torch.cat([a.sin(), a.cos()], -1), persistent=False)  # by distance

    def forward(self, x: Tensor, real: Tensor) -> Tensor:
        split = lambda y: y.float().view(*y.shape[:2], self.heads, self.dim).transpose(1, 2)
        q = split(self.q_proj(x)) * (self.dim ** -0.5 / math.log(2)) * F.softplus(self.per_dim_scale)
        k, v = split(self.k_proj(x)) * (math.log(1 + math.e) / math.log(2)), split(self.v_proj(x))
        relative = linear(self.sinusoids.to(x.dtype), self.relative_k_proj.weight).float().view(-1, self.heads, self.dim)
        at = torch.arange(x.shape[1], device=x.device)
        distance = at[:, None] - at
        by_distance = torch.einsum("bhqd,rhd->bhqr", q, relative)
        shifted = by_distance.gather(-1, distance.clamp(0, self.PAST).expand(*by_distance.shape[:2], -1, -1))
        scores = 50 * torch.tanh((q @ k.transpose(-1, -2) + shifted) / 50)
        allowed = (distance >= 0) & (distance < self.PAST) & real[:, None, None, :]
        p = scores.masked_fill(~allowed, -1e9).softmax(-1)
        return self.post((p @ v).transpose(1, 2).flatten(2).to(x.dtype))


class LightConv(nn.Module):
    def __init__(self, h: int):
        super().__init__()
        self.linear_start, self.linear_end = Clippable(2 * h, h, True), Clippable(h, h, True)
        self.depthwise_conv1d = nn.Conv1d(h, h, 5, groups=h, bias=False)
        self.pre_layer_norm, self.conv_norm = Weight(h), Weight(h)

    def forward(self, x: Tensor) -> Tensor:
        y = F.glu(self.linear_start(rms(x, self.pre_layer_norm.weight)), -1)
        y = F.conv1d(F.pad(y.transpose(1, 2), (4, 0)), self.depthwise_conv1d.weight.to(x.dtype), groups=y.shape[-1]).transpose(1, 2)
        return x + self.linear_end(F.silu(rms(y, self.conv_norm.weight)))


class AudioLayer(nn.Module):
    def __init__(self, c: Audio):
        super().__init__()
        h = c.hidden
        self.feed_forward1, self.feed_forward2, self.self_attn, self.lconv1d = AudioFeedForward(h), AudioFeedForward(h), AudioAttention(c), LightConv(h)
        self.norm_pre_attn, self.norm_post_attn, self.norm_out = Weight(h), Weight(h), Weight(h)

    def forward(self, x: Tensor, real: Tensor) -> Tensor:
        x = self.feed_forward1(x)
        x = x + rms(self.self_attn(rms(x, self.norm_pre_attn.weight), real), self.norm_post_attn.weight)
        return rms(self.feed_forward2(self.lconv1d(x)), self.norm_out.weight)


class Projection(nn.Module):
    """A linear with a bias."""

    def __init__(self, out: int, inp: int):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(out, inp) * inp ** -0.5), nn.Parameter(torch.zeros(out))


class AudioTower(nn.Module):
    def __init__(self, c: Audio):
        super().__init__()
        self.subsample_conv_projection = Subsample(c)
        self.layers = nn.ModuleList(AudioLayer(c) for _ in range(c.layers))
        self.output_proj = Projection(c.out, c.hidden)

    def forward(self, features: Tensor, frames: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """features [N, F, 128], frames [N] that are real: soft tokens [N, F / 4, out] and which of them exist."""
        real = torch.arange(features.shape[1], device=features.device) < frames[:, None]
        x, real = self.subsample_conv_projection(features.to(dtype), real)
        for layer in self.layers:
            x = layer(x, real)
        return linear(x, self.output_proj.weight) + self.output_proj.bias.to(dtype), real


# ---- the whole ---------------------------------------------------------------------------------------------------

class Embedder(nn.Module):
    """From a tower to the decoder."""

    def __init__(self, hidden: int, inp: int):
        super().__init__()
        self.embedding_projection = Weight(hidden, inp)

    def forward(self, x: Tensor) -> Tensor:
        return linear(rms(x), self.embedding_projection.weight)


@dataclass
class Media:
    """What the towers of one batch see, and where their outputs go: positions in the flattened [B * T], in order of appearance."""

    patches: Tensor | None = None  # [N, 640, 768] uint8
    xy: Tensor | None = None  # [N, 640, 2]
    vision_at: Tensor | None = None
    features: Tensor | None = None  # [M, F, 128]
    frames: Tensor | None = None  # [M]
    audio_at: Tensor | None = None


class Body(nn.Module):
    """Everything that a checkpoint keeps under "model."."""

    def __init__(self, form: Form):
        super().__init__()
        self.language_model = Decoder(form.text)
        self.vision_tower, self.embed_vision = VisionTower(form.vision), Embedder(form.text.hidden, form.vision.hidden)
        if form.audio:
            self.audio_tower, self.embed_audio = AudioTower(form.audio), Embedder(form.text.hidden, form.audio.out)


class Nano(nn.Module):
    def __init__(self, form: Form):
        super().__init__()
        self.form = form
        self.model = Body(form)

    def hidden(self, ids: Tensor, doc: Tensor, pos: Tensor, media: Media, dtype: torch.dtype) -> tuple[Tensor, dict[int, tuple[Tensor, Tensor]], list[Tensor]]:
        """Decoder.forward of rows in which soft tokens stand where `media` says. ids, doc, pos [B, T], T a multiple of the window."""
        body, text = self.model, self.model.language_model
        soft, where = [], []
        if media.patches is not None:
            out, exists = body.vision_tower(media.patches, media.xy, dtype)
            soft.append(body.embed_vision(out[exists]))
            where.append(media.vision_at)
        if media.features is not None:
            out, exists = body.audio_tower(media.features, media.frames, dtype)
            soft.append(body.embed_audio(out[exists]))
            where.append(media.audio_at)
        h, image = text.embed(ids, dtype), None
        if soft:
            at = torch.cat(where)
            h = h.flatten(0, 1).index_copy(0, at, torch.cat(soft)).view(h.shape)
            ids = ids.flatten().index_fill(0, at, 0).view(ids.shape)
        if self.form.text.both_ways:
            image = torch.zeros(ids.numel(), dtype=torch.int64, device=ids.device)
            if media.patches is not None:
                starts = torch.ones_like(media.vision_at)
                starts[1:] = (media.vision_at[1:] != media.vision_at[:-1] + 1).long()
                image[media.vision_at] = starts.cumsum(0)
            image = image.view(ids.shape)
        plan = make_plan(self.form.text, doc, pos, image, dtype)
        return text(ids, h, plan)

    def logits(self, hidden: Tensor) -> Tensor:
        """Soft-capped, float32."""
        x = linear(hidden, self.model.language_model.embed_tokens.weight).float()
        return self.form.text.softcap * torch.tanh(x / self.form.text.softcap)


def checkpoint_config(form: Form, ids: dict[str, int]) -> dict[str, Any]:
    """config.json. `ids`: token ids by text."""
    t, v, a = form.text, form.vision, form.audio
    text = dict(
        model_type="gemma4_text", vocab_size=t.vocab, hidden_size=t.hidden, intermediate_size=t.inter, num_hidden_layers=len(t.types), num_attention_heads=t.heads,
        num_key_value_heads=1, head_dim=t.head_dim, global_head_dim=t.full_dim, num_global_key_value_heads=1 if t.k_is_v else None, layer_types=list(t.types),
        sliding_window=t.window, num_kv_shared_layers=t.shared, attention_k_eq_v=t.k_is_v, use_double_wide_mlp=t.double_wide,
        use_bidirectional_attention="vision" if t.both_ways else None,
        rope_parameters={S: dict(rope_type="default", rope_theta=10000.0), FULL: dict(rope_type="proportional", partial_rotary_factor=0.25, rope_theta=1000000.0)},
        max_position_embeddings=8192, rms_norm_eps=EPS, hidden_activation="gelu_pytorch_tanh", final_logit_softcapping=t.softcap, attention_bias=False, attention_dropout=0.0,
        tie_word_embeddings=True, use_cache=True, initializer_range=0.02, dtype="bfloat16", pad_token_id=ids["<pad>"], bos_token_id=ids["<bos>"], eos_token_id=ids["<eos>"],
        hidden_size_per_layer_input=t.ple, vocab_size_per_layer_input=t.vocab, enable_moe_block=t.experts > 0, num_experts=t.experts or None, top_k_experts=t.top_k or None,
        moe_intermediate_size=t.expert_inter or None,
    )
    vision = dict(
        model_type="gemma4_vision", hidden_size=v.hidden, intermediate_size=v.inter, num_hidden_layers=v.layers, num_attention_heads=v.heads, num_key_value_heads=v.heads,
        head_dim=v.hidden // v.heads, global_head_dim=v.hidden // v.heads, patch_size=16, pooling_kernel_size=3, position_embedding_size=v.table, use_clipped_linears=v.clipped,
        standardize=v.standardize, default_output_length=SOFT, rope_parameters=dict(rope_type="default", rope_theta=100.0), rms_norm_eps=EPS,
        hidden_activation="gelu_pytorch_tanh", attention_bias=False, attention_dropout=0.0, max_position_embeddings=131072, initializer_range=0.02, dtype="bfloat16",
    )
    audio = a and dict(
        model_type="gemma4_audio", hidden_size=a.hidden, num_hidden_layers=a.layers, num_attention_heads=a.heads, hidden_act="silu", subsampling_conv_channels=[128, a.channels],
        conv_kernel_size=5, residual_weight=0.5, attention_chunk_size=12, attention_context_left=13, attention_context_right=0, attention_logit_cap=50.0,
        attention_invalid_logits_value=-1e9, use_clipped_linears=True, rms_norm_eps=EPS, gradient_clipping=1e10, output_proj_dims=a.out, initializer_range=0.02, dtype="bfloat16",
    )
    return dict(
        architectures=["Gemma4ForConditionalGeneration"], model_type="gemma4", dtype="bfloat16", text_config=text, vision_config=vision, audio_config=audio,
        boi_token_id=ids["<|image>"], eoi_token_id=ids["<image|>"], image_token_id=ids["<|image|>"], video_token_id=ids["<|video|>"], boa_token_id=ids["<|audio>"],
        eoa_token_id=ids["<audio|>"], eoa_token_index=ids["<audio|>"], audio_token_id=ids["<|audio|>"], eos_token_id=[ids["<eos>"], ids["<turn|>"]], initializer_range=0.02,
        tie_word_embeddings=True,
    )


def generation_config(ids: dict[str, int]) -> dict[str, Any]:
    """top_k 1: a model of this size is best when it is greedy."""
    return dict(bos_token_id=ids["<bos>"], pad_token_id=ids["<pad>"], eos_token_id=[ids["<eos>"], ids["<turn|>"], ids["<|tool_response>"]], do_sample=True, temperature=1.0, top_k=1)


def processor_config() -> dict[str, Any]:
    """What turns media into the towers' inputs: 70 soft tokens per image and frame, all frames of a film up to 32."""
    image = dict(image_processor_type="Gemma4ImageProcessor", do_convert_rgb=True, do_normalize=False, do_rescale=True, do_resize=True, image_mean=[0.0, 0.0, 0.0],
                 image_std=[1.0, 1.0, 1.0], image_seq_length=SOFT, max_soft_tokens=SOFT, patch_size=16, pooling_kernel_size=3, resample=3, rescale_factor=1 / 255)
    video = dict(video_processor_type="Gemma4VideoProcessor", do_convert_rgb=True, do_normalize=True, do_rescale=True, do_resize=True, do_sample_frames=True, num_frames=32,
                 image_mean=[0.0, 0.0, 0.0], image_std=[1.0, 1.0, 1.0], max_soft_tokens=SOFT, patch_size=16, pooling_kernel_size=3, resample=3, rescale_factor=1 / 255, return_metadata=False)
    audio = dict(feature_extractor_type="Gemma4AudioFeatureExtractor", feature_size=MEL, sampling_rate=16000, frame_length=320, hop_length=160, fft_length=512, fft_overdrive=False,
                 min_frequency=0.0, max_frequency=8000.0, mel_floor=0.001, preemphasis=0.0, preemphasis_htk_flavor=True, dither=0.0, input_scale_factor=1.0, per_bin_mean=None,
                 per_bin_stddev=None, padding_side="right", padding_value=0.0, return_attention_mask=True)
    return dict(processor_class="Gemma4Processor", image_seq_length=SOFT, audio_seq_length=750, audio_ms_per_token=40, image_processor=image, video_processor=video, feature_extractor=audio)
