"""The papers' own parts of the report, by recipe."""

from typing import Final

from lus_lightning.report.papers import four_signs, munoz, raillard, xing
from lus_lightning.report.papers.base import Paper

PAPERS: Final[dict[str, Paper]] = {
    "four-signs": four_signs.PAPER,
    "munoz": munoz.PAPER,
    "munoz-classifier": munoz.COMPARATOR,
    "raillard": raillard.PAPER,
    "xing": xing.PAPER,
}
