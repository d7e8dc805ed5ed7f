"""The papers' own parts of the report, by recipe."""

from typing import Final

from lus_lightning.report.papers import corso, four_signs, munoz, raillard, xing
from lus_lightning.report.papers.base import Paper

PAPERS: Final[dict[str, Paper]] = {
    "corso": corso.PAPER,
    "corso-frames": corso.COMPARATOR,
    "four-signs": four_signs.PAPER,
    "munoz": munoz.PAPER,
    "munoz-classifier": munoz.COMPARATOR,
    "raillard": raillard.PAPER,
    "xing": xing.PAPER,
}
