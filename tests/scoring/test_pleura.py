from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lus_lightning.data.geometry import Geometry
from lus_lightning.errors import UserError
from lus_lightning.labels import MASK_CLASSES, STANDARDS
from lus_lightning.scoring.pleura import Rule, Scale, clip_score, measure, scale_of, score
from lus_lightning.simulator.clips import study_scene
from lus_lightning.simulator.layers import beam_masks
from lus_lightning.simulator.profile import facts, profile
from lus_lightning.simulator.standards import scores
from lus_lightning.simulator.studies import find_study

SCALE = Scale(0.7, 0.4)
BIT = {name: np.uint8(1 << i) for i, name in enumerate(MASK_CLASSES)}


def _frame(**signs):
    """One frame of 128 scan lines: pleural line 3 samples thick from 60 on, signs on the lines given as (first, last) or lists of them."""
    frame = np.zeros((1, 128, 256), np.uint8)
    pleura = np.ones(128, bool)
    for name, spans in signs.items():
        for first, last in [spans] if isinstance(spans, tuple) else spans:
            lines = slice(first, last + 1)
            if name in ("rib_shadow", "broken", "consolidation"):
                pleura[lines] = False
            if name == "dent":
                frame[0, lines, 63:66] |= BIT["pleural_line"]
                pleura[lines] = False
            elif name != "broken":
                frame[0, lines, 60 : 90 if name == "consolidation" else 256] |= BIT[name]
    frame[0, pleura, 60:63] |= BIT["pleural_line"]
    return frame


def _scored(frame, standard="soldati", **rule):
    rule = Rule(standard=standard, **rule)
    return int(score(measure(frame, SCALE, rule), rule)[0])


@cache
def _simulated(patients):
    """Scenes of the study munoz with other patients, one random moment each: masks, geometry, profile, facts."""
    study, rng = find_study("munoz", patients=patients, seed=5), np.random.default_rng(0)
    found = []
    for number in range(patients):
        for zone in range(len(study.zones)):
            scene = study_scene(study, number, zone, 0)[0]
            moment = rng.uniform(0, 2.5, 1)
            lines = profile(scene, moment)
            found.append((beam_masks(scene, lines), scene, lines, facts(scene, moment)))
    return found


@pytest.mark.parametrize(("patients", "least"), [(42, 0.97), pytest.param(417, 0.98, marks=pytest.mark.slow)])
def test_on_true_masks_share_and_score_are_the_scenes(patients, least):
    scenes = _simulated(patients)
    same = dict.fromkeys(STANDARDS, 0)
    for masks, scene, lines, truth in scenes:
        scale = scale_of(masks, scene.geometry)
        found = measure(masks, scale)
        on_grid = [a[0][lines.visible[0]] for a in (lines.b_line, lines.broken)]
        assert found.visible_lines[0] == lines.visible.sum()
        assert found.share[0] == on_grid[0].mean()
        assert measure(masks, scale, Rule(break_mm=0)).broken_share[0] == on_grid[1].mean()
        assert scale.line_mm == pytest.approx(2 * scene.half_view_mm / 127, rel=0.15)  # the line may show at a tilted end only
        for standard in STANDARDS:
            same[standard] += int(score(found, Rule(standard=standard))[0] == scores(truth, standard)[0])
    assert same["soldati"] / len(scenes) >= least
    assert same["xing"] / len(scenes) >= least
    assert same["raillard"] / len(scenes) >= 0.955


def test_a_segmentation_rough_by_a_sample_and_with_a_line_missing_here_and_there_scores_nearly_the_same():
    rng, same = np.random.default_rng(1), []
    for masks, scene, _, truth in _simulated(42):
        rough, line = masks & ~BIT["pleural_line"], masks[0] & BIT["pleural_line"]
        for n in np.flatnonzero(rng.random(128) > 0.02):
            rough[0, n] |= np.roll(line[n], rng.choice([-1, 0, 1], p=[0.1, 0.8, 0.1]))
        same.append(score(measure(rough, scale_of(masks, scene.geometry)))[0] == scores(truth, "soldati")[0])
    assert np.mean(same) >= 0.96


def test_all_four_scores_of_each_standard_are_found():
    for standard in STANDARDS:
        assert {int(scores(truth, standard)[0]) for *_, truth in _simulated(42)} == {0, 1, 2, 3}


