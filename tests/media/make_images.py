#!/usr/bin/env python3
"""Writes the image files of tests/corpus/image_fuzz and, in expected_images.txt, what Transformers' load_image makes of each (Pillow:
exif_transpose, convert("RGB")): name, width, height, SHA-256 of the RGB bytes. Needs numpy, Pillow 13 and cjpeg (Debian: libjpeg-turbo-progs).   make_images.py"""

import hashlib
import io
import struct
import subprocess
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

HERE = Path(__file__).resolve().parent
OUT = HERE.parent / "corpus" / "image_fuzz"
W, H = 37, 23


def picture(width=W, height=H, channels=3, seed=1):
    """Smooth colours with an edge and some noise."""
    y, x = np.mgrid[0:height, 0:width]
    rng = np.random.default_rng(seed)
    planes = [x * 255 // max(width - 1, 1), y * 255 // max(height - 1, 1), (x * y) % 256, (x + 2 * y) % 256]
    a = np.stack(planes[:channels], -1).astype(np.int32)
    a[height // 3:, width // 2:] = 255 - a[height // 3:, width // 2:]
    return np.clip(a + rng.integers(-9, 10, a.shape), 0, 255).astype(np.uint8)


def save(image, format, **options):
    out = io.BytesIO()
    image.save(out, format, **options)
    return out.getvalue()


def exif(orientation):
    e = Image.Exif()
    e[0x0112] = orientation
    return e.tobytes()


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def pack_bits(row, depth):
    if depth == 8:
        return row.astype(np.uint8).tobytes()
    if depth == 16:
        return row.astype(">u2").tobytes()
    bits = ((row[:, None] >> np.arange(depth - 1, -1, -1)) & 1).astype(np.uint8).reshape(-1)
    return np.packbits(bits).tobytes()


ADAM7 = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]


def png(values, depth, color, interlaced=False, extra=b""):
    """`values` [height, width, channels] integers below 2^depth."""
    height, width = values.shape[:2]
    raw = b""
    for x0, y0, dx, dy in ADAM7 if interlaced else [(0, 0, 1, 1)]:
        part = values[y0::dy, x0::dx]
        if part.shape[1] == 0:
            continue
        for row in part:
            raw += b"\0" + pack_bits(row.reshape(-1), depth)
    head = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, int(interlaced))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + extra + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")


def bmp(bits, rows, compression=0, palette=b"", masks=b"", height=H, core=False):
    if core:
        head = struct.pack("<IHHHH", 12, W, height, 1, bits)
    else:
        colors = len(palette) // 4
        head = struct.pack("<IiiHHIIiiII", 40, W, height, 1, bits, compression, len(rows), 2835, 2835, colors, 0)
    offset = 14 + len(head) + len(masks) + len(palette)
    return b"BM" + struct.pack("<IHHI", offset + len(rows), 0, 0, offset) + head + masks + palette + rows


def bmp_rows(rows):
    return b"".join(r + b"\0" * (-len(r) % 4) for r in rows)


