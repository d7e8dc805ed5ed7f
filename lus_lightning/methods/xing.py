"""Two-stage cascade: five cross-validated networks select the images, three others are trained on them and vote.

W. Xing et al., "Automated lung ultrasound scoring for evaluation of coronavirus disease 2019 pneumonia using two-stage cascaded
deep learning model", Biomedical Signal Processing and Control 75:103561, 2022, doi 10.1016/j.bspc.2022.103561.

1. Five ResNet-50 are trained by 5-fold cross-validation; a training image is kept if the network that did not see it gives its
   label (section 2.4.1).
2. ResNet-50, VGG-19 and GoogLeNet are trained on the kept images (section 2.4.2).
3. Two or three that agree decide; if all differ, the most confident does if its confidence exceeds 80 % (section 3.2).

Differs from the paper:
- folds are of patients, not of images (`data.init_args.split.unit: frame` gives the paper's and shows what it buys);
- the five networks of stage 1 are trained in one fit, from batches of one image per fold, so that each gets four images of the
  other folds in each of the 2000 iterations; folds of patients differ in size, and the smaller ones repeat more often;
- below 80 % the paper gives no rule: we abstain, which counts as an error (`undecided: most_confident` is the other choice);
- input of 224 x 224 pixels: the paper gives no size.
"""

from collections.abc import Sequence
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from lus_lightning.data.samplers import Sampling
from lus_lightning.errors import UserError
from lus_lightning.labels import SCORES
from lus_lightning.methods.base import Batch, LungModule, Step, check_schedule, score_loss, train_members
from lus_lightning.nets.backbones import ImageClassifier
from lus_lightning.nets.folds import FoldMembers
from lus_lightning.nets.sord import Table
from lus_lightning.runs import is_dry
from lus_lightning.scoring.voting import vote


