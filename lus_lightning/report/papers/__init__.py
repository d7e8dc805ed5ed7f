"""The papers' own parts of the report, by recipe."""

from typing import Final

from lus_lightning.report.papers import xing
from lus_lightning.report.papers.base import Paper

PAPERS: Final[dict[str, Paper]] = {"xing": xing.PAPER}
