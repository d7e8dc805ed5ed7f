"""Features kept on disk: each computed once, found again, and never another picture's."""

import os
import pickle
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
import torch
from clip_files import smooth_frames, write_stills

from lus_lightning.data import cache, features, store
from lus_lightning.data.datasets import FrameDataset
from lus_lightning.data.features import FeatureCache, view_keys, with_features
from lus_lightning.data.geometry import Geometry
from lus_lightning.data.index import build_index
from lus_lightning.data.transforms import Augmentation
from lus_lightning.errors import UserError


@pytest.fixture
def pictures(tiny_study, tmp_path):
    clips = build_index(tiny_study, cache_dir=tmp_path).table.head(3)
    table = pd.DataFrame([(row, frame) for row in range(3) for frame in (0, 5)], columns=["row", "frame"]).assign(target=0, fold=0)
    paths = [tiny_study / path for path in clips["path"]]

    def make(split="train", **changes):
        given = {"size": 32, "split": split, "cache_dir": tmp_path, "augmentation": Augmentation(flip=0.5, rotate_degrees=20), "seed": 0}
        return FrameDataset(table, paths, **(given | changes))

    return make


class Counting:
    """Mean and standard deviation of each picture as its two features; counts the pictures it was shown."""

    def __init__(self):
        self.seen = 0

    def __call__(self, images, which):
        self.seen += len(images)
        pictures = images.float()
        return [torch.stack([pictures.mean((1, 2, 3)), pictures.std((1, 2, 3)) + i], dim=1) for i in which]


def caches(folder, n=2):
    return [FeatureCache(folder / str(i), 2) for i in range(n)]


def test_features_are_those_of_the_very_picture_and_view(pictures, tmp_path):
    made = with_features(pictures(), 2, caches(tmp_path), Counting())
    for item in range(len(made)):
        picture = pictures()[(item, 2)]["image"].float()
        mean, deviation = picture.mean().item(), picture.std().item()
        np.testing.assert_allclose(made[item]["features"], [mean, deviation, mean, deviation + 1], rtol=1e-5)
    assert not torch.equal(pictures()[(0, 2)]["image"], pictures()[0]["image"])
    assert {k: int(v) for k, v in made[3].items() if k != "features"} == {k: int(v) for k, v in pictures()[3].items() if k != "image"}


def test_a_picture_is_computed_once_for_each_view_whoever_asks_again(pictures, tmp_path):
    extract = Counting()
    for view in (1, 2, 0, 1, 2, 0):
        with_features(pictures("train" if view else "oof"), view, caches(tmp_path), extract)
    assert extract.seen == 3 * 6


def test_another_seed_policy_size_or_frame_is_another_key_and_an_unaugmented_picture_minds_no_policy(pictures):
    plain, view = view_keys(pictures(), 0), view_keys(pictures(), 1)
    assert len(set(plain) | set(view)) == 12
    assert view_keys(pictures(seed=1), 0) == plain
    for change in ({"seed": 1}, {"augmentation": Augmentation(flip=1.0)}, {"size": 48}):
        assert not set(view_keys(pictures(**change), 1)) & set(view)
    assert not set(view_keys(pictures(size=48), 0)) & set(plain)


def test_a_network_added_later_is_computed_alone(pictures, tmp_path):
    with_features(pictures(), 0, caches(tmp_path, 1), Counting())
    asked = []

    def extract(images, which):
        asked.append(list(which))
        return Counting()(images, which)

    both = with_features(pictures(), 0, caches(tmp_path, 2), extract)
    assert asked == [[1]]
    assert both[0]["features"][1] + 1 == both[0]["features"][3]


DAMAGES = {
    "zeroed": lambda data: bytes(len(data)),
    "zeroed rows": lambda data: data[: len(data) // 2] + bytes(len(data) - len(data) // 2),
    "cut in half": lambda data: data[: len(data) // 2],
    "longer": lambda data: data + b"\x01" * 40,
    "one bit of a key": lambda data: data[:70] + bytes([data[70] ^ 1]) + data[71:],
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_features_are_computed_again_and_those_of_other_files_are_not(damage, pictures, tmp_path):
    whole = with_features(pictures(), 0, caches(tmp_path / "whole"), Counting())
    keys, (cache, _) = view_keys(pictures(), 0), caches(tmp_path)
    for items in ([0, 1], [2, 3, 4, 5]):
        cache.append([keys[i] for i in items], np.stack([whole[i]["features"][:2] for i in items]))
    hurt = max((tmp_path / "0").iterdir(), key=lambda file: file.stat().st_size)
    hurt.write_bytes(DAMAGES[damage](hurt.read_bytes()))
    assert list(caches(tmp_path)[0].lacks(keys)) == [False] * 2 + [True] * 4
    extract = Counting()
    for _ in range(2):
        again = with_features(pictures(), 0, caches(tmp_path, 1), extract)
        assert all(torch.equal(again[i]["features"], whole[i]["features"][:2]) for i in range(6))
    assert extract.seen == 4


def test_a_process_killed_while_it_writes_costs_only_what_it_was_writing(tmp_path):
    code = (
        "import os, signal, sys; from pathlib import Path; import numpy as np\n"
        "from lus_lightning.data.features import FeatureCache\n"
        "cache = FeatureCache(Path(sys.argv[1]), 2)\n"
        "cache.append(['a' * 32, 'b' * 32], np.float32([[1, 2], [3, 4]]))\n"
        "os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)\n"
        "cache.append(['c' * 32], np.float32([[5, 6]]))"
    )
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path / "0")], check=False).returncode == -signal.SIGKILL
    (cache,) = caches(tmp_path, 1)
    assert list(cache.lacks(["a" * 32, "b" * 32, "c" * 32])) == [False, False, True]
    assert cache.read("b" * 32).tolist() == [3, 4]


