"""Exam by exam: what a run says of each zone, as a table like Fig. 4 of Raillard et al. and as a map of the chest (`exams.html`)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from jinja2 import Environment

from lus_lightning.data.identity import write_table, write_whole
from lus_lightning.labels import SCORES, ZONES
from lus_lightning.report.chest import HEIGHT, WIDTH, Cell, cell_of, views_of
from lus_lightning.report.run import Run
from lus_lightning.scoring.levels import aggregate

WHO: Final = ["member", "split", "patient", "exam"]
COUNTS: Final = [f"{name}_{c}" for c in SCORES for name in ("true", "predicted")]
MARKS: Final = {
    "agrees": "✓ agrees",
    "differs": "≠ differs",
    "missing": "not examined",
    "not labelled": "no label",
    "abstained": "no answer",
}
RULE_TEXT: Final = {
    "mean": "the score of the highest mean probability of its images (the label: their most frequent)",
    "majority": "the score that most of its images have",
    "worst": "the most severe score that any of its images has",
    "one_percent": "the most severe score that at least 1 % of its images have",
}
"""What each rule of `levels.RULE_NAMES` gives a clip, or a zone whose clips are pooled."""
ZONE_RULE_TEXT: Final = {
    "pooled": "A zone's score is {rule}, over all its clips; ties go to the more severe.",
    "worst": "A clip's score is {rule}, ties going to the more severe; a zone's score is that of its worst clip.",
}


def scoring_text(scoring: Mapping[str, Any]) -> str:
    """The rules of `metrics.json`'s `scoring` in words."""
    return ZONE_RULE_TEXT[scoring["zone_rule"]].format(rule=RULE_TEXT[scoring["rule"]])


def quoted(predictions: pd.DataFrame, split_of: Mapping[str, str]) -> pd.DataFrame:
    """The rows of severity scores that stand in a zone, each member's in the split that is quoted."""
    rows = predictions[predictions["split"] == predictions["member"].map(split_of)]
    return rows[rows["sign"].isna() & rows["zone"].notna()]


def zone_table(rows: pd.DataFrame, rule: str, zone_rule: str) -> pd.DataFrame:
    """One row for every zone of each exam's protocol, examined or not.

    Args:
        rows: rows of a predictions table that have a zone.
        rule, zone_rule: see `levels.aggregate`.

    Returns:
        `member`, `split`, `patient`, `exam`, `zone`, `protocol`, `true_<score>` and `predicted_<score>` (images with that label or
        prediction), `n_frames`, `zone_true`, `zone_predicted` (a score or -1) and `status` (a key of `MARKS`).
    """
    index = [*WHO, "zone"]
    hits = {f"{name}_{c}": rows[column] == c for name, column in (("true", "target"), ("predicted", "pred")) for c in SCORES}
    counts = pd.DataFrame(hits)[COUNTS].astype(int).groupby([rows[key] for key in index], sort=False).sum()
    scored = aggregate(rows, "zone", rule, zone_rule).set_index(index)
    found = counts.join(scored[["protocol", "n_frames", "target", "pred"]])
    wanted = [(*who, zone) for who, exam in found.groupby(level=WHO, sort=False) for zone in _zones_of(exam)]
    table = found.reindex(pd.MultiIndex.from_tuples(wanted, names=index))
    table["protocol"] = table.groupby(level=WHO, sort=False)["protocol"].transform("first")
    table[[*COUNTS, "n_frames"]] = table[[*COUNTS, "n_frames"]].fillna(0).astype(int)
    table[["target", "pred"]] = table[["target", "pred"]].fillna(-1).astype(int)
    target, pred = table["target"], table["pred"]
    table["status"] = np.select([table["n_frames"] == 0, target < 0, pred < 0, target == pred],
                                ["missing", "not labelled", "abstained", "agrees"], "differs")  # fmt: skip
    return table.rename(columns={"target": "zone_true", "pred": "zone_predicted"}).reset_index()


def _zones_of(exam: pd.DataFrame) -> list[str]:
    """The zones of an exam's protocol in its order; without a protocol those that were examined."""
    protocol = exam["protocol"].dropna()
    return list(ZONES[protocol.iloc[0]]) if len(protocol) else sorted(exam.index.get_level_values("zone"))


