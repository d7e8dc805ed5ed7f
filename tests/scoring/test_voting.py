from collections import Counter
from itertools import product

import numpy as np
import pytest

from lus_lightning.errors import UserError
from lus_lightning.scoring.voting import vote

EIGHTY = np.float32(0.8)
# By rank: well below, one step of float32 below, exactly, one step above, well above 80 %.
CONFIDENCES = [0.5, np.nextafter(EIGHTY, np.float32(0)), EIGHTY, np.nextafter(EIGHTY, np.float32(1)), 0.9]
FIRST_ABOVE = 3


def probabilities(label: int, confidence: float) -> list[float]:
    return [confidence if c == label else (1 - confidence) / 3 for c in range(4)]


def reference(labels: tuple[int, ...], ranks: tuple[int, ...], undecided: str) -> int:
    """Xing section 3.2 in words, on ranks of confidence, so that no float is compared."""
    for label in set(labels):
        if labels.count(label) >= 2:
            return label
    top = max(ranks)
    if undecided == "abstain" and top < FIRST_ABOVE:
        return -1
    return max(label for label, rank in zip(labels, ranks, strict=True) if rank == top)


@pytest.mark.parametrize("undecided", ["abstain", "most_confident"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_three_networks_vote_like_the_reference_in_all_8000_cases(undecided, dtype):
    cases = list(product(product(range(4), repeat=3), product(range(5), repeat=3)))
    probs = np.array([[probabilities(la, CONFIDENCES[r]) for la, r in zip(*case, strict=True)] for case in cases], dtype=dtype)
    expected = [reference(*case, undecided) for case in cases]
    assert (-1 in expected) == (undecided == "abstain")
    np.testing.assert_array_equal(vote(probs.transpose(1, 0, 2), undecided=undecided), expected)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("eighty", [0.8, np.float64(0.8), np.float32(0.8)], ids=["Python", "float64", "float32"])
def test_exactly_80_percent_does_not_exceed_80_percent(dtype, eighty):
    probs = np.array([probabilities(0, 0.8), probabilities(1, 0.5), probabilities(2, 0.5)], dtype=dtype)[:, None]
    assert vote(probs, eighty).tolist() == [-1]
    assert vote(probs, threshold=0.79).tolist() == [0]


def test_of_five_networks_the_single_most_frequent_label_wins_and_a_tie_goes_to_confidence():
    for labels in product(range(4), repeat=5):
        (first, most), *others = Counter(labels).most_common()
        tied = most < 2 or any(count == most for _, count in others)
        confidences = [0.9, 0.6, 0.6, 0.6, 0.6]
        probs = np.array([probabilities(la, c) for la, c in zip(labels, confidences, strict=True)])[:, None]
        assert vote(probs)[0] == (labels[0] if tied else first), labels


def test_one_network_alone_is_no_majority():
    assert vote(np.array([[probabilities(2, 0.7), probabilities(2, 0.9)]])).tolist() == [-1, 2]


def test_the_order_of_the_networks_changes_nothing():
    probs = np.random.default_rng(0).dirichlet(np.ones(4) * 0.3, size=(3, 500)).astype(np.float32)
    for order in ([0, 2, 1], [2, 1, 0]):
        np.testing.assert_array_equal(vote(probs), vote(probs[order]))


def test_probabilities_that_are_not_finite_are_refused():
    with pytest.raises(UserError, match="NaN or infinite"):
        vote(np.full((3, 1, 4), np.nan))


def test_an_unknown_rule_for_undecided_votes_is_refused_with_the_known_ones():
    with pytest.raises(UserError, match="abstain, most_confident"):
        vote(np.ones((3, 1, 4)), undecided="guess")
