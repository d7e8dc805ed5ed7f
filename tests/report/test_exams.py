"""The page of exams: counts, zone scores, sums, gaps and maps, on any run that has zones."""

import re

import numpy as np
import pandas as pd
import pytest
from raillard_builder import GAPS, NASTY, NETWORKS, write_raillard_run
from run_builder import tables_of, write_run

from lus_lightning.labels import ZONES
from lus_lightning.report.chest import HEIGHT, WIDTH, cell_of
from lus_lightning.report.exams import MARKS, RULE_TEXT, ZONE_RULE_TEXT, exam_table, zone_table
from lus_lightning.report.html import make_report
from lus_lightning.scoring.levels import RULE_NAMES, ZONE_RULES, aggregate


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = write_raillard_run(tmp_path_factory.mktemp("runs") / "raillard", seed=1)
    make_report(folder, replicates=30)
    return folder


@pytest.fixture(scope="module")
def page(run):
    return (run / "report" / "exams.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def rows(run):
    table = pd.read_parquet(run / "predictions.parquet")
    return table[table["member"] == NETWORKS[0]]


def lines_of(page, number):
    """An exam's table: zone -> cells; the last is the sum."""
    return {line[0].split(" | ")[0]: line[1:] for line in tables_of(page)[f"exam-{number}-zones"][2:]}


def test_the_page_counts_every_exams_images_like_pandas(page, rows):
    for number, (_, exam) in enumerate(rows.groupby("patient", sort=False), 1):
        lines = lines_of(page, number)
        for column, offset in (("target", 0), ("pred", 1)):
            counts = pd.crosstab(exam["zone"], exam[column]).reindex(columns=range(4), fill_value=0)
            for zone, of in counts.iterrows():
                assert [int(cell) for cell in lines[zone][offset:8:2]] == of.tolist()


def test_zone_scores_are_the_most_frequent_and_their_agreement_is_told_in_words(page, rows):
    told = set()
    for number, (_, exam) in enumerate(rows.groupby("patient", sort=False), 1):
        lines = lines_of(page, number)
        for zone, of in exam.groupby("zone"):
            true, predicted = (of[column].mode().max() for column in ("target", "pred"))
            assert [lines[zone][8], lines[zone][9]] == [str(true), str(predicted)]
            told.add((true == predicted, lines[zone][10]))
    assert told == {(True, "✓ agrees"), (False, "≠ differs")}


def test_sums_are_over_the_zones_present_and_scaled_beside_it(page, rows):
    summary = {line[0]: line[1:] for line in tables_of(page)["exams"][2:]}
    assert len(summary) == rows["patient"].nunique()
    for number, (patient, exam) in enumerate(rows.groupby("patient", sort=False), 1):
        scores = exam.groupby("zone")[["target", "pred"]].agg(lambda s: s.mode().max())
        true, predicted = scores.sum()
        present, agree = len(scores), (scores["target"] == scores["pred"]).sum()
        gap = predicted - true
        shown = f"+{gap}" if gap > 0 else f"{gap}".replace("-", "−")
        expected = [str(exam["fold"].iloc[0]), f"{present} of 12", f"{agree} of {present}", str(true), str(predicted), shown]
        assert summary[patient] == [*expected, f"{true * 12 / present:.1f}", f"{predicted * 12 / present:.1f}"]
        assert lines_of(page, number)["Sum over zones"][1:] == [str(true), str(predicted), shown]


def test_a_zone_that_was_not_examined_is_shown_as_such_in_table_and_map(page, run):
    lines = lines_of(page, 2)
    assert {zone for zone, cells in lines.items() if "not examined" in cells} == GAPS["P01"]
    assert all(lines[zone][8:10] == ["–", "–"] for zone in GAPS["P01"])
    section = re.search(r'<section class="exam" id="exam-2">.*?</section>', page, re.DOTALL)[0]
    hatched = re.findall(r'<title>([\w ]+): –</title><rect class="missing"', section)
    assert sorted(hatched) == sorted(2 * ["left anterior lower", "right posterior upper"])
    assert "Zones present: 10 of 12; scaled to all 12" in section
    table = pd.read_csv(run / "report" / "exam_zones.csv").query("patient == 'P01' and status == 'missing'")
    assert set(table["zone"]) == GAPS["P01"]
    assert len(table) == len(GAPS["P01"]) * len(NETWORKS)


def test_the_maps_show_the_scores_of_the_table(page, rows):
    for number in range(1, rows["patient"].nunique() + 1):
        lines = lines_of(page, number)
        section = re.search(rf'<section class="exam" id="exam-{number}">.*?</section>', page, re.DOTALL)[0]
        for kind, title in ((8, "Labels"), (9, "Predicted")):
            drawn = re.search(rf"<figcaption>{title}</figcaption>.*?</figure>", section, re.DOTALL)[0]
            cells = dict(re.findall(r"<title>([\w ]+): (.)</title>", drawn))
            assert cells == {cell_of(zone, "12").name: lines[zone][kind] for zone in ZONES["12"]}
            bordered = len(re.findall(r'class="z\d differs"', re.sub("<text.*?</text>", "", drawn)))
            assert bordered == (sum(cells[10] == "≠ differs" for zone, cells in lines.items() if zone in ZONES["12"]) if kind == 9 else 0)


def test_the_papers_two_exams_stand_below_with_their_printed_sums(page):
    tables = tables_of(page)
    for number, (true, predicted) in enumerate(((9, 9), (16, 15)), 1):
        lines = {line[0]: line[1:] for line in tables[f"printed-{number}-zones"][2:]}
        assert lines["Sum over zones"][1:3] == [str(true), str(predicted)]
    assert "Nothing here comes from this run." in page


def test_names_of_patients_are_escaped(page):
    assert "<script" not in page
    assert "P00 &lt;script&gt;alert" in page
    assert NASTY in [line[0] for line in tables_of(page)["exams"]]


def test_the_page_says_what_it_is_and_loads_nothing(page):
    assert "Research only; not for clinical use." in page
    assert "Simulated data: raillard-study" in page
    assert not re.findall(r"(?:https?:|src=|@import)", page)
    assert set(re.findall(r'href="([^#"][^"]*)"', page)) == {"index.html", "exams.csv", "exam_zones.csv"}
    anchors = set(re.findall(r'href="#([\w-]+)"', page))
    assert anchors <= set(re.findall(r'id="([\w-]+)"', page))


def test_the_files_hold_every_network(run):
    exams = pd.read_csv(run / "report" / "exams.csv")
    table = pd.read_parquet(run / "predictions.parquet")
    expected = aggregate(table, "exam", "majority", "pooled").set_index(["member", "patient"])
    found = exams.set_index(["member", "patient"])
    for ours, theirs in (("sum_true", "sum_target"), ("sum_predicted", "sum_pred"), ("zones_present", "zones_present")):
        assert dict(found[ours]) == dict(expected[theirs])
    assert (exams["data"] == "raillard-study").all()
    assert exams["simulated"].all()


def test_other_networks_sums_stand_on_the_page(page, run):
    shown = tables_of(page)["sums"]
    assert shown[0] == ["Exam", *NETWORKS]
    exams = pd.read_csv(run / "report" / "exams.csv").set_index(["patient", "member"])["sum_predicted"]
    for line in shown[1:]:
        assert [float(cell) for cell in line[1:]] == [exams[line[0], member] for member in NETWORKS]


def test_a_run_of_xing_has_its_exams_by_its_own_rule(tmp_path):
    folder = write_run(tmp_path / "xing")
    page = make_report(folder, replicates=30).with_name("exams.html").read_text()
    vote = pd.read_parquet(folder / "predictions.parquet").query("member == 'vote'")
    exams = aggregate(vote, "exam").set_index("patient")
    for line in tables_of(page)["exams"][2:]:
        assert line[4:6] == [f"{exams.loc[line[0], c]:.0f}" for c in ("sum_target", "sum_pred")]
    assert "the score of the highest mean probability" in page
    assert 'id="printed"' not in page
    assert "not examined" in lines_of(page, 1)["L3"]


def zones(**columns):
    """A predictions table of one exam, one row per entry."""
    table = pd.DataFrame({"zone": ["L1", "L2", "L3"], **columns})
    given = {"member": "net", "split": "test", "sign": None, "patient": "p", "exam": "p", "protocol": "6", "frame": 0, "fold": -1}
    return table.assign(clip=table["zone"], **{k: v for k, v in given.items() if k not in columns}, **{f"p_{c}": 0.25 for c in range(4)})


def test_what_has_no_label_or_no_answer_is_told_apart_and_enters_no_sum():
    rows = zones(target=[1, -1, 2], pred=[1, 3, -1])
    table = zone_table(rows, "majority", "pooled")
    assert dict(zip(table["zone"], table["status"], strict=True)) == {
        "L1": "agrees", "L2": "not labelled", "L3": "abstained", "R1": "missing", "R2": "missing", "R3": "missing"}  # fmt: skip
    exam = exam_table(rows, table, "majority", "pooled").iloc[0]
    assert (exam["sum_true"], exam["sum_predicted"], exam["zones_present"]) == (1, 1, 1)
    assert (exam["zones_agree"], exam["zones_compared"], exam["sum_true_scaled"]) == (1, 1, 6)


def test_an_exam_without_a_label_has_predicted_sums_alone():
    rows = zones(target=[-1, -1, -1], pred=[1, 3, 0])
    exam = exam_table(rows, zone_table(rows, "mean", "worst"), "majority", "worst").iloc[0]
    assert exam["sum_predicted"] == 4
    assert np.isnan([exam["sum_true"], exam["difference"]]).all()
    assert exam["zones_compared"] == 0


def test_two_exams_of_a_patient_stand_apart_under_their_names(tmp_path):
    folder = write_run(tmp_path / "run", select=False)
    table = pd.read_parquet(folder / "predictions.parquet")
    table.assign(exam=table["patient"] + table["zone"].str[0]).to_parquet(folder / "predictions.parquet")
    page = make_report(folder, replicates=30).with_name("exams.html").read_text()
    assert [line[0] for line in tables_of(page)["exams"][2:6]] == ["P00, exam P00L", "P00, exam P00R", "P01, exam P01L", "P01, exam P01R"]
    assert [line[1] for line in tables_of(page)["exams"][2:6]] == ["–"] * 4
    left = lines_of(page, 1)
    assert [zone for zone, cells in left.items() if "not examined" in cells] == ["L3", "R1", "R2", "R3"]


def test_zones_of_no_protocol_are_counted_without_a_map_or_a_scaled_sum(tmp_path):
    folder = write_run(tmp_path / "run")
    table = pd.read_parquet(folder / "predictions.parquet").assign(protocol=None)
    table.to_parquet(folder / "predictions.parquet")
    page = make_report(folder, replicates=30).with_name("exams.html").read_text()
    assert "figcaption" not in re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL)
    assert "seen from" not in page
    assert tables_of(page)["exams"][2][7:9] == ["–", "–"]
    assert list(lines_of(page, 1)) == [*sorted(table["zone"].unique()), "Sum over zones"]