class CascadedVotingClassifier(LungModule):
    """Xing's cascade as one fit: epoch 0 is stage 1, its validation pass selects the images, epoch 1 is stage 2.

    Args:
        lr, momentum, weight_decay: of stochastic gradient descent (Table 2).
        weights: `imagenet`, `none`, or one weights file per network, of stage 1 and then of stage 2.
        folds: of the cross-validation in stage 1.
        selector: the network of stage 1, `folds` times.
        networks: the networks of stage 2.
        select: whether there is a stage 1; without it stage 2 trains on all images (Fig. 11, methods 3-6) in a fit of one epoch.
        threshold: confidence that decides where all networks differ.
        undecided: below it, `abstain` or `most_confident`.
        loss_weights: one weight per score, or none.
        schedule: of the learning rate within each stage, `constant` or `warm_cosine` (`base.SCHEDULES`); the paper names none.
        distances: of the scores, for an ordinal loss (`base.score_loss`); none is the paper's cross-entropy.

    Raises:
        UserError: the schedule or a network is unknown or named twice, or `weights` has not one entry per network.
    """

    def __init__(
        self,
        lr: float,
        momentum: float,
        weight_decay: float,
        weights: str | list[str],
        folds: int,
        selector: str = "resnet50",
        networks: Sequence[str] = ("resnet50", "vgg19", "torchvision:googlenet"),
        select: bool = True,
        threshold: float = 0.8,
        undecided: str = "abstain",
        loss_weights: list[float] | None = None,
        schedule: str = "constant",
        distances: Table | None = None,
    ) -> None:
        super().__init__(headline="vote")
        check_schedule(schedule)
        networks = list(networks)
        self.save_hyperparameters()
        names = [name.split(":")[-1].split(".")[0] for name in networks]
        if len(set(names)) < len(names):
            raise UserError(f"the networks {names} vote by name, and a name stands twice; name different networks")
        n_classes = len(SCORES)
        self.networks, self._loss = names, score_loss(loss_weights, distances)
        self.fold_networks = FoldMembers(lambda: ImageClassifier(selector, n_classes), folds) if select else None
        self.voters = nn.ModuleDict({name: ImageClassifier(network, n_classes) for name, network in zip(names, networks, strict=True)})
        self.selection: dict[str, Any] | None = None
        """Of the training images `clip` (name in its root), `frame` (N,), out-of-fold `probs` (N, 4); none until stage 1 has ended."""
        self._out_of_fold: list[tuple[Tensor, Tensor]] = []

    def load_initial_weights(self) -> None:
        """Load `weights` into each network of both stages."""
        networks = [*(self.fold_networks.members if self.fold_networks else ()), *self.voters.values()]
        kinds = (["selector"] if self.fold_networks else []) + list(self.voters)
        weights = self.hparams["weights"]
        if isinstance(weights, list) and len(weights) != len(kinds):
            raise UserError(
                f"weights has {len(weights)} entries, but the networks are {kinds}; give one word for all, or one entry for each of them"
            )
        each = list(weights) if isinstance(weights, list) else [weights] * len(kinds)
        if self.fold_networks:
            each = [each[0]] * len(self.fold_networks.members) + each[1:]
        for network, source in zip(networks, each, strict=True):
            network.load_weights(source)

    @property
    def folds(self) -> int:
        """Folds of stage 1."""
        return int(self.hparams["folds"]) if self.hparams["select"] else 1

    @property
    def selecting(self) -> bool:
        """Whether this epoch is stage 1."""
        return bool(self.hparams["select"]) and self.current_epoch == 0

    def sampling(self) -> Sampling:
        """Stage 1 trains on batches balanced over folds and predicts what it trained on, out of fold; stage 2 trains on what was kept."""
        if self.selecting:
            return Sampling(by_fold=True, out_of_fold=True)
        return Sampling(keep=self.kept_items()) if self.hparams["select"] else Sampling()

    def kept_items(self) -> Tensor:
        """Positions of the kept images in the training part, those whose label the network that did not see them gives.

        By name, as the training part may have changed since; an image that stage 1 did not predict is not kept.

        Raises:
            UserError: no image was kept.
        """
        assert self.selection is not None
        train, chosen = self.trainer.datamodule.part("train"), self.selection  # type: ignore[attr-defined]
        predicted = pd.MultiIndex.from_arrays([chosen["clip"], chosen["frame"].tolist()])
        places = torch.tensor(predicted.get_indexer(pd.MultiIndex.from_arrays([self._own_clips(train), train["frame"]])))
        said = chosen["probs"].argmax(1)[places].where(places >= 0, -1)
        no_fold = torch.tensor(train["fold"].to_numpy() < 0)  # predicted by none, as too few patients have the label
        kept = ((said == torch.tensor(train["target"].to_numpy())) | no_fold).nonzero(as_tuple=True)[0]
        if not len(kept):
            raise UserError(
                "stage 1 kept no image: none of its networks gives any label of the other folds; train it longer, or set `select: false`"
            )
        return kept

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """One optimiser for all: a network that idles in a stage has no gradient, so neither momentum nor weight decay moves it."""
        keys = ("lr", "momentum", "weight_decay")
        return torch.optim.SGD(self.parameters(), **{k: self.hparams[k] for k in keys})

    def on_fit_start(self) -> None:
        """Check that the trainer gives one epoch to each stage."""
        super().on_fit_start()
        stages = 2 if self.hparams["select"] else 1
        if self.trainer.max_epochs != stages and not is_dry(self.trainer):
            raise UserError(
                f"a stage is an epoch: with select: {self.hparams['select']} set trainer.max_epochs to {stages},"
                f" not {self.trainer.max_epochs};"
                " the length of a stage is data.init_args.iterations"
            )

    def step(self, batch: Batch) -> Step:
        """In stage 1 the members on what they may see; else the networks and their vote, in test beside stage 1's members."""
        if self.trainer.training and self.selecting:
            out = Step(batch["target"])
            train_members(out, self.fold_networks, batch["image"], batch["fold"], self._loss)  # type: ignore[arg-type]
            return out
        if self.split_of(batch) == "oof":
            probs = self.fold_networks.out_of_fold(batch["image"], batch["fold"]).float().softmax(1)  # type: ignore[union-attr]
            return Step(batch["target"], probs={"stage1": probs})
        out = self._vote(batch)
        if self.trainer.testing and self.fold_networks:
            logits = self.fold_networks(batch["image"]).float()
            out.probs |= {f"fold{i}": member.softmax(1) for i, member in enumerate(logits)}
        return out

    def _vote(self, batch: Batch) -> Step:
        logits = {name: network(batch["image"]) for name, network in self.voters.items()}
        out = Step(batch["target"], losses={name: self._loss(member, batch["target"]) for name, member in logits.items()})
        out.probs = {name: member.detach().float().softmax(1) for name, member in logits.items()}
        if not self.trainer.training:
            each = torch.stack(list(out.probs.values()))
            decided = vote(each.cpu().numpy(), self.hparams["threshold"], self.hparams["undecided"])
            # A vote has no probability of its own: the networks' mean stands for it in ROC curves.
            out.probs["vote"], out.pred["vote"] = each.mean(0), torch.as_tensor(decided, device=each.device)
        return out

    def on_validation_batch_end(self, outputs: Any, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Keep the out-of-fold predictions of stage 1."""
        if self.split_of(batch) == "oof":
            self._out_of_fold.append((batch["item"], outputs.probs["stage1"]))

    def on_validation_epoch_end(self) -> None:
        """Put the out-of-fold predictions of all processes in the order of the training part."""
        if not self._out_of_fold:
            return
        items, probs = (torch.cat(part) for part in zip(*self._out_of_fold, strict=True))
        self._out_of_fold.clear()
        if self.trainer.world_size > 1:
            items, probs = self.all_gather(items).flatten(), self.all_gather(probs).flatten(0, 1)  # type: ignore[union-attr]
        train = self.trainer.datamodule.part("oof")  # type: ignore[attr-defined]
        probs = probs.new_zeros(len(train), probs.shape[1]).index_copy(0, items, probs).cpu()
        self.selection = {"clip": self._own_clips(train), "frame": torch.tensor(train["frame"].to_numpy()), "probs": probs}

    def _own_clips(self, train: pd.DataFrame) -> list[str]:
        return list(self.trainer.datamodule.sources.clips["own_clip"].iloc[train["row"]])  # type: ignore[attr-defined]

    def on_train_epoch_end(self) -> None:
        """After stage 1 its networks are done: their gradients and momentum need no more memory, nor place in the checkpoints."""
        if self.selecting:
            optimizer = self.optimizers()
            for parameter in self.fold_networks.parameters():  # type: ignore[union-attr]
                optimizer.state.pop(parameter, None)  # type: ignore[union-attr]
                parameter.grad = None

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """The selection is part of the checkpoint."""
        checkpoint["selection"] = self.selection

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take the selection back."""
        super().on_load_checkpoint(checkpoint)
        self.selection = checkpoint["selection"]
