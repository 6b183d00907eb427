"""Drawings that carat-nano is taught to look at, and the patches that its vision tower takes.

A drawing is a small description (its repr is its key), rendered when it is needed, so cases travel cheaply between processes.
"""

import math
import random
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw

Rng = random.Random

SHAPES = ["circle", "square", "triangle", "star", "cross"]
COLOURS = {"red": (215, 35, 35), "green": (35, 160, 60), "blue": (40, 80, 215), "yellow": (240, 215, 30), "orange": (245, 135, 25), "purple": (135, 45, 165), "black": (20, 20, 20)}
BACKGROUNDS = [(255, 255, 255), (255, 255, 255), (235, 235, 235), (225, 235, 245), (245, 235, 220), (200, 205, 205)]
DIRECTIONS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
BUDGET = 70  # soft tokens per image or frame
PATCH, POOL = 16, 3
MAX_PATCHES = BUDGET * POOL * POOL


@dataclass(frozen=True)
class Item:
    """A filled shape: centre and radius as shares of the width and of the shorter side, angle in degrees."""

    shape: str
    colour: str
    x: float
    y: float
    radius: float
    angle: int
    rgb: tuple[int, int, int]


@dataclass(frozen=True)
class Picture:
    width: int
    height: int
    background: tuple[int, int, int]
    items: tuple[Item, ...] = ()
    digit: int | None = None
    strokes: tuple[float, ...] = ()  # of the digit: centre x, y, half height, slant, half width, thickness, three numbers of ink


@dataclass(frozen=True)
class Film:
    """A shape that moves across the picture at an even pace."""

    start: Picture
    direction: str
    pace: float  # of the whole clip, as a share of the picture
    frames: int
    fps: float

    @property
    def shape(self) -> str:
        return self.start.items[0].shape


# ---- choosing ----------------------------------------------------------------------------------------------------

def canvas(r: Rng) -> tuple[int, int, tuple[int, int, int]]:
    long = r.randint(96, 400)
    short = int(long * r.choice([1, 1, 1, 0.75, 0.67, 0.56]))
    size = (long, short) if r.random() < 0.7 else (short, long)
    return (*size, r.choice(BACKGROUNDS))


def item(r: Rng, x: float, y: float, radius: float, shape: str = "", colour: str = "") -> Item:
    colour = colour or r.choice(list(COLOURS))
    rgb = tuple(min(255, max(0, c + r.randint(-14, 14))) for c in COLOURS[colour])
    return Item(shape or r.choice(SHAPES), colour, round(x, 3), round(y, 3), round(radius, 3), r.randint(-15, 15), rgb)


def one_shape(r: Rng) -> Picture:
    radius = r.uniform(0.15, 0.4)
    return Picture(*canvas(r), (item(r, r.uniform(radius, 1 - radius), r.uniform(radius, 1 - radius), radius),))


def with_shape(p: Picture, shape: str) -> Picture:
    return replace(p, items=(replace(p.items[0], shape=shape), *p.items[1:]))


def many_shapes(r: Rng) -> Picture:
    """One to six shapes on a loose grid of three by two; of one kind, or of two."""
    width, height, background = canvas(r)
    cells = [(x, y) for x in range(3) for y in range(2)] if width >= height else [(x, y) for x in range(2) for y in range(3)]
    columns, rows = (3, 2) if width >= height else (2, 3)
    kinds = r.sample(SHAPES, 2 if r.random() < 0.35 else 1)
    colour = r.choice(list(COLOURS)) if r.random() < 0.6 else ""
    items = []
    for x, y in r.sample(cells, r.randint(len(kinds), 6)):
        radius = r.uniform(0.09, 0.15)
        shape = kinds[len(items)] if len(items) < len(kinds) else r.choice(kinds)
        items.append(item(r, (x + 0.5 + r.uniform(-0.1, 0.1)) / columns, (y + 0.5 + r.uniform(-0.1, 0.1)) / rows, radius, shape, colour))
    return Picture(width, height, background, tuple(items))


