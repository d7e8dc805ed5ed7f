"""Writers of files that say more than their samples, by PyAV, Pillow, OpenCV and NumPy."""

import io
import struct
import zlib
from fractions import Fraction

import av
import cv2
import numpy as np
from clip_files import smooth_frames
from PIL import Image, TiffImagePlugin

LOSSLESS = {"qp": "0"}
FRAMES, LONG = smooth_frames(6), smooth_frames(30, 96, 128)
GREY_200 = Image.fromarray(np.full((1, 1), 200, np.uint8)).convert("P").getpixel((0, 0))
"""Where Pillow's palette has it."""


def video(name, codec, pix_fmt="yuv420p", frames=FRAMES, options=None, times=None, tagged=None, aspect=None, turn=None, given="gray"):
    """A writer of a video by PyAV; `times` are frame numbers, `tagged` its colour range (1 limited, 2 full), `given` the frames' format."""

    def write(folder):
        with av.open(str(folder / name), "w") as container:
            stream = container.add_stream(codec, rate=25, options=dict(options or {}))
            stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], pix_fmt
            if aspect:
                stream.codec_context.sample_aspect_ratio = Fraction(aspect)
            if tagged:
                stream.codec_context.color_range = tagged
            if turn:
                turn(stream)
            for t, frame in zip(times or range(len(frames)), frames, strict=True):
                picture = av.VideoFrame.from_ndarray(frame, format=given)
                picture = picture.reformat(format=pix_fmt, dst_color_range={None: None, 1: "MPEG", 2: "JPEG"}[tagged])
                picture.pts, picture.time_base = t, Fraction(1, 25)
                if tagged:
                    picture.color_range = tagged
                container.mux(stream.encode(picture))
            container.mux(stream.encode(None))
        return folder / name

    return write


def pillow(name, modes=(None,), frames=FRAMES, **options):
    """A writer of one or several pictures by Pillow; `modes` are those that it converts to in turn."""

    def write(folder):
        pictures = [Image.fromarray(frame) for frame in frames]
        for mode in filter(None, modes):
            pictures = [picture.convert(mode) for picture in pictures]
        more = {"save_all": True, "append_images": pictures[1:]} if len(pictures) > 1 else {}
        pictures[0].save(folder / name, **more, **options)
        return folder / name

    return write


def opencv(name, frames):
    """A writer of a folder of stills by OpenCV, of pages in one TIFF, or of one still."""

    def write(folder):
        target = folder / name
        if target.suffix == ".tiff":
            cv2.imwritemulti(str(target), list(frames))
        elif target.suffix:
            cv2.imwrite(str(target), frames[0])
        else:
            target.mkdir()
            for t, frame in enumerate(frames):
                cv2.imwrite(str(target / f"{t}.png"), frame)
        return target

    return write


def matrix(a, b, c, d):
    """What sets a display matrix: a point (x, y) is shown at (a x + c y, b x + d y)."""
    return lambda stream: stream.set_display_matrix([int(v * 65536) for v in (a, b, 0, c, d, 0, 0, 0)] + [1 << 30])


def turned(degrees, **flips):
    return lambda stream: stream.set_display_rotation(degrees, **flips)


def oriented(number, **options):
    exif = Image.Exif()
    exif[274] = number
    return {"exif": exif, **options}


def array(name, values):
    def write(folder):
        np.save(folder / name, values)
        return folder / name

    return write


def trimmed(name, drop, shown=None, b_frames=0, **options):
    """A video whose first frames are hidden by an edit list: its packets are copied to earlier times, as a cut without decoding does.

    With `shown`, so many frames: then the edit list ends before the video does.
    """

    def write(folder):
        whole = video("whole.mp4", "libx264", frames=LONG, options=LOSSLESS | {"bf": str(b_frames)})(folder)
        with av.open(str(whole)) as source, av.open(str(folder / name), "w", options=options) as target:
            old = source.streams.video[0]
            new = target.add_stream_from_template(old)
            for packet in source.demux(old):
                if packet.dts is not None:
                    shift = int(Fraction(drop, 25) / packet.time_base)
                    packet.pts, packet.dts, packet.stream = packet.pts - shift, packet.dts - shift, new
                    target.mux(packet)
        if shown:
            data = (folder / name).read_bytes()
            at = data.rindex(b"elst") + 12  # behind version, flags and the number of edits: how long the last one is, in ms
            (folder / name).write_bytes(data[:at] + struct.pack(">I", shown * 40) + data[at + 4 :])
        return folder / name

    return write


def two_streams(folder):
    with av.open(str(folder / "two.mp4"), "w") as container:
        streams = []
        for height, width in ((16, 16), FRAMES.shape[1:]):
            stream = container.add_stream("libx264", rate=25, options=LOSSLESS)
            stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
            streams.append(stream)
        for frame in FRAMES:
            for stream in streams:
                picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame[: stream.height, : stream.width]), format="gray")
                container.mux(stream.encode(picture))
        for stream in streams:
            container.mux(stream.encode(None))
    return folder / "two.mp4"


def claims(width, height):
    """A PNG whose header claims any size."""

    def write(folder):
        Image.fromarray(FRAMES[0]).save(buffer := io.BytesIO(), "PNG")
        data = bytearray(buffer.getvalue())
        data[16:24] = struct.pack(">II", width, height)
        data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
        (folder / "claims.png").write_bytes(data)
        return folder / "claims.png"

    return write


def large_video(folder):
    path = video("large.avi", "ffv1")(folder)
    data = path.read_bytes()
    size = struct.pack("<II", FRAMES.shape[2], FRAMES.shape[1])
    path.write_bytes(data.replace(size, struct.pack("<II", 16000, 16000)))
    return path


def white_is_zero(folder):
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[262] = 0
    Image.fromarray(FRAMES[0].astype(np.uint16) * 16).save(folder / "inverted.tif", tiffinfo=tags)
    return folder / "inverted.tif"


def listed_by_imagej(folder):
    Image.fromarray(FRAMES[0]).save(folder / "virtual.tif", description="ImageJ=1.53t\nimages=6\nslices=6\n")
    return folder / "virtual.tif"


def cielab(folder):
    Image.fromarray(FRAMES[0].repeat(3).reshape(*FRAMES[0].shape, 3), "LAB").save(folder / "lab.tif")
    return folder / "lab.tif"


def with_density(write, unit=1):
    """Another writer's picture, with twice as many pixels to the right as downwards: a PNG per metre (`unit` 1), a JPEG without a unit."""

    def written(folder):
        path = write(folder)
        data = path.read_bytes()
        if path.suffix == ".png":
            chunk = b"pHYs" + (struct.pack(">IIB", 12000, 6000, 1) if unit else struct.pack(">IIB", 2, 1, 0))
            data = data[:33] + struct.pack(">I", 9) + chunk + struct.pack(">I", zlib.crc32(chunk)) + data[33:]
        else:
            at = data.index(b"JFIF") + 7
            data = data[:at] + struct.pack(">BHH", 0, 2, 1) + data[at + 5 :]
        path.write_bytes(data)
        return path

    return written
