"""Tables as people save them: read as they mean it, or refused in a sentence; and what is said of it."""

import contextlib
import csv
import io
import os
import shutil
import unicodedata

import openpyxl
import pandas as pd
import pytest
from clip_files import edit_index, smooth_frames, state, write_index, write_stills, write_video
from hypothesis import given, settings
from hypothesis import strategies as st

from lus_lightning.cli import main
from lus_lightning.data.adapters import table as adapter
from lus_lightning.data.cells import read_cells
from lus_lightning.data.datamodules import FrameDataModule
from lus_lightning.data.index import build_index
from lus_lightning.data.probe import read_frame_labels
from lus_lightning.data.schema import COLUMNS, GEOMETRY, check_index
from lus_lightning.data.tables import read_frame_table, read_strings
from lus_lightning.errors import UserError

ROWS = [["clip", "path", "patient", "score", "standard"], ["a", "a.mp4", "p1", "0", "soldati"], ["b", "b.mp4", "Müller", "1", "soldati"]]
TEXT = "".join(",".join(row) + "\n" for row in ROWS)


def written(folder, content, name="index.csv"):
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder / name


def workbook(path, rows, sheets=()):
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    for name in sheets:
        book.create_sheet(name).append(["something else"])
    book.save(path)
    return path


def told(root, capsys):
    main(["index", str(root), "--out", str(root.parent / "told.csv")])
    return capsys.readouterr().out


DIALECTS = {
    "a mark of UTF-8": (TEXT.encode("utf-8-sig"), []),
    "UTF-16": (TEXT.encode("utf-16"), ["as UTF-16"]),
    "UTF-16 without its mark": (TEXT.encode("utf-16-be"), ["as UTF-16-BE"]),
    "UTF-32": (TEXT.encode("utf-32"), ["as UTF-32"]),
    "Latin-1": (TEXT.encode("latin-1"), ["as Windows-1252, not UTF-8 (is 'Müller' right?)"]),
    "semicolons": (TEXT.replace(",", ";"), ["separated by semicolons"]),
    "tabs": (TEXT.replace(",", "\t"), ["separated by tabs"]),
    "Excel's line": ("sep=;\r\n" + TEXT.replace(",", ";"), ["separated by semicolons"]),
    "a line that names the comma": ("SEP=,\n" + TEXT, []),
    "the lines of old Macs": (TEXT.replace("\n", "\r"), []),
    "blank rows": (TEXT.replace("\na", "\n\n,,,,\n  ,\na") + "\n,,,\n", ["without its 3 blank row(s)"]),
    "separators at the ends": (TEXT.replace("\n", ",,\n"), []),
    "separators at the ends of the rows": (TEXT.replace("soldati\n", "soldati,\n"), []),
    "quotes": ('"' + TEXT.replace(",", '","').replace("\n", '"\n"')[:-1], []),
}  # fmt: skip


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_table_is_read_as_it_was_meant_and_what_is_unusual_is_said(dialect, tmp_path):
    content, said = DIALECTS[dialect]
    assert read_cells(written(tmp_path, content)) == (ROWS, said)


def test_more_commas_in_the_heading_than_separators_do_not_shift_a_column(tmp_path):
    table = read_strings(written(tmp_path, "clip;path;patient;a note, or two, or three, or four\na;a.mp4;p1;x\nb;b.mp4;p2;\n"))
    assert table["patient"].tolist() == ["p1", "p2"]
    assert table.iloc[:, 3].tolist() == ["x", None]


def test_a_workbook_holds_the_same_table_whatever_the_types_of_its_cells(tmp_path):
    rows = [["clip", "path", "patient", "score", "seen", None], ["a", "a.mp4", 7, 3.0, True], [], ["b", "b.mp4", "7b", None, False]]
    table = read_strings(workbook(tmp_path / "index.xlsx", rows, ["notes"]))
    assert table.to_numpy().tolist() == [["a", "a.mp4", "7", "3", "true"], ["b", "b.mp4", "7b", None, "false"]]
    assert table.attrs["notes"] == ["index.xlsx is read as a workbook, of its sheets only 'Sheet', without its 1 blank row(s)"]


