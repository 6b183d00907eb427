#!/usr/bin/env python3
"""Writes the video and sound files of tests/corpus/video_fuzz with the ffmpeg program and, in expected_videos.txt, what Transformers makes of
them (torchcodec in exact mode): name, frames in the file, frames a second, then for the indices floor(i * N / 8) width, height, SHA-256 of
the RGB bytes. Needs torch, torchcodec, and an FFmpeg 5.1 with libx264, libx265, libvpx, libopus.   make_videos.py"""

import hashlib
import subprocess
from pathlib import Path

from torchcodec.decoders import VideoDecoder

HERE = Path(__file__).resolve().parent
OUT = HERE.parent / "corpus" / "video_fuzz"
SAMPLES = 8
X264 = ["-c:v", "libx264", "-preset", "medium", "-g", "20"]


def ffmpeg(name, *arguments):
    subprocess.run(["ffmpeg", "-v", "error", "-y", "-bitexact", *arguments, "-fflags", "+bitexact", "-flags:v", "+bitexact", "-flags:a",
                    "+bitexact", str(OUT / name)], check=True)


def picture(size="64x48", rate=25, seconds=1.6):
    return ["-f", "lavfi", "-i", f"testsrc2=size={size}:rate={rate}:duration={seconds}"]


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    sound = ["-f", "lavfi", "-i", "sine=frequency=440:sample_rate=44100:duration=0.5"]
    ffmpeg("h264.mp4", *picture(), *X264, "-pix_fmt", "yuv420p")
    ffmpeg("h264_odd.mp4", *picture("54x46"), *X264, "-pix_fmt", "yuv420p")
    ffmpeg("h264_bt709.mp4", *picture(), *X264, "-pix_fmt", "yuv420p", "-colorspace", "bt709", "-color_range", "tv")
    ffmpeg("h264_full_range.mov", *picture(), *X264, "-pix_fmt", "yuvj420p")
    ffmpeg("h264_ntsc.mkv", *picture(rate="30000/1001"), *X264, "-pix_fmt", "yuv420p")
    for degrees in (90, 180, 270):
        ffmpeg(f"h264_rotated_{degrees}.mp4", "-i", str(OUT / "h264.mp4"), "-c", "copy", "-metadata:s:v:0", f"rotate={degrees}")
    ffmpeg("hevc.mp4", *picture(), "-c:v", "libx265", "-x265-params", "log-level=none:info=0", "-tag:v", "hvc1", "-pix_fmt", "yuv420p")
    ffmpeg("vp9.webm", *picture(), "-c:v", "libvpx-vp9", "-pix_fmt", "yuv420p")
    ffmpeg("vp8.webm", *picture(), "-c:v", "libvpx", "-pix_fmt", "yuv420p")
    ffmpeg("mpeg4.avi", *picture(), "-c:v", "mpeg4", "-bf", "0")
    ffmpeg("animated.gif", *picture("40x30", 10, 2))
    ffmpeg("short.mp4", *picture(seconds=0.2), *X264, "-pix_fmt", "yuv420p")
    ffmpeg("aac.m4a", *sound, "-c:a", "aac")
    ffmpeg("opus.ogg", *sound, "-c:a", "libopus", "-ar", "48000")
    ffmpeg("opus.webm", *sound, "-c:a", "libopus", "-ar", "48000", "-ac", "2")
    ffmpeg("adts.aac", *sound, "-c:a", "aac")
    ffmpeg("sound_and_picture.mp4", *picture(seconds=0.5), *sound, *X264, "-pix_fmt", "yuv420p", "-c:a", "aac")
    lines = []
    for path in sorted(OUT.iterdir()):
        if path.suffix in (".m4a", ".ogg", ".aac") or path.name == "opus.webm":
            continue
        decoder = VideoDecoder(str(path), seek_mode="exact")
        total, fps = decoder.metadata.num_frames, decoder.metadata.average_fps
        count = min(SAMPLES, total)
        frames = decoder.get_frames_at(indices=[i * total // count for i in range(count)]).data
        digests = " ".join(hashlib.sha256(f.permute(1, 2, 0).contiguous().numpy().tobytes()).hexdigest() for f in frames)
        lines.append(f"{path.name} {total} {fps!r} {count} {frames.shape[3]} {frames.shape[2]} {digests}\n")
    (HERE / "expected_videos.txt").write_text("".join(lines))
    print(f"{len(lines)} videos, {sum(p.stat().st_size for p in OUT.iterdir())} bytes")


if __name__ == "__main__":
    main()
