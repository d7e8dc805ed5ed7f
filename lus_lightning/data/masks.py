"""Masks of a clip, from an npz file, a folder of PNG files, or outlines that people drew."""

import zipfile
import zlib
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image

from lus_lightning.data.annotations import is_annotation, read_annotations
from lus_lightning.data.readers import still_files
from lus_lightning.errors import UserError
from lus_lightning.labels import MASK_CLASSES

BEAM: Final = "beam"
"""Key of an npz file that holds pictures in beam space, not classes."""


def read_mask(path: Path, key: str = "mask") -> np.ndarray:
    """Masks of a clip: (T, H, W) uint8, bit i set where `labels.MASK_CLASSES[i]` is; of keys `beam*` (T, scan lines, depth samples).

    A folder holds one PNG file a frame, in natural order, its grey value the bits. Outlines (.xml, .json): see `annotations.py`.

    Raises:
        UserError: the file is missing, damaged, lacks the key, has another type, shape or unknown bits, or as `read_annotations`.
    """
    try:
        mask = _read(path, key)
    except KeyError:
        raise UserError(f"{path}: has no array {key!r}; write it under that name") from None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"{path}: the mask cannot be read ({error}); write it again, or empty the column `mask`") from None
    if mask.dtype != np.uint8 or mask.ndim != 3 or 0 in mask.shape:
        raise UserError(f"{path}: {key!r} is {mask.dtype} of shape {mask.shape}; it needs uint8 (frames, height, width)")
    if key != BEAM and mask.max() >= 1 << len(MASK_CLASSES):
        raise UserError(f"{path}: {key!r} has the value {mask.max()}; the classes are bits, so at most {(1 << len(MASK_CLASSES)) - 1}")
    return mask


def holds(path: Path, key: str) -> bool:
    """Whether a mask file is an npz with an array of that name."""
    if path.suffix != ".npz":
        return False
    with np.load(path, allow_pickle=False) as file:
        return key in file


def _read(path: Path, key: str) -> np.ndarray:
    if is_annotation(path):
        if key != "mask":
            raise KeyError(key)
        return read_annotations(path)
    if not path.is_dir():
        with np.load(path, allow_pickle=False) as file:
            return np.asarray(file[key])
    frames = []
    for still in still_files(path):
        with Image.open(still) as image:
            frames.append(np.asarray(image))
    if len({f.shape for f in frames}) != 1:
        raise ValueError("the folder has no frames, or frames of different sizes")
    return np.stack(frames)
