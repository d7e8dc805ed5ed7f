import numpy as np
import pytest

from lus_lightning.data.geometry import LINES, SAMPLES, scan_convert, scan_maps
from lus_lightning.simulator.render import render_clip
from lus_lightning.simulator.scanner import SCANNERS


@pytest.mark.parametrize("scanner", SCANNERS)
def test_a_beam_sample_and_its_pixel_find_each_other(draw, scanner):
    geometry = draw(1, scanners=(scanner,))[0].geometry
    sample, line = scan_maps(geometry)
    rows, columns = np.nonzero(sample > -1)
    column, row = geometry.to_pixel(line[rows, columns], sample[rows, columns])
    assert len(rows) > 0.2 * geometry.width * geometry.height
    np.testing.assert_allclose(column, columns, atol=0.02)
    np.testing.assert_allclose(row, rows, atol=0.02)


@pytest.mark.parametrize("scanner", SCANNERS)
def test_a_bright_dot_lands_within_one_pixel_of_where_geometry_puts_it(draw, scanner):
    geometry = draw(2, scanners=(scanner,))[0].geometry
    for line, sample in ((40, 60), (64, 120), (90, 180)):
        beam = np.zeros((1, LINES, SAMPLES), np.uint8)
        beam[0, line - 1 : line + 2, sample - 1 : sample + 2] = 200
        picture = scan_convert(beam, geometry)[0].astype(float)
        assert picture.any()
        column, row = geometry.to_pixel(np.float64(line), np.float64(sample))
        weight = picture / picture.sum()
        assert abs((weight * np.arange(geometry.width)).sum() - column) < 1
        assert abs((weight.T * np.arange(geometry.height)).sum() - row) < 1


@pytest.mark.parametrize("seed", range(12))
def test_picture_masks_project_back_onto_beam_masks_within_one_pixel(draw, seed):
    scene, settings = draw(seed, illness=0.6)
    rendered = render_clip(scene, settings, np.zeros(1))
    geometry, mask, beam = scene.geometry, rendered.mask[0], rendered.beam_mask[0]
    rows, columns = np.nonzero(mask)
    x = (columns - geometry.apex_px()[0]) * geometry.mm_per_px
    y = (rows - geometry.apex_px()[1]) * geometry.mm_per_px
    if geometry.probe == "linear":
        across, depth, one_px = x, y, geometry.mm_per_px
    else:
        across, depth = np.arctan(x / y), np.sqrt(x**2 + y**2) - geometry.radius_mm
        one_px = geometry.mm_per_px / (depth + geometry.radius_mm)
    s = (across / geometry.aperture + 1) / 2 * (LINES - 1)
    d = depth / geometry.depth_mm * SAMPLES - 0.5
    reach_s, reach_d = one_px / geometry.aperture / 2 * (LINES - 1) + 0.51, geometry.mm_per_px / geometry.sample_mm + 0.51
    near = np.zeros(len(rows), np.uint8)
    for a in (-reach_s, 0, reach_s):
        for b in (-reach_d, 0, reach_d):
            near |= beam[np.clip(np.round(s + a), 0, LINES - 1).astype(int), np.clip(np.round(d + b), 0, SAMPLES - 1).astype(int)]
    assert (mask[rows, columns] & ~near == 0).all()
