"""A run's report: `report/index.html` with its pictures, `metrics.json` and a CSV file for every table."""

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined

from lus_lightning.data.identity import write_table, write_whole
from lus_lightning.errors import UserError
from lus_lightning.evaluation.evaluate import evaluate
from lus_lightning.report.exams import scoring_text, write_exams
from lus_lightning.report.figures import Figure, confusions, save
from lus_lightning.report.papers import PAPERS
from lus_lightning.report.papers.base import Paper, Results, Section
from lus_lightning.report.published import Published, load
from lus_lightning.report.run import Run, load_run
from lus_lightning.report.tables import (
    LEVEL_NAMES,
    Table,
    confusions_long,
    members_table,
    metrics_long,
    records,
    summary_table,
    sums_table,
)
from lus_lightning.report.terminal import number, print_summary, printed_number, signed

RESEARCH_ONLY = "Research only; not for clinical use."


def make_report(run: Path, others: Mapping[str, Path] | None = None, replicates: int = 1000) -> Path:
    """Write `report/` of a run folder and return its `index.html`.

    Args:
        run: run folder (config.yaml, split.csv, predictions.parquet, run.json; perhaps selection.csv, truth.parquet).
        others: runs that the paper compares with, by name; for Xing `initial`, stage 2 trained on all images.
        replicates: resamples of patients.

    Raises:
        UserError: a run folder lacks a file or was not tested, the predictions cannot be scored, or the runs cannot be compared.
    """
    this = load_run(run)
    beside = {name: load_run(path) for name, path in (others or {}).items()}
    paper = PAPERS.get(this.info["recipe"])
    rules: dict[str, Any] = {"rule": paper.rule, "zone_rule": paper.zone_rule} if paper else {}
    rules["task"] = this.info.get("task", "score")
    metrics = evaluate(this.predictions, this.split, this.truth, replicates=replicates, **rules)
    if not any(metrics["members"].values()):
        raise UserError(f"no prediction of {run} has a label, so there is nothing to report: test it on labelled clips")
    other_metrics = {
        name: evaluate(r.predictions, r.split, r.truth, replicates=replicates, **rules)["members"] for name, r in beside.items()
    }
    published = load(paper.printed or this.info["recipe"]) if paper else None
    results = Results(this, beside, published, metrics["members"], other_metrics, replicates) if published else None
    headline = headline_of(this, metrics["members"], paper)
    if headline not in metrics["members"]:
        raise UserError(f"{run} was not tested: {headline} has no prediction yet; finish the training, then run `test` (or `reproduce`)")
    sections = general_sections(metrics, headline)
    if paper and results:
        sections[1:1] = paper.sections(results)
    folder = this.folder / "report"
    page = folder / "index.html"
    page.unlink(missing_ok=True)  # written last: a page never stands over another report's files
    write_tables(folder, sections, metrics, this)
    content = metrics_content(this, metrics, other_metrics, sections, published, paper)
    content["warnings"] = warnings_of(this, metrics, headline)
    examples = paper.examples(published) if paper and published and paper.examples else None
    scored = metrics["scoring"]["task"] == "score"  # signs have no exam score
    exams = write_exams(this, metrics, headline, folder, environment(), content["warnings"], examples) if scored else 0
    if paper and paper.page and results:
        paper.page(results, folder, environment(), content["warnings"])
    write_whole(folder / "metrics.json", [json.dumps(content, indent=1, allow_nan=False).encode()])
    for figure in (f for section in sections for f in section.figures):
        save(figure, folder)
    write_whole(page, [render(this, content, sections, published, headline, paper, exams).encode()])
    return page


def headline_of(run: Run, members: dict[str, Any], paper: Paper | None) -> str:
    """The member whose figures stand first: the paper's, else the run's first network, else the last that has figures."""
    named = (paper.headline or next(iter(run.networks), "")) if paper else ""
    return named or next(m for m, levels in reversed(members.items()) if levels)


