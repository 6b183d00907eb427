"""Sounds that carat-nano is taught to hear (beeps, tones, digits spoken by a small formant synthesiser), and the features its audio tower takes.

Everything is 16 kHz, mono, float32 in [-1, 1]. A sound is a small description (its repr is its key), rendered when it is needed.
"""

import math
import random
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

Rng = random.Random

RATE = 16000
MIDDLE = 600.0  # Hz; tones above are high, below are low, none is near it


@dataclass(frozen=True)
class Sound:
    kind: str  # "beeps", "tone", "digit"
    pitch: float  # Hz
    count: int = 1
    length: float = 0.5  # seconds: of one beep, of the tone, of the word
    gap: float = 0.2  # seconds between beeps
    lead: float = 0.1  # seconds of quiet before
    loudness: float = 0.3
    noise: float = 0.002
    wave: str = "sine"
    digit: int = 0
    tract: float = 1.0  # formant frequencies are multiplied by this
    seed: int = 0  # of the noise


# ---- choosing ----------------------------------------------------------------------------------------------------

def chosen(r: Rng, kind: str, pitch: float, **more: object) -> Sound:
    return Sound(kind, round(pitch, 1), lead=round(r.uniform(0.03, 0.3), 3), loudness=round(r.uniform(0.12, 0.6), 3), noise=round(10 ** r.uniform(-4, -2.2), 5),
                 seed=r.randrange(1 << 30), **more)


def beeps(r: Rng) -> Sound:
    return chosen(r, "beeps", r.uniform(300, 1800), count=r.randint(1, 6), length=round(r.uniform(0.08, 0.2), 3), gap=round(r.uniform(0.12, 0.25), 3), wave=r.choice(["sine", "sine", "square"]))


def tone(r: Rng) -> Sound:
    pitch = math.exp(r.uniform(math.log(120), math.log(400))) if r.random() < 0.5 else math.exp(r.uniform(math.log(900), math.log(2600)))
    return chosen(r, "tone", pitch, length=round(r.uniform(0.3, 1.2), 3), wave=r.choice(["sine", "sine", "square"]))


def spoken_digit(r: Rng) -> Sound:
    tract = r.choice([r.uniform(0.92, 1.04), r.uniform(1.08, 1.22)])
    return chosen(r, "digit", r.uniform(90, 150) if tract < 1.06 else r.uniform(160, 240), digit=r.randrange(10), length=round(r.uniform(0.4, 0.75), 3), tract=round(tract, 3))


# ---- rendering ---------------------------------------------------------------------------------------------------

# Phones: first three formants in Hz, how loud the voice is, how loud the noise is, the band of the noise in Hz.
PHONES = {
    "z": ((300, 1600, 2600), 0.35, 0.5, (4000, 7500)), "s": ((300, 1600, 2600), 0.0, 0.8, (4200, 7500)), "f": ((300, 1200, 2400), 0.0, 0.3, (1500, 7500)),
    "v": ((300, 1200, 2400), 0.4, 0.2, (1500, 7000)), "th": ((300, 1400, 2500), 0.0, 0.25, (2500, 7500)), "t": ((400, 1700, 2600), 0.0, 0.9, (2500, 7000)),
    "k": ((400, 1800, 2300), 0.0, 0.8, (1400, 3200)), "-": ((400, 1500, 2500), 0.0, 0.0, (1000, 2000)),
    "r": ((350, 1100, 1600), 0.7, 0.0, (1000, 2000)), "w": ((320, 700, 2200), 0.6, 0.0, (1000, 2000)), "n": ((280, 1400, 2500), 0.45, 0.0, (1000, 2000)),
    "iy": ((290, 2250, 2950), 0.9, 0.0, (1000, 2000)), "ih": ((400, 1950, 2550), 0.9, 0.0, (1000, 2000)), "eh": ((550, 1800, 2500), 1.0, 0.0, (1000, 2000)),
    "ey": ((480, 2050, 2650), 1.0, 0.0, (1000, 2000)), "ay": ((750, 1250, 2500), 1.0, 0.0, (1000, 2000)), "ah": ((640, 1200, 2450), 1.0, 0.0, (1000, 2000)),
    "ao": ((570, 850, 2450), 1.0, 0.0, (1000, 2000)), "ow": ((450, 850, 2400), 1.0, 0.0, (1000, 2000)), "uw": ((320, 900, 2250), 0.9, 0.0, (1000, 2000)),
}
# A digit is a row of phones with their shares of its length.
DIGITS = [
    [("z", 2), ("ih", 2), ("r", 2), ("ow", 4)], [("w", 2), ("ah", 4), ("n", 4)], [("-", 0.5), ("t", 1), ("uw", 6)], [("th", 2), ("r", 2), ("iy", 5)], [("f", 3), ("ao", 4), ("r", 3)],
    [("f", 3), ("ay", 2.5), ("iy", 2), ("v", 2)], [("s", 3), ("ih", 2), ("-", 1), ("k", 0.8), ("s", 3)], [("s", 3), ("eh", 2), ("v", 1.5), ("ah", 1.5), ("n", 2.5)],
    [("ey", 3), ("iy", 2), ("-", 1.2), ("t", 1)], [("n", 2), ("ay", 3), ("iy", 2), ("n", 3)],
]
FRAME = 80  # samples per synthesis frame


def envelope(samples: int, rise: float = 0.01) -> np.ndarray:
    """1 with soft ends of `rise` seconds."""
    ramp = np.minimum(np.arange(samples), np.arange(samples)[::-1]) / (rise * RATE)
    return np.minimum(1, ramp).astype(np.float32)