@pytest.mark.parametrize(
    ("signs", "soldati", "xing", "raillard"),
    [
        ({}, 0, 0, 0),
        ({"a_line": (0, 127)}, 0, 0, 0),
        ({"b_line": (40, 42)}, 1, 1, 0),
        ({"b_line": [(20, 22), (40, 42)]}, 1, 1, 0),
        ({"b_line": [(20, 22), (40, 42), (60, 62)]}, 1, 1, 1),
        ({"b_line": [(40, 41), (44, 45)]}, 2, 2, 0),  # 2.8 mm between centres
        ({"b_line": [(40, 41), (50, 51)]}, 1, 1, 0),  # 7 mm
        ({"b_line": (40, 49)}, 2, 2, 1),  # one of 7 mm: confluent
        ({"b_line": (10, 72)}, 2, 2, 1),
        ({"b_line": (10, 74)}, 3, 3, 3),  # 65 of 128
        ({"broken": (30, 33)}, 2, 1, 2),
        ({"broken": (30, 31)}, 0, 0, 0),  # 1.4 mm
        ({"broken": (30, 49)}, 2, 2, 2),  # 20 of 128
        ({"dent": (60, 64)}, 1, 1, 1),
        ({"consolidation": (30, 40)}, 2, 1, 2),
        ({"consolidation": (30, 100)}, 2, 2, 3),
        ({"effusion": (0, 127)}, 0, 0, 0),
        ({"rib_shadow": [(0, 20), (60, 80)]}, 0, 0, 0),
        ({"rib_shadow": (0, 63), "b_line": (64, 96)}, 3, 3, 3),  # 33 of the 64 visible
        ({"rib_shadow": (0, 127)}, -1, -1, -1),
        ({"broken": (0, 127)}, -1, -1, -1),
    ],
)
def test_drawn_frames_score_what_the_papers_say(signs, soldati, xing, raillard):
    assert [_scored(_frame(**signs), standard) for standard in STANDARDS] == [soldati, xing, raillard]


def test_what_is_measured_on_a_drawn_frame():
    found = measure(
        _frame(rib_shadow=(0, 27), b_line=[(40, 43), (46, 49), (100, 102)], broken=[(60, 64), (40, 42)], consolidation=(110, 119)), SCALE
    )
    assert (found.visible_lines[0], found.affected_lines[0], found.share[0]) == (100, 11, 0.11)
    assert (found.b_lines[0], found.breaks[0], found.broken_share[0]) == (3, 3, 0.18)
    assert found.stretch_mm[0] == pytest.approx(9 * 0.7)
    assert found.consolidation_share[0] == 0.1
    assert found.indent_mm[0] == 0
    assert measure(_frame(dent=(60, 64)), SCALE).indent_mm[0] == pytest.approx(3 * 0.4)