def make():
    rgb, grey = Image.fromarray(picture()), Image.fromarray(picture(channels=1)[..., 0])
    rgba = Image.fromarray(picture(channels=4), "RGBA")
    files = {}
    # JPEG
    for name, options in {"444": {"subsampling": 0}, "422": {"subsampling": 1}, "420": {"subsampling": 2},
                          "progressive": {"progressive": True}, "restart": {"restart_marker_rows": 1},
                          "rgb": {"keep_rgb": True}, "low": {"quality": 5}}.items():
        files[f"jpeg_{name}.jpg"] = save(rgb, "JPEG", **options)
    for name, options in {"411": ["-sample", "4x1"], "440": ["-sample", "1x2"], "arithmetic": ["-arithmetic"]}.items():
        files[f"jpeg_{name}.jpg"] = subprocess.run(["cjpeg", *options], input=save(rgb, "PPM"), stdout=subprocess.PIPE, check=True).stdout
    files["jpeg_grey.jpg"] = save(grey, "JPEG")
    cmyk = save(Image.fromarray(picture(channels=4), "CMYK"), "JPEG")
    files["jpeg_cmyk.jpg"] = cmyk
    at = cmyk.index(b"Adobe") + 11
    files["jpeg_ycck.jpg"] = cmyk[:at] + b"\2" + cmyk[at + 1:]
    app14 = cmyk.index(b"\xff\xee")
    files["jpeg_cmyk_no_adobe.jpg"] = cmyk[:app14] + cmyk[app14 + 16:]
    for orientation in range(1, 9):
        files[f"jpeg_exif_{orientation}.jpg"] = save(rgb, "JPEG", exif=exif(orientation))
    files["jpeg_exif_9.jpg"] = save(rgb, "JPEG", exif=exif(9))
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    files["jpeg_xmp_6.jpg"] = save(rgb, "JPEG", xmp=xmp)
    big_endian = b"Exif\0\0MM\0*\0\0\0\x08\0\1\x01\x12\0\3\0\0\0\1\0\x08\0\0\0\0\0\0"
    files["jpeg_exif_big_endian.jpg"] = save(rgb, "JPEG", exif=big_endian)
    # PNG
    for depth in (1, 2, 4, 8):
        v = (picture(channels=1).astype(int) >> (8 - depth))
        files[f"png_grey{depth}.png"] = png(v, depth, 0)
        plte = chunk(b"PLTE", picture(2**depth, 1, 3, 5).tobytes())
        files[f"png_palette{depth}.png"] = png(v, depth, 3, extra=plte + chunk(b"tRNS", b"\0\x80"))
        files[f"png_interlaced_palette{depth}.png"] = png(v, depth, 3, True, extra=plte)
    files["png_short_palette.png"] = png(picture(channels=1).astype(int), 8, 3, extra=chunk(b"PLTE", picture(100, 1).tobytes()))
    wide = picture(channels=4).astype(int) * 256 + picture(channels=4, seed=7)
    files["png_rgb8.png"] = png(picture().astype(int), 8, 2, extra=chunk(b"tRNS", b"\0\1\0\2\0\3"))
    files["png_rgb16.png"] = png(wide[..., :3], 16, 2)
    files["png_rgba8.png"] = save(rgba, "PNG")
    files["png_rgba16.png"] = png(wide, 16, 6)
    files["png_grey_alpha8.png"] = png(picture(channels=2).astype(int), 8, 4)
    files["png_grey_alpha16.png"] = png(wide[..., :2], 16, 4)
    files["png_interlaced_rgba8.png"] = png(picture(channels=4).astype(int), 8, 6, True)
    files["png_interlaced_grey1.png"] = png(picture(channels=1).astype(int) >> 7, 1, 0, True)
    files["png_interlaced_tiny.png"] = png(picture(3, 2).astype(int), 8, 2, True)
    files["png_exif_6.png"] = save(rgb, "PNG", exif=exif(6))
    files["png_gamma.png"] = png(picture().astype(int), 8, 2, extra=chunk(b"gAMA", struct.pack(">I", 100000)))
    raw = exif(5)
    profile = "Raw profile type exif\0\nexif\n%8d\n%s\n" % (len(raw), raw.hex())
    files["png_raw_profile_5.png"] = png(picture().astype(int), 8, 2, extra=chunk(b"tEXt", profile.encode()))
    files["png_xmp_8.png"] = png(picture().astype(int), 8, 2, extra=chunk(
        b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + b"<a><tiff:Orientation>8</tiff:Orientation></a>"))
    # Animated: the default image is not the first frame of the animation in one of them.
    files["png_animated.png"] = save(rgb, "PNG", save_all=True, append_images=[Image.fromarray(picture(seed=3))])
    # WebP
    files["webp_lossy.webp"] = save(rgb, "WEBP", quality=60)
    files["webp_lossless.webp"] = save(rgb, "WEBP", lossless=True)
    files["webp_alpha.webp"] = save(rgba, "WEBP", quality=60)
    files["webp_alpha_lossless.webp"] = save(rgba, "WEBP", lossless=True, exact=True)
    files["webp_exif_8.webp"] = save(rgb, "WEBP", exif=exif(8))
    files["webp_animated.webp"] = save(rgb, "WEBP", save_all=True, lossless=True, append_images=[Image.fromarray(picture(seed=3))])
    # GIF
    palette = rgb.quantize(32)
    files["gif_plain.gif"] = save(palette, "GIF", interlace=0)
    files["gif_interlaced.gif"] = save(palette, "GIF", interlace=1)
    files["gif_grey.gif"] = save(grey, "GIF", interlace=0)
    files["gif_transparent.gif"] = save(palette, "GIF", transparency=3)
    files["gif_animated.gif"] = save(palette, "GIF", save_all=True, append_images=[Image.fromarray(picture(seed=3)).quantize(16)], duration=40)
    plain = files["gif_plain.gif"]
    frame = plain.index(b"," + struct.pack("<HHHH", 0, 0, W, H))
    small = plain[:6] + struct.pack("<HH", W + 9, H + 7) + plain[10:frame + 1] + struct.pack("<HH", 4, 5) + plain[frame + 5:]
    files["gif_offset.gif"] = small
    control = b"!\xf9\4\1\0\0\5\0"
    files["gif_offset_transparent.gif"] = small[:frame] + control + small[frame:]
    colors = 2 << (plain[10] & 7)
    files["gif_short_palette.gif"] = plain[:10] + bytes([plain[10] - 1]) + plain[11:13 + colors // 2 * 3] + plain[13 + colors * 3:]
    files["gif_outside.gif"] = plain[:6] + struct.pack("<HH", 8, 8) + plain[10:]
    # BMP
    files["bmp_24.bmp"] = save(rgb, "BMP")
    files["bmp_grey.bmp"] = save(grey, "BMP")
    files["bmp_8.bmp"] = save(palette, "BMP")
    files["bmp_1.bmp"] = save(grey.convert("1"), "BMP")
    files["bmp_32.bmp"] = save(rgba, "BMP")
    colors = b"".join(bytes([c[2], c[1], c[0], 0]) for c in picture(16, 1, 3, 5)[0])
    index4 = picture(channels=1)[..., 0] >> 4
    files["bmp_4.bmp"] = bmp(4, bmp_rows(pack_bits(r, 4) for r in index4), palette=colors)
    short = bmp(8, bmp_rows((r >> 4).tobytes() for r in picture(channels=1)[..., 0]), palette=colors[:40])
    files["bmp_short_palette.bmp"] = short
    files["bmp_top_down.bmp"] = bmp(24, bmp_rows(r.tobytes() for r in picture()), height=-H)
    files["bmp_core.bmp"] = bmp(24, bmp_rows(r.tobytes() for r in picture()), core=True)
    five = (picture()[..., 0].astype(int) * 256 + picture()[..., 1]) % 65536
    files["bmp_555.bmp"] = bmp(16, bmp_rows(r.astype("<u2").tobytes() for r in five))
    files["bmp_565.bmp"] = bmp(16, bmp_rows(r.astype("<u2").tobytes() for r in five), compression=3, masks=struct.pack("<III", 0xF800, 0x7E0, 0x1F))
    files["bmp_masks32.bmp"] = bmp(32, bmp_rows(r.tobytes() for r in picture(channels=4)), compression=3,
                                   masks=struct.pack("<III", 0xFF000000, 0xFF0000, 0xFF00))
    runs = b""
    for y, row in enumerate(index4[::-1]):
        if y % 2:
            runs += bytes([0, W]) + bytes(row) + b"\0" * (W % 2)  # as they are
        else:
            runs += b"".join(bytes([1, v]) for v in row[:20]) + bytes([W - 20, row[20]])
        runs += b"\0\0"
    files["bmp_rle8.bmp"] = bmp(8, runs + b"\0\1", compression=1, palette=colors)
    runs = b""
    for y, row in enumerate(index4[::-1]):
        if y % 2:
            runs += bytes([0, W]) + pack_bits(row, 4) + b"\0" * ((W + 1) // 2 % 2)
        else:
            runs += bytes([W, row[0] << 4 | row[1]])
        runs += b"\0\0"
    files["bmp_rle4.bmp"] = bmp(4, runs + b"\0\1", compression=2, palette=colors)
    return files


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    lines = []
    for name, data in sorted(make().items()):
        (OUT / name).write_bytes(data)
        image = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
        lines.append(f"{name} {image.width} {image.height} {hashlib.sha256(image.tobytes()).hexdigest()}\n")
    (HERE / "expected_images.txt").write_text("".join(lines))
    print(f"{len(lines)} files, {sum(p.stat().st_size for p in OUT.iterdir())} bytes")


if __name__ == "__main__":
    main()