def beep(pitch: float, samples: int, wave: str) -> np.ndarray:
    phase = 2 * math.pi * pitch / RATE * np.arange(samples)
    out = np.sin(phase) if wave == "sine" else np.sign(np.sin(phase)) * 0.5
    return (out * envelope(samples)).astype(np.float32)


def speak(s: Sound, random: np.random.Generator) -> np.ndarray:
    """A digit: harmonics of the voice and bands of noise, both shaped by formants that glide from phone to phone."""
    phones = DIGITS[s.digit]
    shares = np.array([share for _, share in phones])
    count = int(s.length * RATE) // FRAME
    bounds = np.concatenate([[0], np.cumsum(shares) / shares.sum()]) * count
    middles = (bounds[:-1] + bounds[1:]) / 2
    at = np.arange(count)
    table = [PHONES[p] for p, _ in phones]

    def glide(values: list[float]) -> np.ndarray:
        """A parameter over the frames: steady in the middle half of each phone, straight between."""
        quarter = (bounds[1:] - bounds[:-1]) / 4
        x = np.stack([middles - quarter, middles + quarter], 1).ravel()
        return np.interp(at, x, np.repeat(values, 2))

    formants = [glide([t[0][k] * s.tract for t in table]) for k in range(3)]
    voice, hiss = glide([t[1] for t in table]), glide([t[2] for t in table])
    low, high = glide([t[3][0] for t in table]), glide([t[3][1] for t in table])
    pitch = s.pitch * np.linspace(1.08, 0.88, count)

    samples = count * FRAME

    def fine(values: np.ndarray) -> np.ndarray:
        """Frame values as sample values, straight between frames."""
        steps = np.diff(values, append=values[-1:])
        return (values[:, None] + steps[:, None] * (np.arange(FRAME) / FRAME)).ravel()

    turn = np.exp(1j * np.cumsum(2 * math.pi * fine(pitch) / RATE))  # the first harmonic; its powers are the others
    wave, out = np.ones(samples, complex), np.zeros(samples)
    for k in range(1, int(4000 / (s.pitch * 0.88)) + 1):
        f = k * pitch
        gain = sum(a / (1 + ((f - c) / width) ** 2) for c, width, a in zip(formants, (70, 100, 150), (1, 0.6, 0.3)))
        wave = wave * turn
        out += fine((gain + 0.01) * (f < 4000) * voice / (1 + f / 2000)) * wave.imag
    out /= max(1e-6, np.abs(out).max())

    # Noise: short overlapping pieces of white noise, cut to the band of the phone.
    size = 4 * FRAME
    window = np.hanning(size)
    rush = np.zeros(samples + size)
    bins = np.fft.rfftfreq(size, 1 / RATE)
    spectrum = np.fft.rfft(random.standard_normal((count, size)) * window, axis=1)
    spectrum *= ((bins >= low[:, None]) & (bins <= high[:, None])) * hiss[:, None]
    for k, piece in enumerate(np.fft.irfft(spectrum, size, axis=1)):
        rush[k * FRAME : k * FRAME + size] += piece
    out += 0.12 * rush[size // 2 : size // 2 + samples]
    return (out * envelope(samples, 0.02)).astype(np.float32)


def play(s: Sound) -> np.ndarray:
    """The sound as float32 samples, rounded to the steps of 16-bit files."""
    random = np.random.default_rng(s.seed)
    quiet = np.zeros(int(s.lead * RATE), np.float32)
    if s.kind == "beeps":
        single, pause = beep(s.pitch, int(s.length * RATE), s.wave), np.zeros(int(s.gap * RATE), np.float32)
        parts = [quiet] + [x for _ in range(s.count) for x in (single, pause)]
    else:
        parts = [quiet, beep(s.pitch, int(s.length * RATE), s.wave) if s.kind == "tone" else speak(s, random), np.zeros(RATE // 10, np.float32)]
    out = np.concatenate(parts) * s.loudness
    out = out + s.noise * random.standard_normal(len(out))
    return (np.clip(np.round(out * 32767), -32768, 32767) / 32768).astype(np.float32)


# ---- for the tower -----------------------------------------------------------------------------------------------

@lru_cache
def mel_filters() -> np.ndarray:
    """[257, 128] triangles, evenly spaced on the HTK mel scale from 0 to 8 kHz."""
    top = 2595 * math.log10(1 + 8000 / 700)
    points = 700 * (10 ** (np.linspace(0, top, 130) / 2595) - 1)
    bins = np.arange(257)[:, None] * 8000 / 256
    rising = (bins - points[:-2]) / (points[1:-1] - points[:-2])
    falling = (points[2:] - bins) / (points[2:] - points[1:-1])
    return np.maximum(0, np.minimum(rising, falling))


def features(samples: np.ndarray) -> np.ndarray:
    """[frames, 128] float32: log mel magnitudes of 20 ms windows every 10 ms, the family's front end."""
    # Servers of the family fill a clip up to whole windows of 320 samples first.
    samples = np.concatenate([np.zeros(160, np.float32), samples, np.zeros(-len(samples) % 320, np.float32)])
    count = (len(samples) - 321) // 160 + 1
    window = (0.5 - 0.5 * np.cos(2 * math.pi * np.arange(320) / 320)).astype(np.float32)
    at = 160 * np.arange(count)[:, None] + np.arange(320)
    magnitude = np.abs(np.fft.rfft(samples[at] * window, 512, axis=1))
    return np.log(magnitude @ mel_filters() + 0.001).astype(np.float32)


def soft_tokens(frames: int) -> int:
    return -(-(-(-frames // 2)) // 2)