def exam_table(rows: pd.DataFrame, zones: pd.DataFrame, rule: str, zone_rule: str) -> pd.DataFrame:
    """One row per exam: sums over the zones present, how many those are, and the sums scaled to the whole protocol.

    Args:
        rows: as in `zone_table`.
        zones: what `zone_table` made of them.
        rule, zone_rule: as there.

    Returns:
        `member`, `split`, `patient`, `exam`, `fold`, `protocol`, `zones_of_protocol`, `zones_present`, `zones_agree`,
        `zones_compared`, `sum_true`, `sum_predicted`, `difference` (predicted minus true), `sum_true_scaled`, `sum_predicted_scaled`.
    """
    exams = aggregate(rows, "exam", rule, zone_rule).set_index(WHO)
    groups = zones.groupby(WHO, sort=False)
    status = {name: zones["status"].eq(name).groupby([zones[key] for key in WHO], sort=False).sum() for name in ("agrees", "differs")}
    found = {
        "fold": exams["fold"],
        "protocol": groups["protocol"].first(),
        "zones_of_protocol": groups["protocol"].first().map({name: len(names) for name, names in ZONES.items()}),
        "zones_present": exams["zones_present"],
        "zones_agree": status["agrees"],
        "zones_compared": status["agrees"] + status["differs"],
        "sum_true": exams["sum_target"],
        "sum_predicted": exams["sum_pred"],
        "difference": exams["sum_pred"] - exams["sum_target"],
        "sum_true_scaled": exams["sum_target_scaled"],
        "sum_predicted_scaled": exams["sum_scaled"],
    }
    return pd.DataFrame(found).reindex(exams.index).reset_index()


def write_exams(
    run: Run,
    metrics: Mapping[str, Any],
    headline: str,
    folder: Path,
    environment: Environment,
    warnings: list[str],
    examples: pd.DataFrame | None = None,
) -> int:
    """Write `exams.html`, `exams.csv` and `exam_zones.csv`; nothing where no score stands in a zone.

    Args:
        run: the run.
        metrics: what `evaluate` gave for it.
        headline: the member whose zones the page shows; of the others it shows the sums, and the files hold all.
        folder: the report's folder.
        environment: of the templates.
        warnings: what a reader must know before the numbers.
        examples: exams that the paper prints image by image, as a predictions table.

    Returns:
        How many exams the page shows.
    """
    page, rule, zone_rule = folder / "exams.html", metrics["scoring"]["rule"], metrics["scoring"]["zone_rule"]
    rows = quoted(run.predictions, metrics["split_of"])
    if not (rows["member"] == headline).any():
        for name in ("exams.html", "exams.csv", "exam_zones.csv"):  # of an earlier report
            (folder / name).unlink(missing_ok=True)
        return 0
    zones = zone_table(rows, rule, zone_rule)
    exams = exam_table(rows, zones, rule, zone_rule)
    write_table(folder / "exams.csv", exams.assign(**run.provenance))
    write_table(folder / "exam_zones.csv", zones.assign(**run.provenance))
    shown = sections_of(exams[exams["member"] == headline], zones, "exam")
    printed = []
    if examples is not None:
        example_zones = zone_table(examples, rule, zone_rule)
        printed = sections_of(exam_table(examples, example_zones, rule, zone_rule), example_zones, "printed")
    text = environment.get_template("exams.html.j2").render(
        run=run,
        exams=shown,
        printed=printed,
        headline=headline,
        sums=exams.pivot_table(index=["patient", "exam"], columns="member", values="sum_predicted", sort=False),
        scoring=scoring_text(metrics["scoring"]),
        warnings=warnings,
        scores=SCORES,
        marks=MARKS,
        protocols=list(exams["protocol"].dropna().unique()),
        noun="images" if (rows["frame"] >= 0).any() else "clips",
        width=WIDTH,
        height=HEIGHT,
    )
    write_whole(page, [text.encode()])
    return len(shown)


def sections_of(exams: pd.DataFrame, zones: pd.DataFrame, prefix: str) -> list[dict[Any, Any]]:
    """What the page shows of each exam: its row of `exam_table`, `id`, `name`, `zones` (rows of `zone_table`) and `maps`."""
    by_exam = dict(iter(zones.groupby(WHO, sort=False)))
    found = []
    for number, exam in enumerate(exams.to_dict("records"), 1):
        of = by_exam[tuple(exam[key] for key in WHO)].to_dict("records")
        name = str(exam["patient"]) if exam["exam"] == exam["patient"] else f"{exam['patient']}, exam {exam['exam']}"
        for zone in of:
            zone["cell"] = cell_of(zone["zone"], exam["protocol"])
        maps = {title: map_of(of, column) for title, column in (("Labels", "zone_true"), ("Predicted", "zone_predicted"))}
        found.append(exam | {"id": f"{prefix}-{number}", "name": name, "zones": of, "maps": maps if of[0]["cell"] else {}})
    return found


def map_of(zones: list[dict[Any, Any]], column: str) -> dict[str, list[tuple[Cell, str, str]]]:
    """A chest map: for each view its cells with what stands in them (score, “–” not examined, “?” no score) and their style's name."""
    views: dict[str, list[tuple[Cell, str, str]]] = {name: [] for name in views_of()}
    for zone in zones:
        score, cell = zone[column], zone["cell"]
        if cell is not None:
            missing = zone["status"] == "missing"
            text = "–" if missing else "?" if score < 0 else str(score)
            style = "missing" if missing else "none" if score < 0 else f"z{score}"
            differs = zone["status"] == "differs" and column == "zone_predicted"
            views[cell.view].append((cell, text, f"{style} differs" if differs else style))
    return views