def test_merged_cells_hold_their_value_in_each_row(tmp_path):
    path = workbook(
        tmp_path / "index.xlsx", [["clip", "path", "patient"], ["a", "a.mp4", "p1"], ["b", "b.mp4", None], ["c", "c.mp4", "p2"]]
    )
    book = openpyxl.load_workbook(path)
    book.active.merge_cells("C2:C3")
    book.save(path)
    assert read_strings(path)["patient"].tolist() == ["p1", "p1", "p2"]


REFUSED = {
    "a row that is too long": (TEXT.replace("p1,", "p,1,"), "row 1: has 6 cells, but the heading 5"),
    "a heading twice": (TEXT.replace("standard", "score"), "two columns are called score"),
    "a quote without its end": (TEXT.replace("p1", '"p1'), "see whether each cell that begins with a quote ends with one"),
    "nothing": ("", "it is empty"),
    "blank rows alone": (",,\n\n", "it is empty"),
    "an old workbook": (b"\xd0\xcf\x11\xe0rest", "save it as .xlsx or CSV"),
    "a damaged workbook": (b"PK\x03\x04rest", "cannot be read as a workbook"),
    "a picture": (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "is not text"),
    "no encoding": (TEXT.encode("cp1252") + b"\x81", "save it as UTF-8"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_no_table_is_refused_by_what_it_is(kind, tmp_path):
    content, sentence = REFUSED[kind]
    path = written(tmp_path, content)
    with pytest.raises(UserError) as caught:
        read_strings(path)
    assert str(caught.value).startswith(str(path))
    assert sentence in str(caught.value)


def test_a_formula_without_its_value_is_refused(tmp_path):
    path = workbook(tmp_path / "index.xlsx", [["clip", "score"], ["a", "=1+1"]])
    with pytest.raises(UserError, match="cell B2 holds a formula without its value"):
        read_strings(path)


def test_headings_are_known_in_any_case_and_with_spaces_and_hyphens_and_others_are_named(study, capsys):
    table = pd.read_csv(study / "index.csv").assign(rater_1=1, severity_score=2, shoes=44)
    write_index(study, table.set_axis(["Clip", " PATH", "Patient", "Score ", "STANDARD", "Rater-1", "LUS score", "shoes"], axis=1))
    shown = told(study, capsys)
    assert "0: 2  1: 2  2: 2  3: 2" in shown
    assert "note: index.csv: headings are taken as ours: 'Clip' as clip, 'PATH' as path" in shown
    assert "'Rater-1' as rater_1" in shown
    assert "note: index.csv: columns not read: LUS score, shoes" in shown


def test_a_column_that_is_not_read_is_named_with_the_one_that_may_be_meant(study, capsys):
    write_index(study, pd.read_csv(study / "index.csv").rename(columns={"score": "scores"}))
    assert "columns not read: scores (is score meant?)" in told(study, capsys)


def test_two_headings_of_one_meaning_are_refused(study):
    write_index(study, pd.read_csv(study / "index.csv").assign(Score=1))
    with pytest.raises(UserError, match="'score' and 'Score' mean the same column; rename or delete one"):
        build_index(study)


def test_values_of_one_meaning_are_taken_and_said_once(study, capsys):
    words = ["yes", "No", "TRUE", "false", "1.0", "0 ", "", "Yes"]
    table = pd.read_csv(study / "index.csv", dtype=str).assign(a_lines=words, mm_per_px="0,25", zone="r1", protocol="6")
    write_index(study, table.assign(standard="Soldati", score=[" 0", "1.0", "2 ", "3.00", "0", "1", "2", "3"]))
    index = build_index(study)
    assert index.table["a_lines"].tolist() == [1, 0, 1, 0, 1, 0, pd.NA, 1]
    assert index.table["score"].tolist() == [0, 1, 2, 3, 0, 1, 2, 3]
    assert index.table["mm_per_px"].tolist() == [0.25] * 8
    assert (set(index.table["zone"]), set(index.table["standard"])) == ({"R1"}, {"soldati"})
    shown = told(study, capsys)
    assert "in column `a_lines` 'No' is taken as 0, 'TRUE' is taken as 1, 'Yes' is taken as 1, 'false' is taken as 0" in shown
    assert "in column `zone` 'r1' is taken as R1" in shown
    assert "in column `standard` 'Soldati' is taken as soldati" in shown
    assert "column `score`" not in shown


ALLOWED = {
    "NA": ("score", "NA", "a score is 0, 1, 2 or 3, or empty"),
    "a class": ("score", "B-lines", "a score is 0, 1, 2 or 3, or empty"),
    "a sign": ("effusion", "maybe", "a sign is 0, 1, or empty (nobody looked); yes and true are read as 1"),
    "a zone": ("zone", "Left anterior", "its zones are L1, L2, L3, R1, R2, R3"),
    "a protocol": ("protocol", "8", "a protocol is 6, 12, 14, or empty (zones may then have any name)"),
    "a standard": ("standard", "ours", "a standard is soldati, xing, raillard"),
}


@pytest.mark.parametrize("kind", ALLOWED)
def test_a_refused_value_is_told_with_what_is_allowed(kind, study):
    column, value, sentence = ALLOWED[kind]
    write_index(study, pd.read_csv(study / "index.csv").assign(protocol="6", zone="L1", effusion=0))
    edit_index(study, 2, column, value)
    with pytest.raises(UserError) as caught:
        build_index(study)
    assert f"row 3 (clip c2): column `{column}` is '{value}'; " in str(caught.value)
    assert sentence in str(caught.value)


def test_a_path_means_the_file_that_is_there(study, capsys):
    umlaut = unicodedata.normalize("NFD", "Müller ü.mp4")
    (study / "clips" / "c0.mp4").rename(study / "clips" / umlaut)
    table = pd.read_csv(study / "index.csv")
    table["path"] = [unicodedata.normalize("NFC", f"clips/{umlaut}"), r"clips\c1.mp4", str(study / "clips" / "c2.mp4"), "clips/c3.MP4",
                     "clips/c4", r"C:\data\study\clips\c5.mp4", "/home/elsewhere/clips/c6.mp4", "clips/c7.mp4 "]  # fmt: skip
    write_index(study, table)
    index = build_index(study, strict=True)
    assert index.table["path"].tolist() == [f"clips/{umlaut}", *(f"clips/c{i}.mp4" for i in range(1, 8))]
    shown = told(study, capsys)
    assert "in column `path` 8 are taken as files that are here: " in shown
    assert r"'clips\c1.mp4' as clips/c1.mp4" in shown
    assert "(the same letters in another Unicode form)" in shown


def test_a_path_that_could_mean_two_files_or_lies_outside_is_not_guessed(study, tmp_path, capsys):
    write_video(study / "clips" / "c1.mkv", smooth_frames(5))
    edit_index(study, 1, "path", "clips/c1")
    assert "a path could mean several files; write the one that is meant: 'clips/c1' is clips/c1.mkv or clips/c1.mp4" in told(study, capsys)
    assert build_index(study).left_out["path"].tolist() == ["clips/c1"]
    write_video(tmp_path / "c1.mp4", smooth_frames(5))
    for outside in (str(tmp_path / "c1.mp4"), "../c1.mp4", r"..\c1.mp4", r"C:\nowhere\else.mp4"):
        edit_index(study, 1, "path", outside)
        with pytest.raises(UserError, match="must be relative to the data folder"):
            build_index(study)


def test_two_rows_do_not_come_to_share_a_file(study):
    for row in (0, 1):
        edit_index(study, row, "path", rf"visit {row}\clips\c7.mp4")
    with pytest.raises(UserError, match=r"row 1 .* must be relative to the data folder"):
        build_index(study)


def test_masks_and_frame_labels_are_found_in_the_same_way(study):
    (study / "labels").mkdir()
    (study / "labels" / "A.csv").write_text("frame,score\n0,1\n")
    edit_index(study, 0, "frame_labels", r"Labels\a.CSV")
    edit_index(study, 1, "mask", r"masks\gone.xml#c1")
    with pytest.raises(UserError, match=r"column `mask` is 'masks\\\\gone.xml#c1'; must be relative"):
        build_index(study)
    edit_index(study, 1, "mask", None)
    assert build_index(study).table["frame_labels"][0] == "labels/A.csv"


def test_frame_labels_are_read_in_every_dialect_and_what_is_taken_is_said_of_its_clips(study, capsys):
    (study / "f.csv").write_bytes("sep=;\nFrame;Score;B lines;Remark\n0;1;yes;é\n\n1,0;2,0;No;\n3;;;\n".encode("utf-16"))
    (study / "g.xlsx").symlink_to(workbook(study.parent / "g.xlsx", [["frame", "score"], [0, 3], [1, None]]))
    for row, name in ((0, "f.csv"), (1, "g.xlsx")):
        edit_index(study, row, "frame_labels", name)
    labels = read_frame_labels(study / "f.csv", 4)
    assert labels["frame"].tolist() == [0, 1, 3]
    assert labels["score"].tolist()[:2] == [1, 2]
    assert labels["b_lines"].tolist()[:2] == [1, 0]
    assert labels.isna().sum().tolist() == [0, 1, 1]
    assert read_frame_table(study / "g.xlsx")["score"].tolist()[0] == 3
    shown = told(study, capsys)
    assert "note: c0: its frame labels: read as UTF-16, separated by semicolons" in shown
    assert "note: c0: its frame labels: columns not read: Remark" in shown
    assert "note: c1: its frame labels: read as a workbook" in shown
    assert told(study, capsys) == shown


@pytest.mark.parametrize(
    ("cell", "rule"), [("first", "it is the number of a frame, from 0"), ("0.5", "it is the number of a frame"), ("", "")]
)
def test_a_frame_without_a_number_is_refused(cell, rule, tmp_path):
    path = written(tmp_path, f"frame,score\n0,1\n{cell},2\n", "f.csv")
    with pytest.raises(UserError, match=f"row 2: column `frame` is .*; {rule}"):
        read_frame_labels(path, 4)


TABLES = {
    "one workbook": ({"labels.xlsx"}, "labels.xlsx"),
    "capitals": ({"INDEX.CSV", "other.csv"}, "INDEX.CSV"),
    "a CSV file beside a workbook": ({"cohort.csv", "notes.xlsx"}, "cohort.csv"),
    "an index beside others": ({"a.csv", "b.csv", "index.xlsx"}, "index.xlsx"),
    "what macOS and Office leave": ({"cohort.csv", "._cohort.csv", "~$cohort.xlsx", ".x.csv"}, "cohort.csv"),
    "two": ({"a.csv", "b.csv"}, None),
}


@pytest.mark.parametrize("kind", TABLES)
def test_the_table_of_a_folder_is_the_index_or_the_only_one(kind, tmp_path):
    names, expected = TABLES[kind]
    for name in names:
        (tmp_path / name).touch()
    found = adapter.file_of(tmp_path)
    assert (found and found.name) == expected


def test_several_tables_are_refused_by_name(study, capsys):
    for name in ("a.csv", "b.csv"):
        (study / name).write_bytes((study / "index.csv").read_bytes())
    (study / "index.csv").unlink()
    with pytest.raises(UserError, match=r"holds several tables \(a.csv, b.csv\); call the one"):
        build_index(study)


def test_a_workbook_beside_clips_is_their_table(study):
    expected = build_index(study).table
    workbook(study / "labels.xlsx", [list(pd.read_csv(study / "index.csv")), *pd.read_csv(study / "index.csv").to_numpy(object).tolist()])
    (study / "index.csv").unlink()
    pd.testing.assert_frame_equal(build_index(study).table, expected)


def test_a_table_of_other_columns_is_refused_with_those_it_has_and_the_way_without_it(study):
    write_index(study, pd.read_csv(study / "index.csv").rename(columns={"patient": "Patient No"}))
    with pytest.raises(UserError, match=r"lacks the column\(s\) patient; add them \(it has clip, path, Patient No, .* the adapter clips"):
        build_index(study)
    assert build_index(study, "clips").table["score"].isna().all()


def test_what_is_not_read_is_said_with_its_number(study, capsys):
    write_video(study / "clips" / "more.mp4", smooth_frames(3))
    write_stills(study / "stills", smooth_frames(3))
    edit_index(study, 0, "path", "stills")
    for name in ("a.docx", "b.docx", "LICENSE", "old.xls", "._x.mp4", ".DS_Store"):
        (study / name).write_bytes(b"text")
    (study / "IM0001").write_bytes(bytes(128) + b"DICM")
    (study / "im.DCM").write_bytes(b"text")
    before = state(study)
    shown = told(study, capsys)
    assert "note: 2 picture or video file(s) are in no row of the table, and not read: clips/c0.mp4, clips/more.mp4" in shown
    assert "note: table(s) not read: old.xls" in shown
    assert "note: files of another kind are not read: 2 .docx, 1 without suffix" in shown
    assert "left out, 2: is DICOM, which is not read yet; convert it to MP4 or PNG first\n    IM0001, im.DCM" in shown
    assert state(study) == before


def test_without_a_table_it_is_said_that_clips_can_be_predicted_only_and_which_tables_are_not_read(study, capsys):
    (study / "index.csv").unlink()
    for name in ("one.xlsx", "two.xlsx"):
        workbook(study / name, [["name"], ["x"]])
    (study / "._cohort.csv").write_bytes(b"\0")
    index = build_index(study, "clips")
    assert any("can be predicted, not trained on" in note for note in index.notes)
    assert "table(s) not read: one.xlsx, two.xlsx" in index.notes


def test_a_folder_of_dicom_alone_is_told_so(tmp_path):
    (tmp_path / "IM0001").write_bytes(bytes(128) + b"DICM")
    with pytest.raises(UserError, match=r"1 DICOM file\(s\), such as IM0001, .* convert it to MP4 or PNG first"):
        build_index(tmp_path)


def test_an_ordinary_table_is_read_without_a_word(study):
    assert build_index(study).notes == ()


NAMES = st.text(st.characters(codec="cp1252", exclude_categories=("Cc", "Zs", "Zl", "Zp")), min_size=1, max_size=6)
LABELLED = {
    "score": ["0", "1", "2", "3", ""],
    "a_lines": ["0", "1", ""],
    "b_lines": ["0", "1", ""],
    "rater_1": ["0", "3", ""],
    "site": None,
}


@st.composite
def tables(draw):
    """A table of the sample index as text: headings and rows."""
    clips = draw(st.lists(NAMES, min_size=1, max_size=4, unique_by=lambda n: unicodedata.normalize("NFC", n)))
    columns = {"clip": clips, "path": [f"c{i}.mp4" for i in range(len(clips))], "patient": [draw(NAMES) for _ in clips]}
    columns["standard"] = ["xing"] * len(clips)
    for name in draw(st.lists(st.sampled_from(list(LABELLED)), unique=True)):
        values = LABELLED[name]
        columns[name] = [draw(st.sampled_from(values) if values else NAMES) for _ in clips]
    return pd.DataFrame({name: columns[name] for name in draw(st.permutations(list(columns)))})


def spelled(draw, name):
    name = "".join(c.upper() if draw(st.booleans()) else c for c in name)
    return name.replace("_", draw(st.sampled_from(["_", " ", "-", "  "]))) + draw(st.sampled_from(["", " "]))


@st.composite
def dialects(draw):
    """A table, and the same as bytes of a file that somebody has saved."""
    plain = draw(tables())
    shown = plain.copy()
    for i in range(draw(st.integers(0, 2))):
        shown.insert(
            draw(st.integers(0, shown.shape[1])),
            f"remark {i}",
            [draw(st.sampled_from(["", "x", "a, b; c", 'say "no"'])) for _ in plain.index],
        )
    rows = [[spelled(draw, name) for name in shown], *shown.to_numpy(object).tolist()]
    for _ in range(draw(st.integers(0, 2))):
        rows.insert(draw(st.integers(1, len(rows))), [""] * draw(st.integers(0, shown.shape[1])))
    if draw(st.integers(0, 7)) == 0:
        book = openpyxl.Workbook()
        for row in rows:
            book.active.append([cell or None for cell in row])
        for row in book.active.iter_rows():
            for cell in row:
                cell.data_type = "s" if cell.value is not None else cell.data_type  # a name may begin with =
        book.save(file := io.BytesIO())
        return plain, "index.xlsx", file.getvalue()
    separator = draw(st.sampled_from(",;\t"))
    end = separator * draw(st.integers(0, 2))
    file = io.StringIO()
    quoting = draw(st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]))
    csv.writer(file, delimiter=separator, lineterminator=end + draw(st.sampled_from(["\n", "\r\n", "\r"])), quoting=quoting).writerows(rows)
    text = (f"sep={separator}\n" if draw(st.booleans()) else "") + file.getvalue()
    return plain, "index.csv", text.encode(draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "cp1252"])))