def general_sections(metrics: Mapping[str, Any], headline: str) -> list[Section]:
    """What every recipe's report has: the headline member at every level, its confusion matrices, every member of the same split."""
    members, split_of = metrics["members"], metrics["split_of"]
    matrices = {LEVEL_NAMES[level]: np.array(r["confusion"]) for level, r in members[headline].items() if "confusion" in r}
    classes = [name for _, _, _, record in records({headline: members[headline]}) for name in record["classes"]]
    shown = partial(confusions, matrices, names=[name.replace("_", "-") for name in dict.fromkeys(classes)])
    picture = Figure("confusion", "Confusion matrices", f"Confusion matrices of {headline}", shown)
    sums = sums_table(members, headline)
    first = (summary_table(members, headline), *([sums] if sums else []))
    same = [member for member in members if split_of[member] == split_of[headline]]
    every = [members_table({m: members[m] for m in same})]
    if "truth" in metrics:
        every.append(members_table({m: metrics["truth"]["members"][m] for m in same}, "members_truth", "the clean scores (simulated)"))
    return [Section("Every level", (), first, (picture,) if matrices else ()), Section("Every member", (), tuple(every))]


def metrics_content(
    run: Run,
    metrics: Mapping[str, Any],
    others: Mapping[str, Any],
    sections: list[Section],
    published: Published | None,
    paper: Paper | None,
) -> dict[str, Any]:
    """What `metrics.json` holds."""
    content = dict(metrics) | {"recipe": run.info["recipe"], "research_only": RESEARCH_ONLY, "run": run.provenance}
    content |= {key: run.info.get(key) for key in ("data", "changes", "overlays", "command", "versions", "device", "seconds")}
    content |= {"others": others}
    tables = {table.name: table for section in sections for table in (*section.tables, *(f.table for f in section.figures if f.table))}
    if published and paper:
        shown = {name: _rows(t) for name, t in tables.items() if t.source}
        main = tables[paper.summary]
        content["published"] = {"citation": published.citation, "doi": published.paper["doi"], "tables": shown}
        content["published"] |= {"summary": paper.summary, "unit": main.unit, "digits": main.digits}
    if run.selection is not None:
        kept = int(run.selection["kept"].sum())
        content["selection"] = {"images": len(run.selection), "kept": kept, "patients": int(run.selection["patient"].nunique())}
        content["selection"] |= {"truth": _rows(tables["selection_truth"])} if "selection_truth" in tables else {}
    return content


def _rows(table: Table) -> list[dict[str, Any]]:
    """A table's cells as JSON: NaN becomes null."""
    return json.loads(table.cells.to_json(orient="records", double_precision=15))


def warnings_of(run: Run, metrics: Mapping[str, Any], headline: str) -> list[str]:
    """What a reader must know before the numbers."""
    found = []
    if run.simulated:
        found.append(f"{run.data_name} is simulated: its numbers say how the method behaves on simulated clips, nothing about patients.")
    if changes := changes_of(run):
        told = "; ".join(f"{change['what']}: {change['here']} instead of {change['paper']}" for change in changes)
        kind = "a quick run" if any(name.startswith("quick") for name in run.info.get("overlays", [])) else "a changed recipe"
        found.append(f"This is {kind}, not the paper's training. {told[0].upper() + told[1:]}.")
    found += run.info["data"].get("not_measured", [])
    for when, key in (("while it was trained", "changed"), ("since the training", "test_changed")):
        if changed := run.info["data"].get(key):
            found.append(f"The data have changed {when}: {'; '.join(changed)}. The division of the patients is kept.")
    for what, key in (("The training went on", "went_on"), ("It was tested", "tested_under")):
        if conditions := run.info.get(key):
            found.append(f"{what} under other conditions: {', '.join(conditions)}. Numbers may differ from those of an unbroken run.")
    if refused := run.info["data"].get("refused"):
        shown = ", ".join(f"{name} ({reason})" for name, reason in list(refused.items())[:3]) + (" ..." if len(refused) > 3 else "")
        found.append(f"{len(refused)} clips are left out, as their field of view could not be told: {shown}.")
    levels = metrics["members"][headline]
    for _, level, sign, record in records({headline: dict([next(iter(levels.items()))])}):
        given = np.flatnonzero(np.array(record["confusion"]).sum(axis=0))
        if len(given) == 1 and record["n"] > 1:
            told = "abstains every time" if given[0] == len(record["confusion"]) else f"always says {record['classes'][given[0]]}"
            found.append(f"{headline} {told} ({LEVEL_NAMES[level].lower()} level{f', {sign}' if sign else ''}): it has learned nothing.")
    return found + list(metrics["warnings"])


