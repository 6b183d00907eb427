"""Media files made with the standard library."""

import base64
import math
import struct
import zlib


def png(width, height, pixels):
    """`pixels`: 3 bytes each, row by row."""
    rows = b"".join(b"\0" + pixels[3 * width * y:3 * width * (y + 1)] for y in range(height))

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def wav(samples):
    """`samples`: 16-bit, 16 kHz, mono."""
    return struct.pack("<4sI8sIHHIIHH4sI", b"RIFF", 36 + len(samples), b"WAVEfmt ", 16, 1, 1, 16000, 32000, 2, 16, b"data", len(samples)) + samples


def avi(frames, width, height, fps):
    """`frames`: PNG files."""
    def chunk(name, data):
        return name + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)

    biggest = max(map(len, frames))
    main = struct.pack("<14I", 1000000 // fps, 0, 0, 0, len(frames), 0, 1, biggest, width, height, 0, 0, 0, 0)
    stream = b"vidsMPNG" + struct.pack("<IHHIIIIIIiI4H", 0, 0, 0, 0, 1, fps, 0, len(frames), biggest, -1, 0, 0, 0, width, height)
    form = struct.pack("<IiiHH4sIiiII", 40, width, height, 1, 24, b"MPNG", 3 * width * height, 0, 0, 0, 0)
    head = chunk(b"LIST", b"hdrl" + chunk(b"avih", main) + chunk(b"LIST", b"strl" + chunk(b"strh", stream) + chunk(b"strf", form)))
    return chunk(b"RIFF", b"AVI " + head + chunk(b"LIST", b"movi" + b"".join(chunk(b"00dc", f) for f in frames)))


def encoded(data):
    return base64.b64encode(data).decode()


def beeps(count, pitch, length=0.15, gap=0.2):
    """A WAV file with `count` tones of `pitch` Hz, `length` seconds each."""
    def ramp(k, n):
        return min(1, k / 160, (n - k) / 160)

    n = int(16000 * length)
    tone = struct.pack(f"<{n}h", *(int(10000 * ramp(k, n) * math.sin(2 * math.pi * pitch * k / 16000)) for k in range(n)))
    return wav(bytes(3200) + (tone + bytes(2 * int(16000 * gap))) * count)


COLOURS = {"red": (215, 35, 35), "green": (35, 160, 60), "blue": (40, 80, 215), "black": (20, 20, 20)}


def drawing(width, height, *shapes):
    """A PNG with shapes on white: (kind, colour, centre x, centre y, radius) with kind circle, square or triangle, in pixels."""
    def inside(kind, x, y, r):
        if kind == "circle":
            return x * x + y * y <= r * r
        if kind == "square":
            return max(abs(x), abs(y)) <= 0.8 * r
        return -r <= y <= 0.7 * r and abs(x) <= 0.9 * (y + r) / 1.7

    pixels = bytearray(b"\xff" * (3 * width * height))
    for kind, colour, cx, cy, r in shapes:
        for y in range(max(0, int(cy - r)), min(height, int(cy + r) + 1)):
            for x in range(max(0, int(cx - r)), min(width, int(cx + r) + 1)):
                if inside(kind, x - cx, y - cy, r):
                    pixels[3 * (y * width + x):3 * (y * width + x) + 3] = bytes(COLOURS[colour])
    return png(width, height, bytes(pixels))
