"""One file per paper."""

from lus_lightning.methods.corso import SpatiotemporalClassifier
from lus_lightning.methods.four_signs import FourSignClassifier
from lus_lightning.methods.munoz import SegmentationToScore, SeverityClassifier
from lus_lightning.methods.raillard import FrozenFeatureClassifier
from lus_lightning.methods.xing import CascadedVotingClassifier

__all__ = [
    "CascadedVotingClassifier",
    "FourSignClassifier",
    "FrozenFeatureClassifier",
    "SegmentationToScore",
    "SeverityClassifier",
    "SpatiotemporalClassifier",
]
