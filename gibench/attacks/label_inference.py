"""Label inference alone (Zhao 2020, Yin 2021, Wainakh 2022, Ma 2023): the class-mean images of the inferred labels."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, Literal

import torch
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from gibench.attacks import Attack
from gibench.draws import Draws
from gibench.engine.labels import RULES, head, invalid, labels_of
from gibench.engine.search import as_gradient
from gibench.types import Guess, Images, View


@dataclass(frozen=True)
class LabelInference(Attack):
    """Its label accuracy is the rule's score; its images are what labels alone give away. Given labels are not read.

    "auto" is the choice of every attack that has to infer labels: idlg for one image, ilrg for several.
    """

    citation: ClassVar[str] = (
        "Zhao, Mopuri, Bilen: iDLG, 2020, arXiv 2001.02610; Yin et al.: GradInversion, CVPR 2021, arXiv 2104.07586; "
        "Wainakh et al.: User-level label leakage from gradients in federated learning, PETS 2022, arXiv 2105.09369; "
        "Ma, Sun, Cui, Li, Guo, Xu: Instance-wise batch label restoration via gradients in federated learning, "
        "ICLR 2023"
    )
    needs: ClassVar[frozenset[str]] = frozenset({"batch_size", "aux_data"})
    rule: Literal["auto", "idlg", "yin", "sign", "impact", "ilrg"] = "auto"

    def unfit(self, net: nn.Module, batch: int, kind: str) -> str:
        last = net.get_submodule(head(net))
        assert isinstance(last, nn.Linear)
        return invalid(self.rule, net, batch, last.out_features)

    def reconstruct(self, view: View, draws: Draws) -> Guess:
        view = as_gradient(view)
        assert view.aux is not None
        if self.rule == "auto":
            labels = labels_of(replace(view, labels=None), view.update)
        else:
            labels = RULES[self.rule](view.model, view.update, view.shape[0], view.classes)
        x = class_means(view.aux, view.classes)[labels]
        return Guess(x, labels, torch.zeros(len(x)).to(x), 0)


def class_means(aux: Images, classes: int) -> Tensor:
    """(classes, c, h, w); the mean of all images for a class without any."""
    own = [aux.x[aux.y == c] for c in range(classes)]
    return torch.stack([(x if len(x) else aux.x).mean(0) for x in own])
