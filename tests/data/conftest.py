"""A small data folder of known frames."""

from pathlib import Path

import pandas as pd
import pytest
from clip_files import smooth_frames, write_index, write_video


@pytest.fixture
def study(tmp_path) -> Path:
    """A data folder of four patients with two clips each, scores 0-3, and its index.csv."""
    root = tmp_path / "study"
    (root / "clips").mkdir(parents=True)
    rows = []
    for i in range(8):
        write_video(root / "clips" / f"c{i}.mp4", smooth_frames(4 + i))
        rows.append({"clip": f"c{i}", "path": f"clips/c{i}.mp4", "patient": f"p{i // 2}", "score": i % 4, "standard": "soldati"})
    write_index(root, pd.DataFrame(rows))
    return root