def test_a_slope_or_a_dent_as_wide_as_the_view_is_no_indent():
    frame = np.zeros((2, 128, 256), np.uint8)
    for line in range(128):
        frame[0, line, 40 + line // 2 : 43 + line // 2] = 1
        frame[1, line, 60 + (line - 64) ** 2 // 100 : 63 + (line - 64) ** 2 // 100] = 1
    assert (measure(frame, SCALE).indent_mm < 0.4).all()


def test_short_artefacts_are_no_b_lines():
    short = _frame()
    short[0, 40:43, 63:70] |= BIT["b_line"]
    assert _scored(short) == 0
    assert _scored(short, long_mm=0) == 1


def test_what_starts_deep_below_the_pleura_is_no_b_line_where_the_rule_says_so():
    for start, found in ((60, True), (97, True), (98, False), (160, False)):  # the pleura begins at 60; 15 mm are 37.5 samples
        deep = _frame()
        deep[0, 40:60, start:] |= BIT["b_line"]
        assert _scored(deep) == 2
        assert _scored(deep, start_mm=15) == 2 * found
    below = _frame(consolidation=(30, 60))
    below[0, 30:61, 90:] |= BIT["b_line"]
    assert measure(below, SCALE, Rule(start_mm=4)).affected_lines[0] == 31
    for masks, scene, *_ in _simulated(42):
        scale = scale_of(masks, scene.geometry)
        assert measure(masks, scale, Rule(start_mm=15)).share[0] == measure(masks, scale).share[0]


def test_without_rib_shadows_in_the_masks_only_narrow_gaps_between_two_parts_are_breaks():
    ribs = _frame(broken=[(0, 15), (50, 65)])  # 11 mm, as ribs' shadows are, and not marked as such
    found = measure(ribs, SCALE, Rule(gap_mm=8))
    assert (found.visible_lines[0], found.broken_share[0]) == (96, 0)
    assert _scored(ribs, gap_mm=8) == 0
    assert _scored(ribs) == 2
    assert _scored(_frame(broken=(50, 57)), gap_mm=8) == 2
    hidden = _frame(broken=[(0, 15), (50, 65)], b_line=(52, 60))
    assert measure(hidden, SCALE, Rule(gap_mm=8)).affected_lines[0] == 0


def test_a_geometry_in_pixels_gives_no_scale():
    frame, known = _frame(), Geometry("convex", 0.5, 50.0, 102.4, 224, 224, 0.5, 40.0)
    assert scale_of(frame, known) == Scale(pytest.approx(2 * 0.5 * (50 + 60.5 * 0.4) / 127), pytest.approx(0.4))
    assert scale_of(frame, replace(known, scaled=False)) is None


def test_without_rib_shadows_in_the_masks_most_scores_are_still_the_scenes():
    rule, same = Rule(gap_mm=8), []
    for masks, scene, _, truth in _simulated(42):
        unmarked = masks & ~BIT["rib_shadow"]
        same.append(score(measure(unmarked, scale_of(unmarked, scene.geometry), rule), rule)[0] == scores(truth, "soldati")[0])
    assert np.mean(same) >= 0.93


def test_without_a_scale_a_usual_field_of_view_is_assumed():
    frame = _frame(b_line=(40, 49))
    assert measure(frame).stretch_mm[0] == pytest.approx(9 * 87 / 127)
    assert measure(frame[:, ::2]).stretch_mm[0] == pytest.approx(4 * 87 / 63)


def test_frames_are_measured_each_for_itself():
    masks = np.concatenate([frame for frame, *_ in _simulated(42)[:60]])
    together = measure(masks, SCALE)
    for t in range(len(masks)):
        assert score(together, Rule())[t] == score(measure(masks[t : t + 1], SCALE), Rule())[0]
    np.testing.assert_array_equal(score(together[10:20]), score(together)[10:20])


def test_an_unknown_standard_is_named_in_the_error():
    with pytest.raises(UserError, match="no scoring standard is called 'lus'"):
        Rule(standard="lus")


@pytest.mark.parametrize(
    ("frames", "clip"),
    [([0] * 99 + [3], 3), ([0] * 100 + [3], 0), ([0, 0, 2, 1], 2), ([-1] * 500 + [0] * 99 + [1], 1), ([-1, -1], -1), ([], -1)],
)
def test_a_clip_scores_the_highest_that_one_percent_of_its_assessable_frames_have(frames, clip):
    assert clip_score(np.array(frames, np.int64)) == clip


# Classes per scan line, each all the way down: what is on a line is drawn, not how deep.
_LINES = arrays(np.uint8, (2, 40), elements=st.sampled_from([0, 1, 1, 1, 4, 5, 8, 12, 16, 32, 36, 37]))
_RULES = st.builds(Rule, standard=st.sampled_from(STANDARDS), gap_mm=st.sampled_from([4.0, 8.0, float("inf")]),
                   break_mm=st.sampled_from([0.0, 1.0]))  # fmt: skip


def _deep(lines):
    return np.repeat(lines[..., None], 16, axis=2)


@settings(max_examples=500, deadline=None)
@given(_LINES, arrays(bool, (2, 40)), _RULES)
def test_more_b_line_never_lowers_the_score(lines, more, rule):
    _never_lower(lines, more, rule)


@settings(max_examples=500, deadline=None)
@given(st.sets(st.integers(0, 39), max_size=8), st.integers(0, 39), st.integers(1, 12), st.sampled_from(STANDARDS))
def test_b_lines_that_join_never_lower_the_score(places, first, length, standard):
    lines = np.ones((1, 40), np.uint8)
    lines[0, list(places)] |= BIT["b_line"]
    more = np.zeros((1, 40), bool)
    more[0, first : first + length] = True
    _never_lower(lines, more, Rule(standard=standard))


def _never_lower(lines, more, rule):
    less = score(measure(_deep(lines), SCALE, rule), rule)
    assert (score(measure(_deep(lines | np.where(more, BIT["b_line"], 0).astype(np.uint8)), SCALE, rule), rule) >= less).all()


@settings(max_examples=200, deadline=None)
@given(_LINES, arrays(np.uint8, (2, 40), elements=st.integers(0, 31)), _RULES)
def test_lines_behind_a_rib_never_count(lines, hidden, rule):
    ribs = (lines & BIT["rib_shadow"]) > 0
    one, other = (measure(_deep(m), SCALE, rule) for m in (np.where(ribs, BIT["rib_shadow"], lines), np.where(ribs, lines | hidden, lines)))
    assert (one.visible_lines <= (~ribs).sum(axis=1)).all()
    for name in ("visible_lines", "affected_lines", "share", "b_lines", "stretch_mm", "broken_share", "indent_mm", "consolidation_share"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


@settings(max_examples=200, deadline=None)
@given(_LINES, _RULES)
def test_left_and_right_are_alike(lines, rule):
    one, other = (measure(m, SCALE, rule) for m in (_deep(lines), _deep(lines)[:, ::-1]))
    for name in vars(one):
        np.testing.assert_allclose(getattr(one, name), getattr(other, name), atol=1e-4)


def test_left_and_right_are_alike_on_simulated_frames():
    for masks, *_ in _simulated(42):
        assert score(measure(masks, SCALE)) == score(measure(masks[:, ::-1], SCALE))


@pytest.mark.parametrize("name", [None, "a_line", "b_line", "effusion", "rib_shadow"])
def test_a_mask_without_pleura_is_not_assessable(name):
    mask = np.full((1, 128, 256), BIT[name] if name else 0, np.uint8)
    found = measure(mask, SCALE)
    assert np.isnan(found.share[0])
    assert score(found).tolist() == [-1]