def test_another_version_of_reader_beam_space_or_augmentation_is_another_key(pictures, monkeypatch):
    plain, view = view_keys(pictures(), 0), view_keys(pictures(), 1)
    monkeypatch.setattr(features, "AUGMENTATION_VERSION", (0, "other"))
    assert view_keys(pictures(), 0) == plain
    assert not set(view_keys(pictures(), 1)) & set(view)
    monkeypatch.setattr(cache, "READER_VERSION", -1)
    cache._key.cache_clear()
    other = view_keys(pictures(), 0)
    cache._key.cache_clear()
    assert not set(other) & set(plain)

    geometry = Geometry("linear", aperture=20.0, radius_mm=0.0, depth_mm=30.0, top_mm=0.0, height=48, width=64, mm_per_px=1.0, scaled=False)
    beams = [view_keys(pictures(geometries=dict.fromkeys(range(3), geometry)), 0)]
    monkeypatch.setattr(cache, "BEAM_VERSION", -1)
    cache._key.cache_clear()
    beams.append(view_keys(pictures(geometries=dict.fromkeys(range(3), geometry)), 0))
    cache._key.cache_clear()
    assert len({key for keys in (other, plain, *beams) for key in keys}) == 24


def test_a_still_replaced_in_place_in_a_folder_is_seen_within_a_second(tmp_path):
    stills = write_stills(tmp_path / "clip", smooth_frames(3))
    table = pd.DataFrame({"row": 0, "frame": range(3), "target": 0, "fold": 0})
    dataset = FrameDataset(table, [stills], 32, "test", tmp_path / "cache")
    extract = Counting()
    before = with_features(dataset, 0, caches(tmp_path), extract)
    first = [float(before[i]["features"][0]) for i in range(3)]
    replaced, stat = stills / "frame_1.png", (stills / "frame_1.png").stat()
    with replaced.open("r+b") as file:  # in place: the folder itself does not change
        file.write((write_stills(tmp_path / "other", smooth_frames(3) // 3) / "frame_1.png").read_bytes())
        file.truncate()
    os.utime(replaced, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    time.sleep(1.1)
    after = with_features(dataset, 0, caches(tmp_path), extract)
    assert float(after[1]["features"][0]) < first[1] / 2
    assert [float(after[i]["features"][0]) for i in (0, 2)] == [first[0], first[2]]


def test_a_clip_changed_while_its_features_are_computed_keeps_none(tmp_path):
    np.save(tmp_path / "clip.npy", smooth_frames(3))
    dataset = FrameDataset(
        pd.DataFrame({"row": 0, "frame": range(3), "target": 0, "fold": 0}), [tmp_path / "clip.npy"], 32, "test", tmp_path / "cache"
    )

    def extract(images, which):
        np.save(tmp_path / "clip.npy", smooth_frames(3) // 2)
        return Counting()(images, which)

    with pytest.raises(UserError, match="changed while its features were computed"):
        with_features(dataset, 0, caches(tmp_path), extract)
    assert not list(tmp_path.rglob("*.features"))


def test_features_cleared_under_a_running_process_stay_readable_there_and_old_ones_are_removed_first(pictures, tmp_path, monkeypatch):
    folder = tmp_path / "features"
    made = with_features(pictures(), 0, caches(folder), Counting())
    expected = [made[i]["features"] for i in range(6)]
    old = {item.file for item in store.files_of(folder)}
    for file in old:
        os.utime(file, (1, 1))
    monkeypatch.setenv("LUS_CACHE_LIMIT", "1KB")
    monkeypatch.setattr(store, "_STARTED", time.time() - 3600)
    with_features(pictures(), 1, caches(tmp_path / "elsewhere"), Counting())
    assert not any(file.exists() for file in old)
    assert all(torch.equal(made[i]["features"], expected[i]) for i in range(6))
    with pytest.raises(UserError, match="were removed while they were needed"):
        pickle.loads(pickle.dumps(made))[0]


def test_two_processes_share_the_work(pictures, tmp_path):
    extract = Counting()
    one = with_features(pictures(), 0, caches(tmp_path), extract, share=(1, 2))
    assert extract.seen == 3
    assert list(caches(tmp_path)[0].lacks(one.keys)) == [True, False] * 3  # the other has not come yet: `wait` is where they meet
    rest = with_features(pictures(), 0, caches(tmp_path), extract)
    assert extract.seen == 6
    assert torch.equal(one[0]["features"], rest[0]["features"])


def test_a_worker_opens_its_own_map(pictures, tmp_path):
    made = with_features(pictures(), 0, caches(tmp_path), Counting())
    made[0]
    copy = pickle.loads(pickle.dumps(made))
    assert not copy.caches[0]._files
    assert torch.equal(copy[4]["features"], made[4]["features"])