def two_shapes(r: Rng) -> Picture:
    """Two different shapes side by side."""
    width, height, background = canvas(r)
    width, height = max(width, height), min(width, height)
    a, b = r.sample(SHAPES, 2)
    radius = r.uniform(0.12, 0.22)
    return Picture(width, height, background, (item(r, r.uniform(0.2, 0.32), r.uniform(0.3, 0.7), radius, a), item(r, r.uniform(0.68, 0.8), r.uniform(0.3, 0.7), radius, b)))


def digit(r: Rng) -> Picture:
    width, height, background = canvas(r)
    ink = r.choice(list(COLOURS.values()))
    if r.random() < 0.3:
        background, ink = (20, 20, 30), (240, 240, 240)
    half = r.uniform(0.25, 0.4)
    strokes = (r.uniform(0.4, 0.6), 0.5, half, r.uniform(-0.2, 0.2), half * r.uniform(0.5, 0.75), r.uniform(0.04, 0.09), *ink)
    return Picture(width, height, background, digit=r.randrange(10), strokes=tuple(round(s, 3) for s in strokes))


def film(r: Rng) -> Film:
    direction = r.choice(list(DIRECTIONS))
    dx, dy = DIRECTIONS[direction]
    pace, radius = r.uniform(0.35, 0.6), r.uniform(0.1, 0.18)
    width, height, background = canvas(r)

    def along(d: int) -> float:
        """Where to start so that the shape stays inside."""
        return 0.5 - d * pace / 2 + r.uniform(-0.08, 0.08) if d else r.uniform(0.25, 0.75)

    start = Picture(width, height, background, (item(r, along(dx), along(dy), radius),))
    return Film(start, direction, round(pace, 3), r.choice([8, 8, 8, 12, 16, 32]), r.choice([4.0, 8.0, 10.0, 24.0]))


# ---- rendering ---------------------------------------------------------------------------------------------------

def outline(shape: str) -> list[tuple[float, float]]:
    """Corners around the origin, within the unit circle."""
    if shape == "square":
        return [(-0.8, -0.8), (0.8, -0.8), (0.8, 0.8), (-0.8, 0.8)]
    if shape == "triangle":
        return [(0, -1), (0.9, 0.7), (-0.9, 0.7)]
    if shape == "star":
        return [((1 if k % 2 == 0 else 0.42) * math.sin(k * math.pi / 5), -(1 if k % 2 == 0 else 0.42) * math.cos(k * math.pi / 5)) for k in range(10)]
    a = 0.3
    return [(-a, -1), (a, -1), (a, -a), (1, -a), (1, a), (a, a), (a, 1), (-a, 1), (-a, a), (-1, a), (-1, -a), (-a, -a)]


def arc(cx: float, cy: float, rx: float, ry: float, start: float, end: float) -> list[tuple[float, float]]:
    """Points of an ellipse; angles in degrees, 0 to the right, 90 down."""
    return [(cx + rx * math.cos(math.radians(start + (end - start) * k / 16)), cy + ry * math.sin(math.radians(start + (end - start) * k / 16))) for k in range(17)]


@lru_cache
def digit_lines(n: int) -> list[list[tuple[float, float]]]:
    """The strokes of a digit in a box from -1 to 1."""
    return [
        [arc(0, 0, 1, 1, -90, 270)],
        [[(-0.5, -0.6), (0.1, -1), (0.1, 1)]],
        [arc(0, -0.45, 0.9, 0.55, -170, 20) + [(-0.95, 1), (0.95, 1)]],
        [arc(-0.1, -0.5, 0.9, 0.5, -160, 90), arc(-0.1, 0.5, 1, 0.5, -90, 160)],
        [[(0.4, 1), (0.4, -1), (-0.9, 0.4), (0.95, 0.4)]],
        [[(0.8, -1), (-0.7, -1), (-0.8, -0.1)] + arc(-0.05, 0.35, 0.95, 0.65, -130, 150)],
        [[(0.6, -1), (-0.6, -0.1)] + arc(0, 0.45, 0.85, 0.55, 200, 560)],
        [[(-0.9, -1), (0.9, -1), (-0.3, 1)]],
        [arc(0, -0.5, 0.75, 0.5, -90, 270), arc(0, 0.5, 0.95, 0.5, -90, 270)],
        [arc(0, -0.45, 0.85, 0.55, 20, 380) + [(0.6, 0.1), (0.3, 1)]],
    ][n]


