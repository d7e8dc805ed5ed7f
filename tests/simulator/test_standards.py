import numpy as np
import pytest

from lus_lightning.errors import UserError
from lus_lightning.simulator.profile import facts
from lus_lightning.simulator.standards import Criteria, clip_score, scores


def _plain_look(scene):
    """What there is at second 0, counted point by point along the pleura: an own reading of the scene, sharing no code with `facts`."""
    ends, step = scene.half_view_mm, 0.02
    points = np.arange(-ends + step / 2, ends, step)
    breath = np.sin(scene.motion.phase)
    lung = points - scene.motion.slide_mm * breath
    seen = np.ones(len(points), bool)
    for centre, half, _ in scene.ribs:
        seen &= ~(abs(points - centre) < half)
    b = scene.b_lines
    there = [n for n in range(len(b.x_mm)) if np.sin(scene.motion.phase + b.phase[n]) > b.threshold[n]]

    def covered(centre, width):
        return (abs(lung - centre) < width / 2) & seen

    def visible_at(centre):
        place = centre + scene.motion.slide_mm * breath
        return abs(place) < ends and all(abs(place - rib) > half for rib, half, _ in scene.ribs)

    white = np.zeros(len(points), bool)
    for n in there:
        white |= covered(b.x_mm[n], b.width_mm[n])
    hole, solid = np.zeros(len(points), bool), np.zeros(len(points), bool)
    for centre, width in scene.pleura.breaks:
        hole |= covered(centre, width)
    for centre, width in zip(scene.consolidations.x_mm, scene.consolidations.width_mm, strict=True):
        solid |= covered(centre, width)
    singles = sorted(b.x_mm[n] for n in there if b.width_mm[n] < 5 and visible_at(b.x_mm[n]))
    n_seen = max(seen.sum(), 1)
    return {
        "white": white.sum() / n_seen,
        "hole": (hole | solid).sum() / n_seen,
        "solid": solid.sum() / n_seen,
        "singles": len(singles),
        "closest": min(np.diff(singles), default=np.inf),
        "confluent": max([covered(b.x_mm[n], b.width_mm[n]).sum() * step for n in there if b.width_mm[n] >= 5], default=0.0),
        "dents": sum(visible_at(centre) for centre, _, _ in scene.pleura.indents),
    }


def _expected(look, standard):
    some = look["singles"] > 0 or look["confluent"] > 0 or look["dents"] > 0
    near = look["closest"] <= 3 or look["confluent"] > 0
    if standard == "xing":
        return 3 if look["white"] > 0.5 else 2 if near or look["hole"] >= 0.15 else 1 if some or look["hole"] > 0 else 0
    if standard == "soldati":
        return 3 if look["white"] > 0.5 else 2 if near or look["hole"] > 0 else 1 if some else 0
    if look["white"] > 0.5 or look["solid"] > 0.5:
        return 3
    if look["hole"] > 0:
        return 2
    return 1 if look["singles"] > 2 or look["confluent"] > 0 or look["dents"] else 0


def _on_a_border(look):
    shares = abs(look["white"] - 0.5) < 0.01 or abs(look["solid"] - 0.5) < 0.01 or abs(look["hole"] - 0.15) < 0.01
    return shares or 0 < look["hole"] < 0.003 or 0 < look["confluent"] < 0.1 or abs(look["closest"] - 3) < 0.01


def test_the_standards_criteria_hold_on_10000_random_scenes(draw):
    checked, found = 0, {standard: set() for standard in ("xing", "soldati", "raillard")}
    for seed in range(10_000):
        scene, _ = draw(seed)
        look, measured = _plain_look(scene), facts(scene, np.zeros(1))
        if _on_a_border(look) or 0 < measured.broken_share[0] < 0.003 or 0 < measured.b_share[0] < 0.002:
            continue
        checked += 1
        for standard, seen in found.items():
            score = scores(measured, standard)[0]
            assert score == _expected(look, standard), (seed, standard, look)
            seen.add(int(score))
    assert checked > 9000
    assert all(seen == {0, 1, 2, 3} for seen in found.values())


def test_a_clip_scores_what_a_tenth_of_its_frames_reach():
    assert clip_score(np.array([0] * 18 + [3] * 2)) == 3
    assert clip_score(np.array([0] * 19 + [3])) == 0
    assert clip_score(np.array([1] * 17 + [2, 3, 0])) == 2
    assert clip_score(np.array([0])) == 0


def test_the_criteria_are_named_numbers(draw):
    scene, _ = draw(11, illness=0.6)
    measured = facts(scene, np.zeros(1))
    strict = scores(measured, "xing", Criteria(white_share=-1.0))
    assert strict.tolist() == [3]


def test_an_unknown_standard_is_named_in_the_error(draw):
    with pytest.raises(UserError, match="no scoring standard is called 'lus'"):
        scores(facts(draw(1)[0], np.zeros(1)), "lus")
