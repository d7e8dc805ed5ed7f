"""Masks of a clip, from arrays, pictures, or outlines that people drew."""

import re
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from PIL import ImageOps

from lus_lightning.data.annotations import annotation_file, is_annotation, read_annotations
from lus_lightning.data.pixels import Told
from lus_lightning.data.readers import still_files, visible
from lus_lightning.data.shown import numbers_of
from lus_lightning.data.stills import opened_pictures
from lus_lightning.errors import UserError
from lus_lightning.labels import MASK_CLASSES

BEAM: Final = "beam"
"""Key of an npz file that holds pictures in beam space, not classes."""
MASKS_VERSION: Final = 1
"""Part of what is remembered of a clip's masks: raise it whenever the same file would be read differently."""

_ARRAYS: Final = (".npy", ".npz")
_EXACT: Final = (".png", ".tif", ".tiff", ".bmp")
"""Pictures that keep every value: what JPEG and WebP give back is near the value, and here each bit has a meaning."""
_LARGEST: Final = (1 << len(MASK_CLASSES)) - 1
_WRITE: Final = "write uint8 (frames, height, width) with numpy.save, or one grey PNG file a frame"
_VOLUME: Final = "in Python, numpy.save('masks.npy', {}.astype('uint8').transpose(2, 1, 0)) makes what is read: (frames, height, width)"
_KINDS: Final = {
    ".nii.gz": ("NIfTI", _VOLUME.format("numpy.asarray(nibabel.load('masks.nii.gz').dataobj)")),
    ".nii": ("NIfTI", _VOLUME.format("numpy.asarray(nibabel.load('masks.nii').dataobj)")),
    ".nrrd": ("NRRD", _VOLUME.format("nrrd.read('masks.nrrd')[0]")),
    **dict.fromkeys((".jpg", ".jpeg", ".webp"), ("JPEG or WebP, which change values", "write PNG")),
    ".mha": ("MetaImage", _WRITE),
    ".mhd": ("MetaImage", _WRITE),
    ".dcm": ("DICOM", _WRITE),
    ".mat": ("MATLAB", _WRITE),
    ".h5": ("HDF5", _WRITE),
    ".hdf5": ("HDF5", _WRITE),
    ".pkl": ("Python's pickle", _WRITE),
    ".pt": ("PyTorch", _WRITE),
}
"""Kinds of masks that are not read, by the end of the file's name: what they are, and what to do."""
_OF_LIBRARIES: Final = (
    OSError, ValueError, TypeError, EOFError, SyntaxError, RuntimeError, MemoryError, zipfile.BadZipFile, zlib.error, struct.error,
)  # fmt: skip


def read_mask(path: Path, key: str = "mask") -> np.ndarray:
    """Masks of a clip: (T, H, W) uint8, bit i set where `labels.MASK_CLASSES[i]` is; of keys `beam*` (T, scan lines, depth samples).

    An array is an `.npy` file, or `key` of an `.npz` file; (H, W) is one frame. A picture is a PNG, TIFF or BMP file (or a stack of them),
    a folder holds one file a frame, in natural order; grey values or palette numbers are the bits. Behind `#`, `path` may name the only
    class (`masks#b_line`): whatever is not 0 is of it. Outlines (.xml, .json): see `annotations.py`.

    Raises:
        UserError: the file is missing, damaged, of another kind, lacks the key, has colours, another type, shape or unknown values, or as
            `read_annotations`.
    """
    return _named(path, key)[0]


def mask_frames(path: Path, frames: int, height: int, width: int) -> list[int] | None:
    """Which frames of a clip have a mask, none where all have: those that the numbers in the files' or images' names say, from 0.

    Args:
        path: of the masks.
        frames, height, width: of the clip.

    Raises:
        UserError: as `read_mask`; the masks do not fit the clip, or there are fewer than frames and their names do not number them.
    """
    masks, names = _named(path, "mask")
    size, mask_size = (f"{t} frames of {w} x {h}" for t, h, w in ((frames, height, width), masks.shape))
    if masks.shape[1:] != (height, width) or len(masks) > frames or (len(masks) < frames and not names):
        raise UserError(
            f"{path}: the mask has {mask_size} pixels, its clip {size}; write it again at the clip's size, or empty the column `mask`"
        )
    if len(masks) == frames:
        return None
    found = [re.search(r"(\d+)\D*$", name.rpartition(".")[0] or name) for name in names]
    numbers = [int(n[1]) if n else -1 for n in found]
    if sorted(set(numbers)) != numbers or not 0 <= numbers[0] <= numbers[-1] < frames:
        raise UserError(
            f"{path}: has masks of {len(masks)} of the clip's {frames} frames ({', '.join(names[:3])}), and their names do not say of"
            f" which; end each name in its frame's number, 0 to {frames - 1}, or give every frame a mask"
        )
    return numbers


def mask_places(clips: pd.DataFrame, row: int, frames: ArrayLike) -> np.ndarray:
    """Places (N,) int64 of frames (N) of clip `row` among its masks, -1 where a frame has none."""
    clip, numbers = clips.iloc[row], np.asarray(frames, np.int64)
    if not isinstance(clip.get("mask"), str):
        return np.full(len(numbers), -1)
    partial = clip.get("mask_frames")
    return pd.Index(numbers_of(partial)).get_indexer(numbers) if isinstance(partial, str) else numbers


def holds(path: Path, key: str) -> bool:
    """Whether a mask file is an npz with an array of that name."""
    if path.suffix.lower() != ".npz":
        return False
    with np.load(path, allow_pickle=False) as file:
        return key in file


