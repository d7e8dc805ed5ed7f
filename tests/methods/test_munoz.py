"""Segmentation to score: in beam space or in the picture, a frame at a time or a clip, and what a run leaves."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from command_lines import EXPERIMENTS, words

from lus_lightning.callbacks.predictions import clip_table
from lus_lightning.cli import main
from lus_lightning.data.beamspace import beam_picture, boxed_geometry, clip_geometries, full_beam, geometry_from_row, to_beam
from lus_lightning.data.datamodules import FrameMaskDataModule
from lus_lightning.data.features import view_keys
from lus_lightning.data.masks import read_mask
from lus_lightning.data.readers import read_clip
from lus_lightning.errors import UserError
from lus_lightning.labels import MASK_CLASSES
from lus_lightning.methods import SegmentationToScore
from lus_lightning.scoring.pleura import measure, scale_of, score

RECIPE = EXPERIMENTS / "munoz.yaml"
SMALL = {"encoder": "tu-test_resnet", "decoder_channels": [8, 8, 8], "lr": 0.001, "weight_decay": 0.0, "weights": "none"}


def data_of(study, tmp_path, **more):
    data = FrameMaskDataModule(
        size=more.pop("size", 64), batch_size=4, study="tiny", root=str(study), num_workers=0, cache_dir=str(tmp_path), **more
    )
    model = SegmentationToScore(**SMALL)

    class Trainer:
        lightning_module, global_rank, world_size = model, 0, 1

    data.trainer = Trainer()
    data.setup("fit")
    return data, model


@pytest.fixture(scope="module")
def trained(tiny_study, tmp_path_factory):
    run = tmp_path_factory.mktemp("munoz") / "run"
    main(["fit", *words(RECIPE, None, tiny_study, run, "--data.init_args.iterations=3", "--model.init_args.threshold=0.01")])
    main(["test", "--config", str(run / "config.yaml"), "--ckpt_path", str(run / "checkpoints" / "last.ckpt")])
    return run


def test_beam_space_of_the_data_module_is_the_scan_lines_of_the_file_s_geometry(tiny_study, tmp_path):
    data, _ = data_of(tiny_study, tmp_path, beam_space=True, size=256)
    sample = data.dataset(data.part("test"), "test")[3]
    row, frame = int(sample["row"]), int(sample["frame"])
    clip = data.sources.clips.iloc[row]
    beam = to_beam(read_clip(Path(clip["path"])).frames[frame][None], geometry_from_row(clip))
    assert sample["image"].shape == (1, 256, 128)
    np.testing.assert_array_equal(sample["image"][0].numpy(), beam[0].T)
    np.testing.assert_array_equal(sample["mask"][0].numpy(), read_mask(Path(clip["mask"]), "beam_mask")[frame].T)


@pytest.mark.parametrize("size", [128, 64])
def test_smaller_pictures_in_beam_space_lose_no_thin_line_and_widen_no_b_line(size):
    mask = np.zeros((1, 128, 256), np.uint8)
    mask[0, :, 100] = 1  # one sample of a pleural line
    for x in range(3, 120, 13):
        mask[0, x : x + 6, 120:200] |= 4
    back = full_beam(beam_picture(mask, size, bits=True))
    assert back.shape == mask.shape
    assert ((back & 1) > 0).any(axis=2).all(), "a line one sample thick is still there"
    wide = [((m & 4) > 0).any(axis=2).mean() for m in (mask, back)]
    assert abs(wide[0] - wide[1]) < 0.02, "the affected share stays"


def test_a_size_that_beam_space_cannot_have_is_refused_in_a_sentence():
    with pytest.raises(UserError, match="256, 128, 64 or 32"):
        beam_picture(np.zeros((1, 128, 256), np.uint8), 96)


@pytest.mark.parametrize(("height", "width"), [(96, 136), (136, 96), (96, 96)])
def test_the_geometry_of_a_boxed_picture_puts_every_sample_where_its_pixel_went(height, width, tiny_study, tmp_path):
    data, _ = data_of(tiny_study, tmp_path)
    geometry = replace(geometry_from_row(data.sources.clips.iloc[0]), height=height, width=width)
    line, sample = np.meshgrid([0.0, 40.0, 127.0], [0.0, 100.0, 255.0])
    column, row = geometry.to_pixel(line, sample)
    scale, size = 64 / max(height, width), np.array([width, height])
    left, top = (64 - size * scale) / 2
    expected = (column + 0.5) * scale - 0.5 + left, (row + 0.5) * scale - 0.5 + top
    np.testing.assert_allclose(boxed_geometry(geometry, 64).to_pixel(line, sample), expected, atol=1e-4)


def test_true_masks_reach_the_rule_alike_in_beam_space_and_in_the_picture(tiny_study, tmp_path):
    inside, model = data_of(tiny_study, tmp_path, beam_space=True, size=256)
    outside, _ = data_of(tiny_study, tmp_path, size=96)
    apart = []
    for row in range(0, 40, 3):
        exact = inside.true_beam_mask(row, 2)[None]
        through_beam = inside.in_beam(inside.dataset(inside.samples[inside.samples["row"] == row], "test")[2]["mask"].numpy(), [row])
        np.testing.assert_array_equal(through_beam, exact)
        picture = outside.dataset(outside.samples[outside.samples["row"] == row], "test")[2]["mask"].numpy()
        share = [model.measure(m, [inside.geometries[row]]).share[0] for m in (exact, outside.in_beam(picture, [row]))]
        apart.append(share[1] - share[0])
    assert np.abs(apart).mean() < 0.08, "a picture of 96 pixels has fewer than the 128 scan lines"


def test_a_run_leaves_the_score_that_the_rule_gives_its_own_masks(trained):
    predictions = pd.read_parquet(trained / "predictions.parquet").query("split == 'test'")
    strips = {int(p.stem): np.load(p) for p in (trained / "strips").glob("*.npz")}
    assert set(strips) == set(predictions["row"])
    clips = pd.read_csv(trained / "split.csv")
    assert len(strips) == (clips["split"] == "test").sum()
    measures = pd.read_parquet(trained / "measures.parquet").set_index(["row", "frame"])
    data = predictions.set_index(["row", "frame"])
    seen = 0
    for row, kept in strips.items():
        of = measures.loc[row].loc[kept["frame"]]
        for prefix in ("", "true_"):
            assert kept[f"{prefix}visible"].sum(axis=1).tolist() == of[f"{prefix}visible_lines"].tolist()
            assert kept[f"{prefix}affected"].sum(axis=1).tolist() == of[f"{prefix}affected_lines"].tolist()
        for frame, mask in zip(kept["frame"], kept["mask"], strict=True):
            assert mask.shape == (128, 256)
            share = measures.loc[(row, frame), "share"]
            lines = ((mask & 4) > 0).sum(axis=1) > 0
            assert np.isnan(share) or 0 <= share <= 1
            assert measures.loc[(row, frame), "affected_lines"] <= lines.sum()
            assert (data.loc[(row, frame), "pred"] == -1) == np.isnan(share)
            seen += not np.isnan(share)
    assert seen, "with this threshold some frames are assessable"
    assert predictions.filter(like="p_").isna().all().all(), "a rule has no probability"


def test_true_measures_are_those_of_the_exact_masks(trained, tiny_study, tmp_path):
    data, model = data_of(tiny_study, tmp_path, beam_space=True)
    measures = pd.read_parquet(trained / "measures.parquet")
    for _, told in measures.iloc[::7].iterrows():
        clip = data.sources.clips.iloc[int(told["row"])]
        mask = read_mask(Path(clip["mask"]), "beam_mask")[int(told["frame"])][None]
        expected = measure(mask, scale_of(mask, geometry_from_row(clip)), model.rule)
        np.testing.assert_equal(told["true_share"], expected.share[0])
        assert told["true_visible_lines"] == expected.visible_lines[0]


def test_overlaps_are_counted_of_every_class_and_frame(trained):
    counts = pd.read_parquet(trained / "segmentation.parquet")
    frames = pd.read_parquet(trained / "predictions.parquet").query("split == 'test'")
    assert len(counts) == len(frames) * len(MASK_CLASSES)
    assert (counts["pixels"] == 128 * 256).all()
    assert (counts["intersection"] <= counts[["predicted", "true"]].min(axis=1)).all()
    assert counts.loc[counts["class"] == "pleural_line", "true"].sum() > 0


def test_a_streamed_frame_reads_as_in_the_clip(trained, tiny_study, tmp_path):
    model = SegmentationToScore.load_from_checkpoint(trained / "checkpoints" / "last.ckpt").eval()
    data, _ = data_of(tiny_study, tmp_path, beam_space=True)
    measures = pd.read_parquet(trained / "measures.parquet")
    predictions = pd.read_parquet(trained / "predictions.parquet").query("split == 'test'").set_index(["row", "frame"])
    for _, told in measures.iloc[::5].iterrows():
        row, frame = int(told["row"]), int(told["frame"])
        clip = data.sources.clips.iloc[row]
        reading = model.read(read_clip(Path(clip["path"])).frames[frame], data.geometries[row], size=64)
        np.testing.assert_allclose(reading.share, told["share"], atol=0.02)
        assert reading.score == predictions.loc[(row, frame), "pred"]
        assert reading.mask.shape == (128, 256)


def test_a_clip_without_probabilities_gets_the_highest_score_that_one_percent_of_its_frames_have():
    names = {"clip": "a", "patient": "p", "exam": "e", "zone": None, "protocol": None, "standard": "soldati", "split": "predict"}
    table = pd.DataFrame({"row": 0, "frame": range(4), "fold": -1, "member": "segmenter", "sign": None, "target": -1} | names)
    table["pred"] = [0, 0, 2, -1]
    clips = clip_table(table.assign(**{f"p_{c}": np.nan for c in range(4)}), rule="one_percent")
    assert clips["score_segmenter"].tolist() == [2]
    assert clips["confidence_segmenter"].isna().all()


def test_unlabelled_masks_are_refused_in_training_and_left_out_in_testing(tiny_study, tmp_path):
    data, model = data_of(tiny_study, tmp_path, beam_space=True)
    data.sources.clips["mask"] = None
    with pytest.raises(UserError, match="has no mask"):
        data.dataset(data.part("train"), "train")
    sample = data.dataset(data.part("test"), "test")[0]
    assert "mask" not in sample
    out = model.net(sample["image"][None].float() / 255)
    assert out.shape == (1, len(MASK_CLASSES), 64, 32)


def test_features_of_beam_space_are_never_taken_for_those_of_the_picture(tiny_study, tmp_path):
    beams, pictures = (data_of(tiny_study, tmp_path, beam_space=inside)[0] for inside in (True, False))
    keys = [view_keys(data.dataset(data.part("test"), "test"), 0) for data in (beams, pictures)]
    assert len(keys[0]) == len(keys[1])
    assert not set(keys[0]) & set(keys[1])


def refuse(clips, cache_dir, workers):
    """Every fifth field of view."""
    known, reasons = clip_geometries(clips, cache_dir, workers)
    return {row: g for row, g in known.items() if row % 5}, reasons | {clips["clip"][row]: "too dark" for row in known if row % 5 == 0}


def test_a_classifier_of_frames_trains_in_beam_space_too_and_its_test_tells_what_it_left_out_itself(tiny_study, tmp_path, monkeypatch):
    recipe = EXPERIMENTS / "munoz-classifier.yaml"
    with monkeypatch.context() as patched:
        patched.setattr("lus_lightning.data.base.clip_geometries", refuse)
        main(["fit", *words(recipe, None, tiny_study, tmp_path / "run", "--data.init_args.beam_space=true")])
    fitted = json.loads((tmp_path / "run/run.json").read_text())
    assert "data.init_args.beam_space" in {change["key"] for change in fitted["changes"]}
    assert set(fitted["data"]["refused"].values()) == {"too dark"}
    main(["test", "--config", str(tmp_path / "run/config.yaml"), "--ckpt_path", str(tmp_path / "run/checkpoints/last.ckpt")])
    predictions = pd.read_parquet(tmp_path / "run" / "predictions.parquet").query("split == 'test'")
    assert (predictions["row"] % 5 == 0).any()
    tested = json.loads((tmp_path / "run/run.json").read_text())
    assert tested == fitted | {"data": fitted["data"] | {"refused": {}, "test_changed": []}, "tested": False, "tested_under": []}


def test_a_clip_whose_field_of_view_is_refused_is_left_out_and_moves_no_patient(tiny_study, tmp_path, monkeypatch):
    whole, _ = data_of(tiny_study, tmp_path, beam_space=True)
    monkeypatch.setattr("lus_lightning.data.base.clip_geometries", refuse)
    data, _ = data_of(tiny_study, tmp_path, beam_space=True)
    assert set(data.refused.values()) == {"too dark"}
    assert not (data.samples["row"] % 5 == 0).any()
    assert len(data.samples) < len(whole.samples)
    pd.testing.assert_frame_equal(data.split, whole.split)


def test_a_number_that_the_rule_does_not_have_is_refused():
    with pytest.raises(UserError, match="'brake_mm'"):
        SegmentationToScore(**SMALL, rule={"brake_mm": 2.0})


def test_the_rule_of_a_checkpoint_is_that_of_its_training():
    model = SegmentationToScore(**SMALL, rule={"break_mm": 3.0, "standard": "xing"})
    assert (model.rule.break_mm, model.rule.standard, model.rule.gap_mm) == (3.0, "xing", 8.0)
    masks = np.zeros((1, 128, 256), np.uint8)
    assert score(measure(masks, None, model.rule), model.rule).tolist() == [-1]
    assert torch.is_tensor(model.hparams["lr"]) is False
