"""Signs as labels: what is known, what is left out and why, and parts that have every sign."""

import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from lus_lightning.data.datamodules import ClipDataModule, FrameDataModule
from lus_lightning.data.frames import label_table, labelled, target_table, targets, without_label
from lus_lightning.data.splits import Split, split_patients
from lus_lightning.errors import UserError
from lus_lightning.labels import SIGNS

GIVEN = pd.DataFrame(
    [[1, 0, 0, 0], [0, 0, 0, 1], [1, 1, 0, 0], [0, 0, 0, 0], [None] * 4, [0, 1, None, 0], [0, None, 0, 0]],
    columns=list(SIGNS),
    dtype="Int64",
)


def module(root, kind=FrameDataModule, **changes):
    given = {"size": 64, "batch_size": 8, "study": "tiny", "root": str(root), "split": Split(test_share=0.25), "num_workers": 0}
    made = kind(**(given | changes))
    made.prepare_data()
    return made


def copied(root, tmp_path, change):
    """A study whose table is changed."""
    shutil.copytree(root, tmp_path / "study")
    table = change(pd.read_csv(root / "index.csv"))
    table.to_csv(tmp_path / "study" / "index.csv", index=False)
    return tmp_path / "study"


def test_the_class_is_the_only_sign_and_nobody_looked_is_never_absent():
    assert target_table(GIVEN, "sign")["target"].tolist() == [0, 3, -1, -1, -1, -1, -1]
    assert target_table(GIVEN, "signs").to_numpy().tolist() == GIVEN.fillna(-1).to_numpy().tolist()


def test_what_is_left_out_is_counted_by_its_reason():
    reasons = {"nobody looked for any sign": 1, "several signs": 1, "no sign": 1, "not all signs were looked for": 2}
    assert without_label(GIVEN, "sign") == reasons
    assert sum(reasons.values()) == (target_table(GIVEN, "sign")["target"] < 0).sum()
    assert without_label(GIVEN, "signs") == {"nobody looked for any sign": 1}
    assert without_label(GIVEN, "score") == {}


@pytest.mark.parametrize("labels", ["sign", "signs"])
def test_labels_made_back_from_targets_give_the_same_targets(labels):
    table = target_table(GIVEN, labels)
    assert targets(target_table(label_table(table, labels), labels)).tolist() == targets(table).tolist()
    assert labelled(table).sum() == (2 if labels == "sign" else 6)


@pytest.mark.parametrize(("labels", "shape"), [("sign", (8,)), ("signs", (8, 4))])
def test_a_batch_of_signs_has_uint8_pictures_and_int64_numbers_and_each_its_clips_signs(labels, shape, tiny_signs):
    data = module(tiny_signs, labels=labels)
    batch = next(iter(data.train_dataloader()))
    assert {k: v.dtype for k, v in batch.items()} == {k: torch.uint8 if k == "image" else torch.int64 for k in batch}
    assert batch["target"].shape == shape
    index = pd.read_csv(tiny_signs / "index.csv")[list(SIGNS)].to_numpy()
    for row, target in zip(batch["row"].tolist(), batch["target"], strict=True):
        told = target if labels == "signs" else torch.eye(4, dtype=torch.int64)[target]
        assert index[row].tolist() == told.tolist()
    assert not [c for table in (data.samples, data.split, data.sources.clips) for c in table if "truth" in c]


def test_the_module_says_how_many_clips_it_leaves_out_and_why(tiny_signs):
    data = module(tiny_signs, labels="sign")
    shown = pd.read_csv(tiny_signs / "index.csv")[list(SIGNS)].sum(axis=1)
    assert sum(data.unlabelled.values()) == (shown != 1).sum()
    assert data.unlabelled["several signs"] == (shown > 1).sum()
    assert {p["clip"].nunique() for p in [pd.concat([data.part("train"), data.part("test")])]} == {(shown == 1).sum()}
    assert len(data.samples) == 3 * len(shown)  # all are predicted


