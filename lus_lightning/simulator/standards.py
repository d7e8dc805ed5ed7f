"""Severity scores 0-3 from what is in the scene, by a named standard: the only way from a scene to a score."""

from dataclasses import dataclass

import numpy as np

from lus_lightning.errors import UserError
from lus_lightning.labels import STANDARDS
from lus_lightning.simulator.profile import Facts


@dataclass(frozen=True)
class Criteria:
    """Numbers that the papers leave open or print once. Shares are of the visible pleura, lengths in mm.

    `white_share`: more B-lines than this is score 3 (Muñoz et al., section 2: more than 50 %). `coalescent_mm`: B-lines this near are
    coalescent (Xing et al., section 2.3: 3 mm). `severe_break_share`: a line this broken is severely broken (ours; Xing et al. give none).
    `few_b_lines`: as many are still score 0 by `raillard` (Lung Ultrasound Score: at most two).
    """

    white_share: float = 0.5
    coalescent_mm: float = 3.0
    severe_break_share: float = 0.15
    few_b_lines: int = 2


def scores(facts: Facts, standard: str, criteria: Criteria = Criteria()) -> np.ndarray:
    """Score of each moment, (T,) int64 in 0-3. UserError for an unknown standard (known: `labels.STANDARDS`)."""
    if standard not in STANDARDS:
        raise UserError(f"no scoring standard is called {standard!r}: choose from {', '.join(STANDARDS)}")
    white = facts.b_share > criteria.white_share
    coalescent = facts.confluent | (facts.spacing_mm <= criteria.coalescent_mm)
    some_b = (facts.b_lines > 0) | facts.confluent
    broken = facts.broken_share > 0
    solid = facts.consolidation_share > 0
    if standard == "xing":
        three, two = white, coalescent | (facts.broken_share >= criteria.severe_break_share)
        one = some_b | broken | (facts.indents > 0)
    elif standard == "soldati":
        three, two = white, broken | solid | coalescent
        one = some_b | (facts.indents > 0)
    else:
        three, two = white | (facts.consolidation_share > criteria.white_share), broken | solid
        one = (facts.b_lines > criteria.few_b_lines) | facts.confluent | (facts.indents > 0)
    return np.select([three, two, one], [3, 2, 1], 0).astype(np.int64)


def clip_score(frame_scores: np.ndarray, share: float = 0.1) -> int:
    """A clip's score: the highest that at least this share of its frames reach (Muñoz et al., section 2, with 1 %; ours 10 %)."""
    return max(score for score in range(4) if score == 0 or np.mean(frame_scores >= score) >= share)
