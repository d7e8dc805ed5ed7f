"""What files say beyond their samples: of each property files, and the frames that are right, or the words that refuse them.

`python tests/data/container_cases.py > docs/what-is-read.md` writes the table of the docs, which `test_containers.py` compares.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from container_writers import (
    FRAMES,
    GREY_200,
    LONG,
    LOSSLESS,
    array,
    cielab,
    claims,
    large_video,
    listed_by_imagej,
    matrix,
    opencv,
    oriented,
    pillow,
    trimmed,
    turned,
    two_streams,
    video,
    white_is_zero,
    with_density,
)


@dataclass(frozen=True)
class Case:
    """A kind of file: `write` makes one below a folder and returns its path.

    `right` (T, H, W) are its frames, or words of the sentence that refuses it. `says` is how it is read, for the table. `note` is a part of
    what is told beside the frames. `ffmpeg`: FFmpeg's command shows the same frames.
    """

    property: str
    files: str
    write: Callable[[Path], Path]
    right: np.ndarray | str
    says: str = ""
    note: str = ""
    ffmpeg: bool = False


TALL = FRAMES.transpose(0, 2, 1)
WIDE = FRAMES.repeat(2, axis=2)
SLOPES, SLOPES_WIDE = (np.add.outer(np.arange(0, 30, 5), np.linspace(20, 200, width).round()[None].repeat(48, 0)).astype(np.uint8)
                       for width in (64, 128))  # fmt: skip
DEEP = FRAMES.astype(np.uint16)
ALPHA = np.zeros(FRAMES.shape, np.uint8)
ALPHA[:, 8:, 8:40] = 255
ALPHA[:, 8:, 40:48] = 128
CLEAR = np.concatenate([FRAMES[..., None].repeat(3, -1), ALPHA[..., None]], axis=-1)
ON_BLACK = (FRAMES * (ALPHA / 255)).round().astype(np.uint8)
RGB = np.stack([FRAMES, FRAMES[:, :, ::-1], 255 - FRAMES], axis=-1)
LAYOUTS = {
    ("ffv1", ".mkv"): ("yuv422p", "yuv444p", "yuv411p", "yuv410p", "gbrp10le"),
    ("rawvideo", ".mov"): ("yuyv422", "uyvy422", "rgb24"),
    ("rawvideo", ".avi"): ("nv12", "bgr24", "gray"),
    ("utvideo", ".avi"): ("gbrp", "yuv422p"),
    ("huffyuv", ".avi"): ("yuv422p",),
}
LUMA = (RGB @ [0.299, 0.587, 0.114]).round().astype(np.uint8)


def rotations():
    """Display matrices of videos, EXIF orientations of stills."""
    kind, says = "rotation and mirroring", "turned and mirrored as it is to be shown"
    ways = {"1": (turned(90), np.rot90(FRAMES, 1, (1, 2))), "2": (turned(180), FRAMES[:, ::-1, ::-1]),
            "3": (turned(270), np.rot90(FRAMES, 3, (1, 2))), "4": (matrix(-1, 0, 0, 1), FRAMES[:, :, ::-1]),
            "5": (matrix(1, 0, 0, -1), FRAMES[:, ::-1]), "6": (matrix(0, 1, 1, 0), TALL)}  # fmt: skip
    for name, (turn, right) in ways.items():
        for suffix in (".mp4", ".mov", ".mkv"):
            write = video(f"turned{name}{suffix}", "libx264", options=LOSSLESS, turn=turn)
            yield Case(kind, f"{suffix} (display matrix)", write, right, says, ffmpeg=True)
    yield Case(kind, ".mp4 by 30 degrees", video("slanted.mp4", "libx264", turn=turned(30)), "turned by 30 degrees")
    still = FRAMES[0]
    shown = [still, still[:, ::-1], still[::-1, ::-1], still[::-1], still.T, np.rot90(still, -1), still[::-1, ::-1].T, np.rot90(still)]
    for suffix, how in ((".png", {}), (".jpg", {"quality": 100}), (".tif", {}), (".webp", {"lossless": True})):
        for number, right in enumerate(shown, 1):
            write = pillow(f"turned{number}{suffix}", frames=FRAMES[:1], **oriented(number, **how))
            yield Case(kind, f"{suffix} (EXIF)", write, right[None], says)


def aspects():
    """Pixels that are not square."""
    kind, says = "pixel aspect ratio", "made wider or narrower until pixels are square, which is said"
    for suffix in (".mp4", ".mkv", ".mov"):
        write = video(f"wide{suffix}", "libx264", frames=SLOPES, options=LOSSLESS, aspect=2)
        yield Case(kind, suffix, write, SLOPES_WIDE, says, "2 times as wide as high", ffmpeg=True)
    narrow = {"aspect": "1/2", "frames": SLOPES_WIDE, "options": LOSSLESS}
    yield Case(kind, ".mp4", video("narrow.mp4", "libx264", **narrow), SLOPES, says, "0.5 times", ffmpeg=True)
    yield Case(kind, ".mp4", video("both.mp4", "libx264", turn=turned(90), **narrow), np.rot90(SLOPES, 1, (1, 2)), says, "0.5 times")
    stills = {"frames": SLOPES_WIDE[:1], "dpi": (300, 150)}
    for suffix, how in ((".png", {}), (".tif", {}), (".jpg", {"quality": 100}), (".bmp", {})):
        yield Case(kind, suffix, pillow(f"dpi{suffix}", **stills, **how), SLOPES[:1], says, "0.5 times")
    for suffix in (".png", ".tif"):
        write = pillow(f"both{suffix}", **stills, **oriented(6))
        yield Case(kind, suffix, write, np.rot90(SLOPES[:1], -1, (1, 2)), says, "0.5 times")
    deep = opencv("deep.png", SLOPES_WIDE[:1].astype(np.uint16) * 16)
    yield Case(kind, ".png of 12 bits", with_density(deep), _scaled(SLOPES[:1], 12), says, "0.5 times")
    yield Case(kind, ".jpg without a unit", with_density(pillow("ratio.jpg", frames=WIDE[:1])), "programs differ in what 2 to 1 means")
    ratio = with_density(pillow("ratio.png", frames=WIDE[:1]), unit=0)
    yield Case(kind, ".png without a unit", ratio, "programs differ in what 2 to 1 means")
    numbers = pillow("float.tif", frames=WIDE[:1].astype(np.float32), dpi=(300, 150))
    yield Case(kind, ".tif of 32 bits", numbers, "read of 8 and 16 bits only")
    square = pillow("square.jpg", frames=FRAMES[:1], quality=100, dpi=(300, 299))
    yield Case(kind, ".jpg of 300 x 299 dpi", square, FRAMES[:1], "as square")


def stacks():
    """Several pictures in one file."""
    kind, says = "several pictures in a file", "all of them, in order"
    yield Case(kind, ".tif", pillow("stack.tif"), FRAMES, says)
    yield Case(kind, ".tif", opencv("stack.tiff", FRAMES), FRAMES, says)
    yield Case(kind, ".png (APNG)", pillow("moving.png", duration=40), FRAMES, says)
    yield Case(kind, ".png (APNG)", pillow("poster.png", duration=40, default_image=True), FRAMES[1:], says)
    yield Case(kind, ".webp", pillow("moving.webp", duration=40, lossless=True), FRAMES, says)
    yield Case(kind, ".gif", pillow("moving.gif", duration=40), FRAMES, says, ffmpeg=True)
    yield Case(kind, ".jpg (MPO)", _multi("phone.jpg"), FRAMES[:1], "the first, which is said", "of the 6 pictures in it the first")
    yield Case(kind, ".tif whose pages ImageJ lists", listed_by_imagej, "6 pictures behind one another")
    said = "of the 2 videos in it the one of 64 x 48 is read"
    yield Case("several videos in a file", ".mp4", two_streams, FRAMES, "the largest, which is said", said)


def _multi(name):
    return lambda folder: pillow("m.mpo", quality=100)(folder).rename(folder / name)


def transparencies():
    """Alpha, and colours that are declared transparent."""
    kind, says = "transparency", "over black"
    yield Case(kind, ".gif", pillow("clear.gif", transparency=200, disposal=2), np.where(FRAMES == 200, 0, FRAMES), says)
    for suffix, how in ((".png", {}), (".tif", {}), (".webp", {"lossless": True, "exact": True})):
        yield Case(kind, suffix, pillow(f"clear{suffix}", frames=CLEAR, **how), ON_BLACK, says)
    yield Case(kind, ".png", pillow("grey.png", ("LA",), CLEAR[:1]), ON_BLACK[:1], says)
    keyed = np.where(FRAMES[:1] == 200, 0, FRAMES[:1])
    yield Case(kind, ".png", pillow("key.png", frames=FRAMES[:1], transparency=200), keyed, says)
    yield Case(kind, ".png", pillow("palette.png", ("P",), FRAMES[:1], transparency=GREY_200), keyed, says)
    for name, codec, pixels in (("a.mkv", "ffv1", "bgra"), ("b.mov", "qtrle", "argb"), ("c.avi", "utvideo", "gbrap"),
                                ("d.mkv", "ffv1", "yuva420p"), ("e.mov", "png", "rgba")):  # fmt: skip
        yield Case(kind, f"{name[1:]} ({codec})", video(name, codec, pixels, CLEAR, given="rgba"), ON_BLACK, says)
    layer = video("g.webm", "libvpx-vp9", "yuva420p", CLEAR, {"lossless": "1"}, given="rgba")
    yield Case(kind, ".webm (VP9)", layer, FRAMES, "as opaque, which is said", "in a layer of its own", ffmpeg=True)
    raw = video("f.avi", "rawvideo", "bgra", CLEAR, given="rgba")
    yield Case(kind, ".avi (raw)", raw, FRAMES, "as opaque: its fourth byte has no meaning", ffmpeg=True)


def _scaled(frames, bits):
    """8 bits of frames that were written as so many, by a shift."""
    return (frames.astype(np.uint16) * (2 ** (bits - 8) * 255 / (2**bits - 1))).round()


def depths():
    """More than 8 bits a value."""
    kind, says = "10 to 16 bits", "scaled by the bits in use over the whole clip, which is said"
    for bits in (10, 12, 14):
        deep, right = DEEP << bits - 8, _scaled(FRAMES, bits)
        yield Case(kind, "folder of .png", opencv(f"bits{bits}", deep), right, says, f"have {bits} bits")
        yield Case(kind, ".tif", pillow(f"bits{bits}.tif", frames=deep), right, says, f"have {bits} bits")
        yield Case(kind, ".npy", array(f"bits{bits}.npy", deep), right, says, f"have {bits} bits")
        write = video(f"bits{bits}.mkv", "ffv1", "gray16le", deep, given="gray16le")
        yield Case(kind, ".mkv (ffv1)", write, right, says, f"have {bits} bits")
    dim = (DEEP << 4) // np.array([64, 1, 1, 1, 1, 1], np.uint16)[:, None, None]
    yield Case(kind, "folder of .png", opencv("dim", dim), (dim * (255 / 4095)).round(), says, "have 12 bits")
    yield Case(kind, ".png of 16 bits in use", opencv("bits16", DEEP * 257), FRAMES, "scaled to 8 bits")
    for name, codec, pixels in (("a.mp4", "libx264", "yuv420p10le"), ("b.mp4", "libx265", "yuv420p12le"), ("c.mkv", "ffv1", "gray10le"),
                                ("d.mkv", "ffv1", "gray12le"), ("e.mkv", "ffv1", "gray14le"),
                                ("f.mov", "prores_ks", "yuv422p10le")):  # fmt: skip
        exact = {"libx264": LOSSLESS, "libx265": {"x265-params": "lossless=1:log-level=none"}}.get(codec, {})
        write = video(f"depth-{name}", codec, pixels, options=exact)
        yield Case(kind, f"{name[1:]} ({codec}, {pixels})", write, FRAMES, "scaled to 8 bits", ffmpeg=True)
    colours = opencv("colours.png", DEEP[:1, :, :, None].repeat(3, -1) * 257)
    yield Case(kind, ".png of 16 bits a colour", colours, "colours or transparency of 16 bits")
    yield Case(kind, ".tif of 16 bits inverted", white_is_zero, "WhiteIsZero")
    yield Case(kind, ".npy from 0 to 1", array("unit.npy", (FRAMES / 255).astype(np.float32)), "pixels from 0 to 1")


def times():
    """Which frames are shown, and when."""
    kind = "edit list (cut without decoding)"
    for suffix in (".mp4", ".mov"):
        for name, how in (("cut", {}), ("ordered", {"b_frames": 2})):
            yield Case(kind, suffix, trimmed(f"{name}{suffix}", 8, **how), LONG[8:], "the frames that are shown", ffmpeg=True)
        yield Case(kind, suffix, trimmed(f"ends{suffix}", 8, shown=12), LONG[8:20], "the frames that are shown", ffmpeg=True)
    kind, gaps = "variable frame rate", [0, 1, 2, 7, 8, 14]
    for name, codec in (("a.mp4", "libx264"), ("b.mkv", "libx264"), ("c.avi", "ffv1"), ("d.mov", "qtrle")):
        exact = LOSSLESS if codec == "libx264" else {}
        write = video(f"gaps-{name}", codec, "rgb24" if codec == "qtrle" else "yuv420p", times=gaps, options=exact)
        yield Case(kind, name[1:], write, FRAMES, "each frame once; `fps` is the average", ffmpeg=True)
    uneven = pillow("uneven.gif", duration=[40, 40, 200, 40, 240, 40])
    yield Case(kind, ".gif", uneven, FRAMES, "each frame once; `fps` is the average", ffmpeg=True)
    kind, says = "interlaced", "its two fields woven, which is said"
    fine = {"flags": "+ilme+ildct", "qmin": "1", "qmax": "1", "dc": "10"}
    for suffix, codec, how in ((".mp4", "libx264", LOSSLESS | {"x264-params": "tff=1"}), (".mpg", "mpeg2video", fine)):
        write = video(f"fields{suffix}", codec, frames=SLOPES, options=how)
        yield Case(kind, suffix, write, SLOPES, says, "interlaced", ffmpeg=True)


def colours():
    """How values become grey."""
    for tagged, kind in ((1, "limited"), (2, "full")):
        for name, codec in (("a.mp4", "libx264"), ("b.mkv", "ffv1"), ("c.webm", "libvpx-vp9")):
            exact = {"libx264": LOSSLESS, "libvpx-vp9": {"lossless": "1"}}.get(codec, {})
            write = video(f"{kind}-{name}", codec, options=exact, tagged=tagged)
            yield Case("colour range", f"{name[1:]} ({kind})", write, FRAMES, "as grey from 0 to 255", ffmpeg=True)
    says = "as luma (ITU-R 601)"
    yield Case("colours", ".mkv (RGB)", video("a.mkv", "ffv1", "bgr0", RGB, given="rgb24"), LUMA, says, ffmpeg=True)
    yield Case("colours", ".mp4 (RGB)", video("b.mp4", "libx264rgb", "rgb24", RGB, LOSSLESS, given="rgb24"), LUMA, says, ffmpeg=True)
    yield Case("colours", ".png", pillow("c.png", frames=RGB[:1]), LUMA[:1], says)
    for suffix, mode, how in ((".jpg", "CMYK", {"quality": 100}), (".tif", "CMYK", {}), (".tif", "YCbCr", {})):
        write = pillow(f"{mode}{suffix}", ("RGB", mode), FRAMES[:1], **how)
        yield Case("colours", f"{suffix} ({mode})", write, FRAMES[:1], says)
    yield Case("colours", ".tif (CIELAB)", cielab, "conversion from LAB")
    for suffix in (".png", ".bmp", ".tif"):
        yield Case("palette", suffix, pillow(f"palette{suffix}", ("P",), FRAMES[:1] // 51 * 51), FRAMES[:1] // 51 * 51, "as luma")
    yield Case("palette", ".mov (qtrle)", video("palette.mov", "qtrle", "gray"), FRAMES, "as luma", ffmpeg=True)
    bits = np.where(FRAMES[:1] > 60, 255, 0).astype(np.uint8)
    yield Case("1 bit", ".png", pillow("bits.png", ("1",), bits), bits, "as black and white")
    for (codec, suffix), layouts in LAYOUTS.items():
        for pixels in layouts:
            write = video(f"{codec}-{pixels}{suffix}", codec, pixels)
            yield Case("planes", f"{suffix} ({codec}: {', '.join(layouts)})", write, FRAMES, "as luma", ffmpeg=True)


def sizes():
    """Claims of a header."""
    yield Case("size", ".png of 30000 x 30000", claims(30000, 30000), "more than 170 million pixels")
    yield Case("size", ".png of 9000 x 9000", claims(9000, 9000), "claims frames of 9000 x 9000 pixels")
    yield Case("size", ".avi of 16000 x 16000", large_video, "claims frames of 16000 x 16000 pixels")


GROUPS = (rotations, aspects, stacks, transparencies, depths, times, colours, sizes)
CASES = [case for group in GROUPS for case in group()]


def table():
    """The page of the docs: a row for each property and way of reading, with the files of which it is tested."""
    rows = {}
    for case in CASES:
        says = case.says if isinstance(case.right, np.ndarray) else f'refused ("... {case.right} ...")'
        rows.setdefault((case.property, says), {})[case.files] = None
    lines = [f"| {kind} | {', '.join(files)} | {says} |" for (kind, says), files in rows.items()]
    return HEAD + "\n".join(["| what a file says | files | how it is read |", "|---|---|---|", *lines]) + "\n"


HEAD = """# What is read

Made by `python tests/data/container_cases.py` from the cases of a test, which compares the frames of each with those that were written:
they differ by at most 2 grey levels (JPEG and MPEG-2: 3). Where FFmpeg's command is installed, the videos are compared with it too.

Every file becomes frames of 8-bit luma. What is said, stands in the notes of `index`. A file that is refused is left out with that reason.
Black frames, and frames that repeat the one before, are counted by `index` and are no samples.

"""

if __name__ == "__main__":
    print(table(), end="")
