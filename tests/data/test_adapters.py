"""Known layouts, as small copies made here and as the real folders."""

import av
import numpy as np
import pandas as pd
import pytest
from clip_files import smooth_frames, write_stills, write_video

from lus_lightning.cli import main
from lus_lightning.data.adapters import ADAPTERS, choose
from lus_lightning.data.index import build_index
from lus_lightning.data.readers import read_clip
from lus_lightning.data.shown import BLACK_BELOW
from lus_lightning.errors import UserError


def _covid_blues(root):
    (root / "lus_videos").mkdir()
    for name in ("patient_1_L1", "patient_1_L1_2", "patient_15_R3", "strange name"):
        write_video(root / "lus_videos" / f"{name}.mp4", smooth_frames(3))
    (root / "severity.csv").write_text(
        "video_file,Severity Score,A-lines,B-lines,comments\n"
        'patient_1_L1,2.0,yes,yes ,"a comma, here"\npatient_1_L1_2,0.0,no ,no,\npatient_15_R3,3.0,no, YES,\npatient_22_L2,1.0,yes,no,\n'
    )
    (root / "clinical_variables.csv").write_text("patient_id,cov_test,pat_age\n15,0,50\n1,1,60\n22,1,\n")


def _pocus(root):
    (root / "pocus_videos" / "convex").mkdir(parents=True)
    (root / "pocus_videos" / "linear").mkdir()
    names = ["convex/Ill.mp4", "convex/Looked.MP4", "convex/Unlooked.mp4", "convex/Reg_healthy.mp4", "linear/Reg_ill_elsewhere.mp4",
             "linear/Ill.mp4", "convex/Twice.mp4", "convex/unlisted.mp4", "convex/nameless.mp4"]  # fmt: skip
    for name in names:
        made = write_video((root / "pocus_videos" / name).with_suffix(".mp4"), smooth_frames(3))
        made.rename(root / "pocus_videos" / name)
    (root / "dataset_metadata.csv").write_text(
        "Filename,Label,Effusion,Consolidations,B-lines,A-lines,Pleural line irregularities,Air bronchogram,Healthy\n"
        "Looked,COVID-19,0,0,0,0,1,,0\n unlooked.mp4 ,Viral pneumonia,0,0,0,0,0,0,0\nReg_healthy,Regular,0,0,0,0,0,,1\n"
        "Reg_ill_elsewhere.gif,regular,,,,,,,\nill,Bacterial pneumonia,1,0,1,0,0,,0\n"
        "Twice,regular,0,0,0,1,0,,1\ntwice,COVID-19,0,0,1,0,0,,0\n"
    )
    cases = ["case:1", "case:1", "case:2", "case:3", "case:1", "case:1", "case:4", None]
    listed = names[:7] + names[8:]
    rows = {"file": [f"pocus_videos/{n}" for n in listed], "patient_or_case_id": cases, "modality": [n.split("/")[0] for n in listed]}
    pd.DataFrame(rows).to_csv(root / "files.csv", index=False)


def _san_matteo(root):
    for place in ("1051/e1/3", "1051/e1/14", "1047/e1/3"):
        write_stills(root / place, smooth_frames(11), ".jpg")
    (root / "Annotations.txt").write_text("patient\texam\tarea\tscore\n1051\te1\t3\t2\n1047\te1\t3\t\n1047\te2\t5\t1\n")


