#!/usr/bin/env python3
"""Writes the sound files of tests/corpus/audio_fuzz and what Transformers' load_audio (soundfile and soxr: downmix by the mean, soxr_hq)
makes of them: expected_audio.txt has name, samples and SHA-256 of the float32 samples for formats that all decoders read alike, and
expected_NAME.f32 has the samples for MP3 and Vorbis. Needs numpy, soundfile, soxr.   make_audio.py"""

import hashlib
import io
import math
from pathlib import Path

import numpy as np
import soundfile as sf
import soxr

HERE = Path(__file__).resolve().parent
OUT = HERE.parent / "corpus" / "audio_fuzz"
RATE = 16000


def sound(rate, channels, seconds=0.08):
    t = np.arange(int(rate * seconds)) / rate
    rng = np.random.default_rng(3)
    parts = [0.4 * np.sin(2 * np.pi * (200 + 300 * c + 6000 * t) * t) + 0.02 * rng.standard_normal(t.size) for c in range(channels)]
    return np.stack(parts, -1)


def write(rate, channels, format, subtype=None, endian=None, seconds=0.08):
    out = io.BytesIO()
    sf.write(out, sound(rate, channels, seconds), rate, format=format, subtype=subtype, endian=endian)
    return out.getvalue()


def load(data):
    with sf.SoundFile(io.BytesIO(data)) as f:
        rate = f.samplerate
        x = f.read(dtype="float32", always_2d=True).T
    x = x.mean(axis=0) if x.shape[0] > 1 else x[0]
    if rate != RATE:
        n = math.ceil(x.shape[-1] * RATE / rate)
        x = soxr.resample(x, rate, RATE, quality="soxr_hq")
        x = np.pad(x, (0, max(0, n - len(x))))[:n]
    return np.ascontiguousarray(x, dtype=np.float32)


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    files = {}
    for subtype in ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ALAW", "ULAW"):
        files[f"wav_{subtype.lower()}.wav"] = write(16000, 1, "WAV", subtype)
    for rate in (8000, 11025, 22050, 32000, 44100, 48000, 96000, 192000):
        files[f"wav_{rate}.wav"] = write(rate, 1, "WAV", "PCM_16")
    for channels in (2, 3, 6, 8):
        files[f"wav_{channels}ch.wav"] = write(24000, channels, "WAV", "PCM_16", seconds=0.04)
    files["wav_extensible.wav"] = write(16000, 2, "WAVEX", "PCM_24")
    files["wav_rf64.wav"] = write(16000, 1, "RF64", "PCM_16")
    files["wav_big_endian.wav"] = write(16000, 1, "WAV", "PCM_16", "BIG")
    files["wav_ima.wav"] = write(16000, 1, "WAV", "IMA_ADPCM")
    files["wav_ms.wav"] = write(16000, 1, "WAV", "MS_ADPCM")
    files["aiff.aiff"] = write(16000, 1, "AIFF", "PCM_16")
    files["flac_16.flac"] = write(16000, 1, "FLAC", "PCM_16")
    files["flac_24_44100_2ch.flac"] = write(44100, 2, "FLAC", "PCM_24")
    streamed = bytearray(files["wav_pcm_16.wav"])  # written to a pipe: nobody knew the length
    for at in (4, streamed.index(b"data") + 4):
        streamed[at:at + 4] = b"\xff\xff\xff\xff"
    files["wav_streamed.wav"] = bytes(streamed)
    lossy = {"mp3_44100_2ch.mp3": write(44100, 2, "MP3", seconds=0.3), "mp3_16000.mp3": write(16000, 1, "MP3", seconds=0.3),
             "vorbis_48000_2ch.ogg": write(48000, 2, "OGG", "VORBIS", seconds=0.3)}
    lossy["mp3_id3.mp3"] = b"ID3\4\0\0\0\0\0\x0a" + bytes(10) + lossy["mp3_16000.mp3"]
    lines = []
    for name, data in sorted(files.items()):
        (OUT / name).write_bytes(data)
        x = load(files["wav_pcm_16.wav"] if name == "wav_streamed.wav" else data)
        lines.append(f"{name} {x.size} {hashlib.sha256(x.tobytes()).hexdigest()}\n")
    (HERE / "expected_audio.txt").write_text("".join(lines))
    for name, data in lossy.items():
        (OUT / name).write_bytes(data)
        (HERE / f"expected_{name}.f32").write_bytes(load(data).tobytes())
    print(f"{len(files) + len(lossy)} files, {sum(p.stat().st_size for p in OUT.iterdir())} bytes")


if __name__ == "__main__":
    main()
