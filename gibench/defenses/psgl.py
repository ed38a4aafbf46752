"""PSGL (Khowaja et al. 2022): images altered along a map of what a classifier relies on, for split learning."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, ClassVar, Literal, Self

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from gibench.defenses import Defense
from gibench.draws import Draws
from gibench.learned.fit import minimise, seeded
from gibench.learned.surrogate import surrogate, with_weights
from gibench.systems.psgl import altered, attack_map
from gibench.types import Batch, Images, Match, View


@dataclass(frozen=True)
class PSGL(Defense):
    """x^ = clip(x + map) stands for x in training and in use; the map's greatest entry in every image is `strength`.

    The map is that of a public classifier, learned on auxiliary images, for the class which that classifier sees: what
    a label would shape could not be made in use, and would tell the label.
    Paper: x^ is sent as 2x2 space-to-depth beside the map at half size. That hides nothing, so that nets take x^ as it
    is. Recovery (singular value thresholding, streams, fusion) is the server's, protects nothing against it, and is
    left to `gibench.systems.psgl`; `psgl_streams` measures what it is worth.
    """

    citation: ClassVar[str] = (
        "Khowaja, Lee, Dev, Jarwar, Qureshi: Get your foes fooled: proximal gradient split learning for defense "
        "against model inversion attacks on IoMT data, IEEE TNSE 2023, arXiv 2201.04569"
    )
    place = "data"
    knob = "strength"
    sweep = (0.0, 0.01, 0.03, 0.1, 0.3)
    neutral = "psgl(strength=0)"
    match_needs: ClassVar[frozenset[str]] = frozenset({"defense_params"})
    strength: Annotated[float, Field(ge=0, le=1)] = 0.1
    classifier: Literal["lenet", "convnet", "resnet18"] = "lenet"
    epochs: Annotated[int, Field(ge=1, le=1000)] = 20  # of the public classifier

    def fit(self, images: Images, draws: Draws) -> Self:
        x, y = images.x, images.y
        classes, channels, side = int(y.max()) + 1, *x.shape[1:3]
        net = seeded(draws.at("classifier"), lambda: surrogate(self.classifier, channels, side, classes)).to(x)

        def loss(chosen: Tensor, _: Draws) -> Tensor:
            return nn.functional.cross_entropy(net(x[chosen]), y[chosen])

        minimise(net.parameters(), loss, len(y), epochs=self.epochs, lr=2e-3, draws=draws.at("fit"))
        theta = {name: t.detach().clone() for name, t in net.state_dict().items()}
        return replace(self, state={"classes": torch.tensor(classes), **theta})

    def images(self, batch: Batch, draws: Draws) -> Batch:
        return replace(batch, x=self.shown(batch.x)) if self.strength else batch

    def match(self, view: View) -> Match:
        """The public classifier makes the candidate's map, which is held fixed in each step of the search."""
        if not self.strength:
            return Match()
        return Match(input_map=lambda x, draws: x + (self.shown(x) - x).detach())

    def shown(self, x: Tensor) -> Tensor:
        """x^ of images (v, b, c, h, w)."""
        flat = x.detach().flatten(0, 1)
        theta = {name: t for name, t in self.state.items() if name != "classes"}
        net = with_weights(theta, self.classifier, flat.shape[1], flat.shape[2], int(self.state["classes"])).to(flat)
        with torch.no_grad():
            seen = net(flat).argmax(1)
        return altered(flat, attack_map(net, flat, seen, self.strength)).view_as(x)