def test_covid_blues_gives_labels_zones_and_diagnosis_and_lists_what_is_absent(tmp_path):
    _covid_blues(tmp_path)
    index = build_index(tmp_path)
    table = index.table.set_index("clip")
    assert table["patient"].to_dict() == {"patient_1_L1": "patient_1", "patient_1_L1_2": "patient_1", "patient_15_R3": "patient_15"}
    assert table["zone"].to_dict() == {"patient_1_L1": "L1", "patient_1_L1_2": "L1", "patient_15_R3": "R3"}
    assert table["score"].to_dict() == {"patient_1_L1": 2, "patient_1_L1_2": 0, "patient_15_R3": 3}
    assert table["b_lines"].to_dict() == {"patient_1_L1": 1, "patient_1_L1_2": 0, "patient_15_R3": 1}
    assert table["diagnosis"].to_dict() == {"patient_1_L1": "COVID", "patient_1_L1_2": "COVID", "patient_15_R3": "not COVID"}
    assert set(table["protocol"]) == {"6"}
    assert set(table["standard"]) == {"soldati"}
    left_out = index.left_out.set_index("path")["reason"]
    assert "not here" in left_out["lus_videos/patient_22_L2"]
    assert "whose it is is not known" in left_out["lus_videos/strange name.mp4"]
    assert len(left_out) == 2


def test_pocus_takes_cases_as_patients_and_tells_unlooked_from_absent(tmp_path):
    _pocus(tmp_path)
    index = build_index(tmp_path)
    table = index.table.set_index("path")
    table.index = table.index.str.removeprefix("pocus_videos/")
    signs = table[["a_lines", "b_lines", "effusion", "consolidation"]]
    assert signs.loc["convex/Looked.MP4"].tolist() == [0, 0, 0, 0], "irregularities of the pleura were noted: somebody looked"
    assert signs.loc["convex/Unlooked.mp4"].isna().all()
    assert signs.loc["convex/Reg_healthy.mp4"].tolist() == [0, 0, 0, 0]
    assert signs.loc["linear/Reg_ill_elsewhere.mp4"].isna().all()
    assert signs.loc["convex/Ill.mp4"].tolist() == [0, 1, 1, 0]
    assert signs.loc["convex/Twice.mp4"].isna().all(), "two rows of one name contradict each other"
    assert table.loc["linear/Reg_ill_elsewhere.mp4", "patient"] == "case:1"
    assert table.loc["linear/Reg_ill_elsewhere.mp4", "diagnosis"] != "healthy", "a diagnosis belongs to the patient"
    assert table.loc["convex/Reg_healthy.mp4", "diagnosis"] == "healthy"
    assert table.loc["convex/Unlooked.mp4", "diagnosis"] == "viral pneumonia"
    assert table["probe"].value_counts().to_dict() == {"convex": 5, "linear": 2}
    assert table["clip"].is_unique
    left_out = index.left_out.set_index("path")["reason"]
    assert "in no row" in left_out["pocus_videos/convex/unlisted.mp4"]
    assert "no patient" in left_out["pocus_videos/convex/nameless.mp4"]


def test_san_matteo_is_folders_of_stills_with_annotations(tmp_path):
    _san_matteo(tmp_path)
    index = build_index(tmp_path)
    table = index.table.set_index("path")
    assert table["score"].fillna(-1).to_dict() == {"1051/e1/3": 2, "1051/e1/14": -1, "1047/e1/3": -1}
    assert table.loc["1051/e1/14", ["patient", "exam", "zone", "protocol"]].tolist() == ["1051", "1051/e1", "14", "14"]
    assert set(table["frames"]) == {11}
    assert index.left_out["path"].tolist() == ["1047/e2/5"]


def test_san_matteos_annotations_are_read_as_the_authors_code_has_them(tmp_path):
    _san_matteo(tmp_path)
    table = build_index(tmp_path).table
    (tmp_path / "Annotations.txt").write_text("1051/e1/3;2\n1047/e2/5;1\n")
    again = build_index(tmp_path)
    pd.testing.assert_frame_equal(again.table, table)
    assert again.left_out["path"].tolist() == ["1047/e2/5"]


def test_an_area_scored_twice_is_told(tmp_path):
    _san_matteo(tmp_path)
    with (tmp_path / "Annotations.txt").open("a") as notes:
        notes.write("1051\te1\t3\t1\n")
    with pytest.raises(UserError, match=r"Annotations.txt, row 4: 1051/e1/3 has a second score; keep one"):
        build_index(tmp_path)