@pytest.mark.parametrize("protocol", ZONES)
def test_every_zone_has_a_place_of_its_own_on_its_side_of_the_drawing(protocol):
    cells = {zone: cell_of(zone, protocol) for zone in ZONES[protocol]}
    for zone, a in cells.items():
        assert 0 < a.x < a.x + a.width < WIDTH
        assert 0 < a.y < a.y + a.height < HEIGHT
        right_half = a.x + a.width / 2 > WIDTH / 2
        assert right_half == (a.name.startswith("left") == (a.view == "front")), zone
        for other, b in cells.items():
            apart = a.x + a.width <= b.x or b.x + b.width <= a.x or a.y + a.height <= b.y or b.y + b.height <= a.y
            assert zone == other or a.view != b.view or apart, (zone, other)
    assert len({cell.name for cell in cells.values()}) == len(cells)


def test_the_zones_of_soldati_lie_where_they_belong():
    names = {n: cell_of(str(n), "14").name for n in (1, 3, 5, 8, 9, 12, 13)}
    assert names == {1: "right posterior lower", 3: "right posterior upper", 5: "left posterior middle", 8: "right lateral upper",
                     9: "left lateral lower", 12: "right anterior upper", 13: "left anterior lower"}  # fmt: skip
    assert cell_of("1", "14").y > cell_of("2", "14").y > cell_of("3", "14").y