@settings(max_examples=500, deadline=None)
@given(dialects())
def test_a_table_is_the_same_in_every_dialect(tmp_path_factory, dialect):
    plain, name, content = dialect
    folder = tmp_path_factory.getbasetemp() / f"dialects-{os.getpid()}"
    folder.mkdir(exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    (folder / name).write_bytes(content)
    found = adapter.read(folder)[0]
    assert list(found) == list(plain)
    assert found.to_numpy().tolist() == [[cell or None for cell in row] for row in plain.to_numpy().tolist()]


CELLS = st.one_of(
    st.none(), st.text(max_size=5), st.sampled_from(["0", "1.0", " 2", "1e400", "nan", "-1", "0,5", "1,2,3", "yes", "xing", "6", "L1"])
)
COLUMN = st.sampled_from([*COLUMNS, *GEOMETRY, "rater_1", "truth_score"])


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_cells_make_an_index_or_a_sentence(data):
    columns = {"clip", "path", "patient"} | set(data.draw(st.lists(COLUMN, max_size=5)))
    rows = data.draw(st.integers(1, 3))
    cells = {c: data.draw(st.lists(CELLS, min_size=rows, max_size=rows)) for c in sorted(columns)}
    cells["clip"] = [f"c{i}" for i in range(rows)] if data.draw(st.booleans()) else cells["clip"]
    with contextlib.suppress(UserError):
        assert len(check_index(pd.DataFrame(cells, dtype=object))) == rows


def test_clips_of_one_score_teach_nothing_and_the_door_says_so(study, tmp_path, capsys):
    write_index(study, pd.read_csv(study / "index.csv").assign(score=0, a_lines=1, b_lines=0, effusion=0, consolidation=0))
    for labels in ("score", "sign", "signs"):
        data = FrameDataModule(64, 4, "tiny", root=str(study), labels=labels, cache_dir=str(tmp_path))
        shown = "score 0" if labels == "score" else "a_lines 1, b_lines 0, effusion 0, consolidation 0"
        with pytest.raises(UserError, match=f"every labelled clip of .*study has {shown}, and from one .* only nothing can be learnt"):
            data.setup("fit")


def test_clips_of_one_score_can_be_tested_on(study, tmp_path):
    other = shutil.copytree(study, tmp_path / "other")
    for i in range(8):
        write_video(other / "clips" / f"c{i}.mp4", 255 - smooth_frames(4 + i))
    write_index(other, pd.read_csv(study / "index.csv").assign(score=0))
    data = FrameDataModule(64, 4, "tiny", root=str(study), test_root=str(other), cache_dir=str(tmp_path / "cache"))
    data.setup("fit")
    assert set(data.part("test")["target"]) == {0}
