"""Severity scores 0-3 from what is in the scene, by a named standard: the only way from a scene to a score."""

import numpy as np

from lus_lightning.errors import UserError
from lus_lightning.labels import STANDARDS
from lus_lightning.scoring.pleura import Criteria
from lus_lightning.simulator.profile import Facts


def scores(facts: Facts, standard: str, criteria: Criteria = Criteria()) -> np.ndarray:  # noqa: B008
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