def test_every_rule_and_every_state_has_words():
    assert set(RULE_TEXT) == set(RULE_NAMES)
    assert set(ZONE_RULE_TEXT) == set(ZONE_RULES)
    assert len(set(MARKS.values())) == 5


@pytest.mark.parametrize("protocol", ZONES)
def test_exams_of_every_protocol_are_sums_of_the_most_frequent_scores_ties_to_the_more_severe(protocol):
    rng = np.random.default_rng(int(protocol))
    n = 600
    rows = pd.DataFrame({"patient": rng.choice(["a", "b", "c"], n), "zone": rng.choice(ZONES[protocol][1:], n), "frame": range(n)})
    rows = rows.assign(exam=rows["patient"], clip=rows["patient"] + rows["zone"], protocol=protocol, member="net", split="oof", sign=None)
    rows = rows.assign(fold=0, target=rng.integers(0, 4, n), pred=rng.integers(0, 4, n), **{f"p_{c}": 0.25 for c in range(4)})
    zones = zone_table(rows, "majority", "pooled")
    exams = exam_table(rows, zones, "majority", "pooled").set_index("patient")
    assert len(zones) == 3 * int(protocol)
    most = rows.groupby(["patient", "zone"])[["target", "pred"]].agg(lambda s: s.mode().max()).groupby("patient").sum()
    assert dict(exams["sum_true"]) == dict(most["target"])
    assert dict(exams["sum_predicted"]) == dict(most["pred"])
    full = int(protocol) / (int(protocol) - 1)
    assert list(exams["sum_predicted_scaled"]) == pytest.approx(list(most["pred"][exams.index] * full))
    assert set(zones.loc[zones["status"] == "missing", "zone"]) == {ZONES[protocol][0]}
