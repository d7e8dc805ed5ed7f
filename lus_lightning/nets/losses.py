"""A loss for masks of thin structures: lines one to five samples thick, in classes that overlap and that many pictures lack."""

import segmentation_models_pytorch as smp
import torch.nn.functional as F
from torch import Tensor


def thin_structure_loss(logits: Tensor, target: Tensor, miss_weight: float = 0.7, focus: float = 0.75, pixel_weight: float = 1.0) -> Tensor:
    """Focal Tversky loss of each class over the batch, plus cross-entropy of each pixel.

    To cross-entropy a line that covers a hundredth of the picture is worth a hundredth. An overlap measures a class against its own size;
    Tversky's weighs a missed pixel more than a false one, and the focus keeps easy classes from outweighing hard ones, the thin (Abraham
    and Khan 2019, "A novel focal Tversky loss function with improved attention U-Net for lesion segmentation", arXiv:1810.07842, with
    alpha 0.7 and gamma 4/3). Oktay et al. 2018 train by Dice, which is `miss_weight` 0.5 and `focus` 1. What a batch has nothing of has
    no overlap; cross-entropy alone teaches that it is not there.

    Args:
        logits: (B, C, H, W), of any floating type; computed in float32.
        target: (B, C, H, W) bool.
        miss_weight: of missed against false pixels, in (0, 1); theirs.
        focus: exponent of each class's loss, their 1 / gamma.
        pixel_weight: of the cross-entropy; ours.

    Returns:
        A scalar, at least 0.
    """
    logits, truth = logits.float(), target.float()
    tversky = smp.losses.TverskyLoss("multilabel", alpha=1 - miss_weight, beta=miss_weight)  # the library's alpha is of false pixels
    over = (0, 2, 3)
    overlap = tversky.compute_score(logits.sigmoid(), truth, eps=tversky.eps, dims=over)
    # Clamped, because a power below 1 has no gradient at 0: where all is right, and, times the 0 of a class that is not there, NaN.
    missed = (1 - overlap).clamp(min=tversky.eps) ** focus
    return missed.where(target.any(over), 0.0).mean() + pixel_weight * F.binary_cross_entropy_with_logits(logits, truth)
