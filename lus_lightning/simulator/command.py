"""`python -m lus_lightning simulate`: writes a simulated study, or a contact sheet of one."""

from pathlib import Path

from rich.console import Console

from lus_lightning.errors import UserError
from lus_lightning.simulator.dataset import write_study
from lus_lightning.simulator.preview import write_preview
from lus_lightning.simulator.studies import find_study


def simulate_command(
    out: str,
    patients: int | None = None,
    seed: int = 0,
    study: str = "xing",
    preview: bool = False,
    loops: int | None = None,
    frames: int | None = None,
    size: int | None = None,
    workers: int | None = None,
) -> None:
    """Simulate a study with exact truth into a folder: clips, masks, labels of two raters, sample index.

    Args:
        out: new or empty folder; an interrupted simulation goes on where it stopped.
        patients: how many (the study's own number if none; Xing: 31 = 26 + 5).
        seed: another seed, other patients; the same seed, the same bytes, on any number of processes.
        study: which default study: xing, raillard, munoz, corso, four-signs, tiny.
        preview: write only a contact sheet OUT.png, scores x zones x scanners, and no study.
        loops: clips per zone.
        frames: frames per clip.
        size: pixels a side.
        workers: processes; one for each core if none.
    """
    asked = {"patients": patients, "loops": loops, "frames": frames, "size": size}
    chosen = find_study(study, seed=seed, **{name: value for name, value in asked.items() if value is not None})
    if workers is not None and workers < 1:
        raise UserError(f"--workers {workers} is too few: ask for one or more")
    console = Console()
    if preview:
        sheet = Path(out).with_suffix(".png")
        write_preview(chosen, sheet)
        console.print(f"contact sheet of simulated clips: {sheet}")
        return
    write_study(chosen, Path(out), workers)
    console.print(f"simulated study {chosen.name} (version {chosen.version}): {out}")
