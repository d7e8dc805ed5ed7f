"""What a container says beyond its samples is read right, or refused in a sentence that names it."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from container_cases import CASES, table

from lus_lightning.data.pixels import Told
from lus_lightning.data.readers import frames_of
from lus_lightning.errors import UserError

READ = [case for case in CASES if isinstance(case.right, np.ndarray)]
REFUSED = [case for case in CASES if not isinstance(case.right, np.ndarray)]


def _name(case):
    return f"{case.property}-{case.files}"


@pytest.mark.parametrize("case", READ, ids=_name)
def test_the_frames_are_those_that_are_to_be_shown(tmp_path, case):
    path, told = case.write(tmp_path), Told()
    frames = np.stack(list(frames_of(path, told)))
    assert frames.shape == case.right.shape
    assert np.abs(frames.astype(int) - case.right).max() <= (3 if path.suffix in (".jpg", ".mpg") else 2)
    assert case.note in " ".join(told.notes)
    assert bool(case.note) == bool(told.notes)


@pytest.mark.parametrize("case", REFUSED, ids=_name)
def test_what_is_not_read_is_refused_by_its_name(tmp_path, case, recwarn):
    path = case.write(tmp_path)
    with pytest.raises(UserError, match=case.right) as caught:
        list(frames_of(path))
    assert str(path) in str(caught.value)
    assert ";" in str(caught.value), "the remedy follows a semicolon"
    assert not recwarn.list


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="FFmpeg's command is not installed")
@pytest.mark.parametrize("case", [case for case in READ if case.ffmpeg], ids=_name)
def test_the_frames_are_those_of_ffmpegs_command(tmp_path, case):
    path = case.write(tmp_path)
    frames = np.stack(list(frames_of(path)))
    wide = "scale=trunc(iw*sar+0.5):ih:flags=bicubic,setsar=1,format=gray"
    command = ["ffmpeg", "-v", "error", "-i", str(path), "-vf", wide, "-vsync", "passthrough", "-f", "rawvideo", "-"]
    shown = np.frombuffer(subprocess.run(command, check=True, capture_output=True).stdout, np.uint8)
    assert np.abs(frames.astype(int) - shown.reshape(frames.shape)).max() <= 2


def test_the_table_of_the_docs_is_that_of_the_cases():
    page = Path(__file__).parents[2] / "docs" / "what-is-read.md"
    assert page.read_text(encoding="utf-8") == table(), "write it again: python tests/data/container_cases.py > docs/what-is-read.md"