def _named(path: Path, key: str) -> tuple[np.ndarray, list[str]]:
    """Checked masks, and the names of their frames where each has one."""
    source, only = annotation_file(path)
    if is_annotation(path):
        if key != "mask":
            raise UserError(f"{path}: has no array {key!r}; outlines are of the picture")
        return _outlines(path)
    names: list[str] = []
    try:
        if source.suffix.lower() in _ARRAYS and not source.is_dir():
            mask = _array(source, key)
        else:
            files = _files(source)
            mask, names = _stacked(files), [file.name for file in files] if source.is_dir() else []
    except UserError as error:
        raise UserError(str(error) if str(error).startswith(str(path)) else f"{path}: {error}") from None
    except _OF_LIBRARIES as error:
        reason = str(error) or type(error).__name__
        raise UserError(f"{path}: the mask cannot be read ({reason}); write it again, or empty the column `mask`") from None
    mask = mask[None] if mask.ndim == 2 else mask
    if mask.dtype.kind not in "bui" or mask.ndim != 3 or 0 in mask.shape:
        raise UserError(f"{path}: {key!r} is {mask.dtype} of shape {mask.shape}; it needs uint8 (frames, height, width)")
    return (mask if key == BEAM else _classes(path, key, mask, only)), names


def _outlines(path: Path) -> tuple[np.ndarray, list[str]]:
    try:
        return read_annotations(path)
    except OSError as error:
        raise UserError(f"{path}: the mask cannot be read ({error}); write it again, or empty the column `mask`") from None


def _classes(path: Path, key: str, mask: np.ndarray, only: str) -> np.ndarray:
    """Values as bits of `labels.MASK_CLASSES`, uint8."""
    values = np.flatnonzero(np.bincount(mask.ravel())) if mask.dtype == np.uint8 else np.unique(mask)
    if only:
        if len(set(values) - {0}) > 1:
            raise UserError(f"{path}: has the values {', '.join(map(str, values[:8]))}; masks of one class ({only}) have 0 and one other")
        return (mask != 0).astype(np.uint8) << np.uint8(MASK_CLASSES.index(only))
    if mask.dtype == bool or (values[-1] > _LARGEST and values[0] >= 0 and len(set(values) - {0}) == 1):
        raise UserError(
            f"{path}: has the value {values[-1]:d} and no other but 0, which does not say of which class: name it behind #, as"
            f" {annotation_file(path)[0].name}#{MASK_CLASSES[0]} in the column `mask` ({', '.join(MASK_CLASSES)})"
        )
    if values[0] < 0 or values[-1] > _LARGEST:
        wrong = values[0] if values[0] < 0 else values[-1]
        raise UserError(f"{path}: {key!r} has the value {wrong}; the classes are bits, so at most {_LARGEST}")
    return mask.astype(np.uint8, copy=False)


def _array(path: Path, key: str) -> np.ndarray:
    loaded = np.load(path, allow_pickle=False)
    if isinstance(loaded, np.ndarray):
        if key != "mask":
            raise UserError(f"has no array {key!r}; write an .npz file with it")
        return loaded
    with loaded as file:
        if key not in file:
            raise UserError(f"has no array {key!r} (it has {', '.join(file.files) or 'none'}); write it under that name")
        return np.asarray(file[key])


def _files(source: Path) -> list[Path]:
    """The pictures that `source` is or holds."""
    files = still_files(source) if source.is_dir() else [source]
    if not files:
        kinds = ", ".join(sorted({p.suffix.lower() for p in source.iterdir() if visible(p.name)}))
        raise UserError(f"the folder of masks has no pictures (it has {kinds or 'no files'}); it needs one grey PNG file a frame")
    for file in files:
        if file.suffix.lower() not in _EXACT:
            known = (told for end, told in _KINDS.items() if file.name.lower().endswith(end))
            kind, remedy = next(known, (file.suffix or "no suffix", _WRITE))
            raise UserError(f"masks of this kind ({kind}) are not read; {remedy}")
    return files


def _stacked(files: list[Path]) -> np.ndarray:
    frames = [frame for file in files for frame in _pictures(file)]
    if len({f.shape for f in frames}) != 1:
        raise UserError(f"its masks differ in size ({', '.join(sorted({f'{f.shape[1]} x {f.shape[0]}' for f in frames}))}); write one size")
    return np.stack(frames)


def _pictures(file: Path) -> Iterator[np.ndarray]:
    """The values (H, W) of a picture file: grey, or numbers of the palette."""
    for opened in opened_pictures(file, Told()):
        image = ImageOps.exif_transpose(opened)
        if image.mode in ("RGB", "RGBA"):
            yield _grey_of(file, np.asarray(image))
        elif image.mode == "1":
            yield np.asarray(image).astype(np.uint8) * np.uint8(255)
        elif image.mode in ("L", "P") or image.mode.startswith("I"):
            yield np.asarray(image)
        else:
            raise UserError(f"{file.name} stores its pixels as {image.mode}; write masks as grey PNG, the value the classes' bits")


def _grey_of(file: Path, colours: np.ndarray) -> np.ndarray:
    """Colours (H, W, 3 or 4) that are all grey and opaque, as (H, W)."""
    if (colours[..., 0:1] != colours[..., :3]).any() or (colours[..., 3:] != 255).any():
        raise UserError(
            f"{file.name} has colours or transparency, and which class a colour means is not known; write grey PNG files, the value the"
            " classes' bits"
        )
    return colours[..., 0]
