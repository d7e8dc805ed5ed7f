import numpy as np
import pytest

from lus_lightning.simulator.raters import Noise, agreed, misread, rate


def _many(noise, n=4000, frames=5):
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 4, n)
    read = [rate(rng, score, np.full(frames, score), noise) for score in truth]
    return truth, np.stack([clip for clip, _ in read]), np.stack([single for _, single in read])


def test_shared_errors_come_at_the_rate_asked_for_and_raters_agree_in_them():
    truth, clips, _ = _many(Noise(shared=0.1, rater=0, frame=0))
    assert (clips[:, 0] == clips[:, 1]).all()
    assert np.mean(clips[:, 0] != truth) == pytest.approx(0.1, abs=0.015)


def test_raters_disagree_at_the_rate_asked_for():
    truth, clips, _ = _many(Noise(shared=0, rater=0.05, frame=0))
    for r in range(2):
        assert np.mean(clips[:, r] != truth) == pytest.approx(0.05, abs=0.012)
    assert np.mean(clips[:, 0] != clips[:, 1]) == pytest.approx(2 * 0.05 * 0.95, abs=0.02)


def test_a_misread_clip_is_misread_in_all_its_frames():
    truth, clips, frames = _many(Noise(shared=0.2, rater=0.1, frame=0))
    assert (frames == clips[:, :, None]).all()
    assert np.mean(clips != truth[:, None]) > 0.2


def test_frames_slip_on_their_own_at_the_rate_asked_for():
    truth, _, frames = _many(Noise(shared=0, rater=0, frame=0.04))
    assert np.mean(frames != truth[:, None, None]) == pytest.approx(0.04, abs=0.006)


def test_neighbours_are_confused_more_often_than_far_scores():
    read = misread(np.random.default_rng(1), np.zeros(20_000, np.int64), far=0.2)
    share = np.bincount(read, minlength=4) / len(read)
    assert share[0] == 0
    np.testing.assert_allclose(share[1:], np.array([1, 0.2, 0.04]) / 1.24, atol=0.012)


def test_only_what_both_raters_say_counts():
    assert agreed(np.array([[0, 1, 2], [0, 2, 2]])).tolist() == [0, -1, 2]