def changes_of(run: Run) -> list[dict[str, str]]:
    """What the run changes of its recipe: `key`, `what` in plain words, `paper` (the recipe's value) and `here`, as text."""
    paper = PAPERS.get(run.info["recipe"])

    def text(value: Any) -> str:
        return "not set" if value is None else ", ".join(map(str, value)) if isinstance(value, list) else str(value)

    def what(key: str) -> str:
        name = key.rpartition(".")[2]
        return paper.settings.get(name, name) if paper else name

    changes = run.info["changes"]
    return [{"key": c["key"], "what": what(c["key"]), "paper": text(c["paper"]), "here": text(c["here"])} for c in changes]


def write_tables(folder: Path, sections: list[Section], metrics: Mapping[str, Any], run: Run) -> None:
    """A CSV file for every table, all metrics (`metrics.csv`) and all confusion matrices (`confusions.csv`)."""
    where = {split: run.provenance_of(split) for split in dict.fromkeys(metrics["split_of"].values())}
    for section in sections:
        for table in (*section.tables, *(figure.table for figure in section.figures if figure.table)):
            write_table(folder / f"{table.name}.csv", table.long(run.provenance_of(table.split) if table.split else run.provenance))
    for name, long in (("metrics", metrics_long(metrics["members"])), ("confusions", confusions_long(metrics["members"]))):
        origin = pd.DataFrame([where[metrics["split_of"][member]] for member in long["member"]])
        write_table(folder / f"{name}.csv", long.join(origin))


def render(
    run: Run,
    content: Mapping[str, Any],
    sections: list[Section],
    published: Published | None,
    headline: str,
    paper: Paper | None,
    exams: int,
) -> str:
    """The page; `exams`: how many of them `exams.html` shows."""
    levels = {level: record for level, record in content["members"][headline].items() if "accuracy" in record}
    template = environment().get_template("report.html.j2")
    return template.render(
        title=paper.title if paper else run.info["recipe"],
        run=run,
        content=content,
        sections=sections,
        published=published,
        headline=headline,
        levels=levels,
        level_names=LEVEL_NAMES,
        parts=parts_of(run),
        changes=changes_of(run),
        files=sorted(path.name for path in (run.folder / "report").iterdir() if path.suffix in (".csv", ".json")),
        exams=exams,
        scoring=scoring_text(content["scoring"]),
        stamp=stamp,
    )


def environment() -> Environment:
    """Of the templates."""
    made = Environment(loader=PackageLoader("lus_lightning.report"), autoescape=True, trim_blocks=True, lstrip_blocks=True,
                       undefined=StrictUndefined)  # fmt: skip
    made.filters |= {"number": number, "printed": printed_number, "signed": signed}
    made.globals["research_only"] = RESEARCH_ONLY
    return made


def stamp(run: Run, table: Table) -> str:
    """What a table says of its numbers' origin."""
    measured = table.cells[table.cells["n"] > 0]
    where = run.provenance_of(table.split) if table.split else run.provenance
    words = [f"{where['data']} ({'simulated' if where['simulated'] else 'real'})"]
    words += [f"trained on {where['trained_on']}"] if "trained_on" in where else []
    words += [f"split by {where['split_unit']}", f"seed {where['seed']}"]
    words += [where["not_measured"].rstrip(".")] if "not_measured" in where else []
    if len(measured):
        words += [f"{measured['n_patients'].max()} patients", f"{measured['n'].max():,} {table.noun}"]
    return " · ".join([*words, *(["95 % interval over patients"] if table.has_interval else ["no interval"])])


def parts_of(run: Run) -> list[dict[str, Any]]:
    """Patients, clips and images of each part of the split; no image (0) where whole clips were scored."""
    samples = run.predictions.drop_duplicates(["split", "row", "frame"])
    images = (samples["frame"] >= 0).groupby(samples["split"]).sum()
    names = {"train": "oof", "val": "val", "test": "test"}
    return [
        {"part": part, "patients": rows["patient"].nunique(), "clips": len(rows), "images": images.get(names[str(part)])}
        for part, rows in run.split.groupby("split", sort=False)
    ]


def report_command(run: str, initial: str | None = None) -> None:
    """Write a run's tables, figures and page again, and print its main table.

    Args:
        run: run folder, such as runs/xing; runs that `reproduce` put into its folder `beside` are compared with it.
        initial: folder of the same recipe's run with select: false (Xing, Fig. 11, methods 3-6), if it lies elsewhere.
    """
    beside = {path.name: path for path in sorted((Path(run) / "beside").glob("*")) if (path / "predictions.parquet").is_file()}
    make_report(Path(run), beside | ({"initial": Path(initial)} if initial else {}))
    print_summary(Path(run))