def test_a_frames_own_signs_outdo_its_clips(tiny_signs, tmp_path):
    def change(table):
        for path in table["frame_labels"]:
            labels = pd.read_csv(tmp_path / "study" / path)
            labels.assign(**dict.fromkeys(SIGNS, 0)).assign(effusion=[1, 0, None]).to_csv(tmp_path / "study" / path, index=False)
        return table

    root = copied(tiny_signs, tmp_path, change)
    samples = module(root, labels="signs", split=Split(test_share=0.25)).samples
    assert samples["target_effusion"].tolist() == [1, 0, -1] * (len(samples) // 3)
    assert (samples[["target_a_lines", "target_b_lines"]] == 0).all(axis=None)


def test_a_sign_of_a_frame_that_is_neither_0_nor_1_is_refused(tiny_signs, tmp_path):
    def change(table):
        labels = pd.read_csv(tmp_path / "study" / table["frame_labels"][0])
        labels.assign(b_lines=2).to_csv(tmp_path / "study" / table["frame_labels"][0], index=False)
        return table.head(1)

    with pytest.raises(UserError, match="column `b_lines` is 2; a sign is 0, 1, or empty"):
        module(copied(tiny_signs, tmp_path, change), labels="signs")


def test_clips_of_signs_have_the_same_targets_as_their_frames(tiny_signs):
    for labels in ("sign", "signs"):
        clips, frames = (module(tiny_signs, kind, labels=labels) for kind in (ClipDataModule, FrameDataModule))
        whole = dict(zip(clips.samples["row"], targets(clips.samples).tolist(), strict=True))
        assert [whole[row] for row in frames.samples["row"]] == targets(frames.samples).tolist()
        batch = next(iter(clips.train_dataloader()))
        assert batch["target"].shape == ((8,) if labels == "sign" else (8, 4))


def test_balanced_batches_hold_the_only_signs_equally_often_and_several_cannot_be_balanced(tiny_signs):
    drawn = torch.cat([batch["target"] for batch in module(tiny_signs, labels="sign", balance=True, iterations=10).train_dataloader()])
    assert drawn.bincount().tolist() == [20] * 4
    with pytest.raises(UserError, match="balance"):
        module(tiny_signs, labels="signs", balance=True).train_dataloader()


def test_a_split_by_frame_divides_signs_too(tiny_signs):
    for labels in ("sign", "signs"):
        data = module(tiny_signs, labels=labels, split=Split(test_share=0.25, unit="frame"))
        found = [targets(data.part(part)) for part in ("train", "test")]
        assert sum(map(len, found)) == labelled(data.samples).sum()
        assert all(len(np.unique(values, axis=0)) >= 4 for values in found)


def test_labels_that_nobody_knows_or_that_the_method_does_not_learn_are_refused(tiny_signs):
    with pytest.raises(UserError, match="no labels 'severity'"):
        module(tiny_signs, labels="severity")
    data = FrameDataModule(64, 8, "tiny", root=str(tiny_signs), labels="score")
    data.trainer = type("Trainer", (), {"lightning_module": type("Method", (), {"labels": "signs"})})
    with pytest.raises(UserError, match=r"the method learns 'signs', but .* says 'score'"):
        data.setup("fit")


@pytest.mark.parametrize(
    ("labels", "sentence"), [("sign", "one sign alone .*not all signs were looked for.*with/multilabel"), ("signs", "anybody looked")]
)
def test_a_folder_without_any_sign_says_so(labels, sentence, tiny_signs, tmp_path):
    unknown = list(SIGNS) if labels == "signs" else ["effusion"]
    root = copied(tiny_signs, tmp_path, lambda table: table.assign(**dict.fromkeys(unknown, None)))
    with pytest.raises(UserError, match=sentence):
        module(root, labels=labels).train_dataloader()


def sign_table(signs_by_patient):
    rows = [(f"p{i}-{j}", f"p{i}", *signs) for i, clips in enumerate(signs_by_patient) for j, signs in enumerate(clips)]
    table = pd.DataFrame(rows, columns=["clip", "patient", *SIGNS])
    return table.astype(dict.fromkeys(SIGNS, "Int64")).assign(score=3, diagnosis="x")  # a score of its own must not count


clips = st.lists(st.tuples(*[st.sampled_from([0, 1, None])] * 4), min_size=2, max_size=6)


@settings(max_examples=40, deadline=None)
@given(st.lists(clips, min_size=8, max_size=24).map(sign_table), st.integers(0, 100))
def test_every_part_has_clips_with_and_without_each_sign_that_enough_patients_have(table, seed):
    try:
        split = split_patients(table, 0.25, 0.2, 0, seed, labels="signs")
    except UserError as error:
        assert "has nobody with" in str(error) or "they alone have a class" in str(error)  # noqa: PT017
        assume(False)
    joined = table.merge(split, on=["clip", "patient"])
    assert (joined.groupby("patient")["split"].nunique() == 1).all()
    for sign in SIGNS:
        for value in table[sign].dropna().unique():
            having = joined[joined[sign] == value]
            assert set(having["split"]) == ({"train", "val", "test"} if having["patient"].nunique() >= 3 else {"train"})


def test_whoever_alone_has_a_sign_is_trained_on_where_signs_are_learned():
    table = sign_table([[(1, 0, 0, 0), (0, 1, 0, 0)]] * 7 + [[(1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0)]])

    def sides_of_p7(labels):
        splits = (split_patients(table, 0.25, 0, 0, seed, labels=labels) for seed in range(20))
        return {side for split in splits for side in split.loc[split["patient"] == "p7", "split"]}

    sides = {labels: sides_of_p7(labels) for labels in ("sign", "signs")}
    assert sides == {"sign": {"train"}, "signs": {"train"}}


def test_real_patients_are_divided_by_their_signs(pocus):
    data = module(pocus, labels="signs", split=Split(test_share=0.2, val_share=0.1))
    for part in ("train", "val", "test"):
        assert all(set(data.part(part)[f"target_{sign}"]) == {0, 1} for sign in SIGNS)
