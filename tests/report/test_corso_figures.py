"""How attention is laid over a clip's frames."""

import numpy as np

from lus_lightning.report.papers.corso_figures import GAP, TILE, overlay, scaled, strip


def test_colours_follow_the_attention_and_leave_black_black():
    pictures = np.zeros((1, 40, 60), np.uint8)
    mask = np.zeros((1, 4, 6))
    mask[0, :, 5] = 0.5
    drawn = overlay(pictures, mask, 0.5)[0].astype(int).sum(axis=2)
    assert drawn[:, :40].max() <= 6 < 300 < drawn[:, -3:].min()
    assert (np.diff(drawn[20]) >= -6).all()
    assert overlay(pictures, mask, 1.0)[0].astype(int).sum() < overlay(pictures, mask, 0.5)[0].astype(int).sum()
    assert overlay(pictures, 0 * mask, 0.0).max() <= 3


def test_pictures_have_even_sides_and_a_strip_holds_two_rows():
    pictures = scaled(np.full((3, 61, 83), 90, np.uint8))
    assert pictures.shape[1:] == (TILE, 2 * round(83 * TILE / 61 / 2))
    drawn = strip(pictures, np.ones((3, 2, 2)), 1.0)
    assert drawn.shape == (2 * TILE + GAP, 3 * pictures.shape[2] + 2 * GAP, 4)
    assert (drawn[TILE : TILE + GAP, :, 3] == 0).all()
