"""Features kept on disk: each computed once, found again, and never another picture's."""

import pickle

import numpy as np
import pandas as pd
import pytest
import torch

from lus_lightning.data.datasets import FrameDataset
from lus_lightning.data.features import FeatureCache, view_keys, with_features
from lus_lightning.data.index import build_index
from lus_lightning.data.transforms import Augmentation


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


@pytest.mark.parametrize("kept_bytes", [0, 5, 8 * 3 + 3])
def test_a_process_killed_while_it_writes_costs_only_what_it_was_writing(kept_bytes, pictures, tmp_path):
    whole = with_features(pictures(), 0, caches(tmp_path / "whole"), Counting())
    cache = FeatureCache(tmp_path / "0", 2)
    keys = view_keys(pictures(), 0)
    cache.append(keys[:2], np.stack([whole[i]["features"][:2] for i in range(2)]))
    with (tmp_path / "0" / "features.f32").open("ab") as rows, (tmp_path / "0" / "keys").open("ab") as names:
        rows.write(b"\x01" * kept_bytes)  # rows without their keys, and half a key
        names.write(keys[2].encode()[:7])
    extract = Counting()
    again = with_features(pictures(), 0, caches(tmp_path), extract)
    assert extract.seen == 6  # the second network had none
    assert all(torch.equal(again[i]["features"], whole[i]["features"]) for i in range(6))


def test_two_processes_share_the_work(pictures, tmp_path):
    extract = Counting()
    one = with_features(pictures(), 0, caches(tmp_path), extract, share=(1, 2))
    assert extract.seen == 3
    found = caches(tmp_path)[0].rows(view_keys(pictures(), 0))
    assert list(found >= 0) == [False, True] * 3
    assert list(one.places[0] >= 0) == [False, True] * 3  # the other process has not come yet: `wait` is where they meet


def test_a_worker_opens_its_own_map(pictures, tmp_path):
    made = with_features(pictures(), 0, caches(tmp_path), Counting())
    made[0]
    copy = pickle.loads(pickle.dumps(made))
    assert copy.caches[0]._map is None
    assert torch.equal(copy[4]["features"], made[4]["features"])