def test_a_table_may_have_any_name_if_it_is_the_only_one(study):
    (study / "index.csv").rename(study / "my clips.csv")
    assert len(build_index(study).table) == 8
    (study / "my clips.csv").write_text((study / "my clips.csv").read_text().replace(",", ";"))
    assert len(build_index(study).table) == 8


def test_a_simulated_study_brings_its_truth(tiny_study):
    index = build_index(tiny_study, strict=True)
    assert choose(tiny_study, None) is ADAPTERS["simulated"]
    assert index.table["truth_score"].isin([0, 1, 2, 3]).all()
    assert index.table["frame_labels"].notna().all()


@pytest.mark.parametrize(("name", "make"), [("covid-blues", _covid_blues), ("pocus", _pocus), ("san-matteo", _san_matteo)])
def test_a_layout_is_recognised_by_its_own_adapter_alone(tmp_path, name, make):
    make(tmp_path)
    assert [n for n, adapter in ADAPTERS.items() if adapter.matches(tmp_path)] == [name]


def test_the_real_covid_blues_is_read_whole(covid_blues, tmp_path, capsys):
    main(["index", str(covid_blues), "--out", str(tmp_path / "out.csv")])
    shown = capsys.readouterr().out
    assert "0: 95  1: 94  2: 65  3: 37" in shown
    assert "71 left out" in shown
    table = pd.read_csv(tmp_path / "out.csv")
    assert (len(table), table["patient"].nunique()) == (291, 51)
    severity = pd.read_csv(covid_blues / "severity.csv", index_col="video_file").loc[table["clip"]]
    np.testing.assert_array_equal(table["score"], severity["Severity Score"])
    np.testing.assert_array_equal(table["b_lines"], severity["B-lines"].str.startswith("yes"))
    np.testing.assert_array_equal(table["a_lines"], severity["A-lines"].str.startswith("yes"))
    assert all(zone in clip for zone, clip in zip(table["zone"], table["clip"], strict=True))
    black = table.set_index("clip").loc["patient_50_L1"]
    frames = read_clip(covid_blues / black["path"]).frames
    assert black["black_frames"] == "0-1"
    assert frames[:2].max() < BLACK_BELOW <= frames[2].max()


def test_the_real_pocus_is_read_whole(pocus, tmp_path):
    index = build_index(pocus)
    files = pd.read_csv(pocus / "files.csv").set_index("file")
    table = index.table.set_index("path")
    assert set(table.index) | set(index.left_out["path"]) == set(files.index)
    assert len(table) == 137
    known = files.loc[table.index]
    np.testing.assert_array_equal(table["patient"], known["patient_or_case_id"])
    for ours, theirs in (("frames", "n_frames"), ("height", "height")):
        np.testing.assert_array_equal(table[ours], known[theirs])
    wide = {}
    for path in table.index[table.index.str.endswith(".mp4")]:
        with av.open(str(pocus / path)) as container:
            wide[path] = float(container.streams.video[0].sample_aspect_ratio or 1)
    aspect = pd.Series(wide).reindex(table.index).fillna(1)  # of a pixel; `files.csv` counts pixels as they are stored
    assert (aspect != 1).sum() == 5
    np.testing.assert_array_equal(table["width"], (known["width"] * aspect).round())
    np.testing.assert_allclose(table["fps"], known["fps"], rtol=0.01)
    upstream = pd.read_csv(pocus / "dataset_metadata.csv").drop_duplicates("Filename").set_index("Filename").loc[table["clip"]]
    signs = upstream[["A-lines", "B-lines", "Effusion", "Consolidations"]]
    nobody = (upstream[[*signs, "Pleural line irregularities"]].fillna(0) == 0).all(axis=1) & (upstream["Healthy"] != 1)
    ours = table[["a_lines", "b_lines", "effusion", "consolidation"]]
    assert nobody.sum() > 20
    assert ours[nobody.to_numpy()].isna().all(axis=None)
    np.testing.assert_array_equal(ours[~nobody.to_numpy()].to_numpy(float), signs[~nobody].to_numpy(float))
