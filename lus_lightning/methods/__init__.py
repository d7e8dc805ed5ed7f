"""One file per paper."""

from lus_lightning.methods.xing import CascadedVotingClassifier

__all__ = ["CascadedVotingClassifier"]
