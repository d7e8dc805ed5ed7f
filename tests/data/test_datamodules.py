from collections import Counter

import numpy as np
import pandas as pd
import pytest
import torch

from lus_lightning.data.datamodules import ClipDataModule, FrameDataModule, FrameMaskDataModule
from lus_lightning.data.frames import FrameChoice
from lus_lightning.data.readers import read_clip
from lus_lightning.data.splits import Split
from lus_lightning.data.transforms import Augmentation
from lus_lightning.errors import UserError


def module(kind, root, **changes):
    given = {"size": 96, "batch_size": 8, "study": "tiny", "root": str(root), "split": Split(test_share=0.25), "num_workers": 0}
    made = kind(**(given | changes))
    made.prepare_data()
    return made


def test_a_frame_sample_is_the_decoded_frame_with_its_own_label(tiny_study):
    data = module(FrameDataModule, tiny_study)
    part = data.part("train")
    index = pd.read_csv(tiny_study / "index.csv")
    for item in (0, len(part) // 2, len(part) - 1):
        sample, row = data.dataset(part, "train")[item], part.iloc[item]
        clip = index.iloc[row["row"]]
        frame = read_clip(tiny_study / clip["path"]).frames[row["frame"]]
        assert torch.equal(sample["image"][0], torch.tensor(frame))
        assert sample["target"] == pd.read_csv(tiny_study / clip["frame_labels"]).set_index("frame")["score"][row["frame"]]


def test_frames_may_all_have_the_label_of_their_clip(tiny_study):
    index = pd.read_csv(tiny_study / "index.csv")
    data = module(FrameDataModule, tiny_study, choice=FrameChoice(clip_labels=True))
    known = data.samples[data.samples["target"] >= 0]
    assert (known["target"].to_numpy() == index["score"].to_numpy()[known["row"]]).all()
    assert (known["target"] != module(FrameDataModule, tiny_study).samples.loc[known.index, "target"]).any()


def test_a_batch_has_uint8_pictures_and_int64_numbers_and_nothing_else(tiny_study):
    for kind in (FrameDataModule, FrameMaskDataModule, ClipDataModule):
        data = module(kind, tiny_study, batch_size=2)
        batch = next(iter(data.train_dataloader()))
        assert {k: v.dtype for k, v in batch.items()} == {
            k: torch.uint8 if k in ("image", "mask", "frames") else torch.int64 for k in batch
        }


def test_nothing_that_a_data_module_holds_names_the_clean_truth(tiny_study):
    data = module(FrameDataModule, tiny_study)
    assert "truth_score" in pd.read_csv(tiny_study / "index.csv")
    for table in (data.samples, data.split, data.sources.clips):
        assert not [c for c in table if "truth" in c]
    assert not [k for k in next(iter(data.train_dataloader())) if "truth" in k]


def test_the_truth_that_evaluation_reads_is_the_simulators(tiny_study):
    truth = module(FrameDataModule, tiny_study).sources.truth()
    index = pd.read_csv(tiny_study / "index.csv").set_index("clip")
    whole = truth[truth["frame"] == -1].set_index("clip")["truth_score"]
    assert whole.to_dict() == index["truth_score"].to_dict()


def test_with_raters_agree_a_frame_on_which_they_differ_is_in_no_part_but_is_predicted(tiny_study):
    whole, agreed = (module(FrameDataModule, tiny_study, raters_agree=agree) for agree in (False, True))
    for row, frame in agreed.samples.loc[agreed.samples["target"] < 0, ["row", "frame"]].itertuples(index=False):
        labels = pd.read_csv(tiny_study / pd.read_csv(tiny_study / "index.csv")["frame_labels"][row]).set_index("frame")
        assert labels["rater_1"][frame] != labels["rater_2"][frame]
    assert len(agreed.samples) == len(whole.samples)
    assert (agreed.samples["target"] < 0).any()


def test_a_mask_moves_with_its_frame(tiny_study):
    still, moved = (module(FrameMaskDataModule, tiny_study, augmentation=a) for a in (Augmentation(), Augmentation(flip=1.0)))
    for item in (0, 7):
        plain = still.dataset(still.part("train"), "train")[(item, 1)]
        flipped = moved.dataset(moved.part("train"), "train")[(item, 1)]
        assert plain["mask"].any()
        assert torch.equal(flipped["mask"], plain["mask"].flip(-1))
        assert torch.equal(flipped["image"], plain["image"].flip(-1))


def test_a_rotation_leaves_only_mask_values_that_were_there(tiny_study):
    data = module(FrameMaskDataModule, tiny_study, augmentation=Augmentation(rotate_degrees=20, scale=0.2, shift=0.1))
    dataset = data.dataset(data.part("train"), "train")
    turned, plain = dataset[(3, 5)]["mask"], dataset[3]["mask"]
    assert not torch.equal(turned, plain)
    assert set(turned.unique().tolist()) <= set(plain.unique().tolist()) | {0}


def test_the_same_draw_gives_the_same_augmentation_whatever_was_drawn_before(tiny_study):
    policy = Augmentation(rotate_degrees=10, shift=0.1, scale=0.1, flip=0.5, brightness=0.2, contrast=0.2)
    data = module(FrameDataModule, tiny_study, augmentation=policy)
    one, other = (data.dataset(data.part("train"), "train") for _ in range(2))
    [one[(i, 9)] for i in range(5)]
    assert torch.equal(one[(2, 11)]["image"], other[(2, 11)]["image"])
    assert not torch.equal(one[(2, 11)]["image"], one[(2, 12)]["image"])
    assert torch.equal(other[2]["image"], data.dataset(data.part("train"), "test")[2]["image"])


def test_all_frames_of_a_clip_get_the_same_augmentation(tiny_study):
    data = module(ClipDataModule, tiny_study, augmentation=Augmentation(rotate_degrees=30, brightness=0.3))
    dataset = data.dataset(data.part("train"), "train")
    dataset.picks[0] = [0, 0, 0, 0]
    frames = dataset[(0, 3)]["frames"]
    assert all(torch.equal(frames[0], frame) for frame in frames[1:])


def test_a_batch_of_clips_is_padded_with_zeros_behind_each_length(tiny_study):
    data = module(ClipDataModule, tiny_study, batch_size=3)
    dataset = data.dataset(data.part("train"), "train")
    dataset.picks[:3] = [[0, 1], [0, 1, 2, 3], [0]]
    batch = type(data).collate([dataset[i] for i in range(3)])
    assert batch["frames"].shape == (3, 4, 1, 96, 96)
    assert batch["length"].tolist() == [2, 4, 1]
    assert not batch["frames"][0, 2:].any()
    assert torch.equal(batch["frames"][0, :2], dataset[0]["frames"])


def test_training_without_masks_is_refused_and_testing_goes_without(tiny_study, small_study, tmp_path):
    table = pd.read_csv(small_study / "index.csv").drop(columns=["mask", "frame_labels"])
    for column in ("path",):
        table[column] = [f"study/{p}" for p in table[column]]
    (tmp_path / "study").symlink_to(small_study)
    table.to_csv(tmp_path / "index.csv", index=False)
    with pytest.raises(UserError, match="has no mask"):
        module(FrameMaskDataModule, tmp_path).train_dataloader()
    data = module(FrameMaskDataModule, tiny_study, test_root=str(tmp_path))
    assert "mask" not in next(iter(data.test_dataloader()))
    assert "mask" in next(iter(data.train_dataloader()))


def test_a_test_root_is_the_whole_test_part_and_no_patient_of_it_is_trained_on(tiny_study, small_study):
    data = module(FrameDataModule, tiny_study, test_root=str(small_study))
    patients = {part: set(data.part(part)["patient"]) for part in ("train", "test")}
    assert not patients["train"] & patients["test"]
    assert len(patients["train"]) == pd.read_csv(tiny_study / "index.csv")["patient"].nunique()
    clips = data.sources.clips
    assert (clips["source"].iloc[data.part("test")["row"]] == 1).all()


def test_balanced_batches_hold_the_scores_equally_often(tiny_study):
    data = module(FrameDataModule, tiny_study, balance=True, iterations=20)
    drawn = Counter(int(t) for batch in data.train_dataloader() for t in batch["target"])
    assert set(drawn.values()) == {40}


def test_a_split_by_frame_puts_frames_of_a_patient_on_both_sides_and_says_its_unit(tiny_study):
    data = module(FrameDataModule, tiny_study, split=Split(test_share=0.25, unit="frame"))
    assert set(data.part("train")["patient"]) & set(data.part("test")["patient"])
    assert set(data.split["unit"]) == {"frame"}
    keys = [set(data.part(p)[["row", "frame"]].itertuples(index=False, name=None)) for p in ("train", "test")]
    assert not keys[0] & keys[1]


@pytest.mark.parametrize(("choice", "frames"), [
    (FrameChoice(), list(range(2, 30))),
    (FrameChoice(min_gap=10), [2, 12, 22]),
    (FrameChoice(max_frames=3), [2, 16, 29]),
    (FrameChoice(max_frames=50, min_gap=10), [2, 12, 22]),
])  # fmt: skip
def test_frames_are_chosen_behind_the_black_ones_at_least_the_gap_apart_and_spread_evenly(choice, frames):
    picked = choice.pick(np.arange(2, 30))
    assert np.abs(picked - np.array(frames)).max() <= 1
    assert len(picked) == len(frames)
    assert np.diff(picked).min() >= choice.min_gap