def draw(p: Picture) -> np.ndarray:
    """The picture as [height, width, 3] uint8, edges smoothed by drawing it at twice the size."""
    s = 2
    width, height = p.width * s, p.height * s
    image = Image.new("RGB", (width, height), p.background)
    pen = ImageDraw.Draw(image)
    unit = min(width, height)
    for i in p.items:
        cx, cy, radius = i.x * width, i.y * height, i.radius * unit
        if i.shape == "circle":
            pen.ellipse([cx - radius, cy - radius, cx + radius, cy + radius], fill=i.rgb)
            continue
        c, n = math.cos(math.radians(i.angle)), math.sin(math.radians(i.angle))
        pen.polygon([(cx + radius * (c * x - n * y), cy + radius * (n * x + c * y)) for x, y in outline(i.shape)], fill=i.rgb)
    if p.digit is not None:
        x, y, tall, slant, wide, thick, *ink = p.strokes
        colour = tuple(int(v) for v in ink)
        for line in digit_lines(p.digit):
            points = [(x * width + unit * (wide * a - slant * tall * b), y * height + unit * tall * b) for a, b in line]
            pen.line(points, fill=colour, width=max(2, int(thick * unit)), joint="curve")
            for px, py in (points[0], points[-1]):
                half = thick * unit / 2
                pen.ellipse([px - half, py - half, px + half, py + half], fill=colour)
    return np.asarray(image.reduce(s))


def frames(f: Film) -> list[np.ndarray]:
    dx, dy = DIRECTIONS[f.direction]
    i = f.start.items[0]
    steps = [f.pace * k / (f.frames - 1) for k in range(f.frames)]
    return [draw(replace(f.start, items=(replace(i, x=i.x + dx * step, y=i.y + dy * step),))) for step in steps]


def time_stamps(f: Film) -> list[str]:
    """mm:ss of each frame."""
    seconds = [int(k / f.fps) for k in range(f.frames)]
    return [f"{s // 60:02d}:{s % 60:02d}" for s in seconds]


# ---- for the tower -----------------------------------------------------------------------------------------------

def target_size(height: int, width: int) -> tuple[int, int]:
    """The size that the family's preprocessing gives an image: multiples of 48 within the budget, shape kept."""
    side = PATCH * POOL
    factor = math.sqrt(MAX_PATCHES * PATCH * PATCH / (height * width))
    tall, wide = int(factor * height / side) * side, int(factor * width / side) * side
    if not tall:
        return side, min(width // height * side, BUDGET * side)
    if not wide:
        return min(height // width * side, BUDGET * side), side
    return tall, wide


def patches(image: np.ndarray) -> tuple[np.ndarray, int, int]:
    """(values [n, 768] uint8 in raster order, each patch by row, column, channel; rows of patches; columns of patches)."""
    tall, wide = target_size(*image.shape[:2])
    if image.shape[:2] != (tall, wide):
        image = np.asarray(Image.fromarray(image).resize((wide, tall), Image.Resampling.BICUBIC))
    rows, columns = tall // PATCH, wide // PATCH
    values = image.reshape(rows, PATCH, columns, PATCH, 3).swapaxes(1, 2).reshape(rows * columns, PATCH * PATCH * 3)
    return np.ascontiguousarray(values), rows, columns
