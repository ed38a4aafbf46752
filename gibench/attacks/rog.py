"""Recover or Generate (Yue et al. 2023): invert at half the resolution, then refine by a network learned on such."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor
from torch.nn import functional as F

from gibench.attacks import Attack
from gibench.attacks.vae_prior import decoded, matching
from gibench.draws import Draws
from gibench.engine.assignment import in_order_of
from gibench.engine.objective import Plan
from gibench.engine.optimisers import Search
from gibench.engine.search import invert
from gibench.engine.surrogate import at_rest, aux_batches, rehearsal, without_post
from gibench.learned.fit import minimise, seeded
from gibench.learned.inverter import ConvInverter
from gibench.types import Guess, View


@dataclass(frozen=True)
class RecoverOrGenerate(Attack):
    """The images searched for have 1 / factor of the side, brought to full size by bicubic interpolation.

    The enhancer sees what the same inversion makes of auxiliary batches, whose messages pass the known model, the
    known defense and the client's own local training, so that it also undoes what the defense leaves behind.
    Paper: factor 2 instead of 4 at these sizes, a residual net at two resolutions for the U-Net, mean squared error
    without the perceptual term, a little total variation, and cosine instead of l2, which fails on trained nets.
    """

    citation: ClassVar[str] = (
        "Yue, Jin, Wong, Baron, Dai: Gradient obfuscation gives a false sense of security in federated learning, "
        "USENIX Security 2023, arXiv 2206.04055"
    )
    needs: ClassVar[frozenset[str]] = frozenset({"batch_size", "aux_data", "defense_spec", "local_hparams"})
    adaptive: ClassVar[bool] = True
    factor: Annotated[int, Field(ge=1, le=8)] = 2
    distance: Literal["cos", "l2"] = "cos"
    steps: Annotated[int, Field(ge=1)] = 100
    lr: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.05
    tv: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1e-3
    pairs: Annotated[int, Field(ge=8)] = 512  # auxiliary batches that the enhancer learns from
    epochs: Annotated[int, Field(ge=1)] = 40

    def reconstruct(self, view: View, draws: Draws) -> Guess:
        once = draws.of((0,)).at("learn")
        known = aux_batches(view, self.pairs, once.at("pairs"))
        rough = self._rough(rehearsal(view, known, once.at("messages")), once.at("rough").of(range(len(known.y)))).x
        truth, rough = in_order_of(rough, known.x).flatten(0, 1), rough.flatten(0, 1)
        net = seeded(once.at("enhancer"), lambda: ConvInverter(view.shape[1])).to(truth)

        def loss(chosen: Tensor, _: Draws) -> Tensor:
            return F.mse_loss(net(rough[chosen]), truth[chosen])

        minimise(net.parameters(), loss, len(truth), epochs=self.epochs, lr=2e-3, draws=once.at("fit"))
        guess = self._rough(at_rest(view), draws.at("invert"))
        with torch.no_grad():
            return replace(guess, x=decoded(net, guess.x).clamp(0, 1))

    def _rough(self, view: View, draws: Draws) -> Guess:
        search = Search(self.steps, self.lr, self.tv, sign=False, scales=(self.factor,))
        return invert(view, self._plan, search, draws)

    def _plan(self, view: View) -> Plan:
        plan = matching(view)
        match = without_post(plan.match)
        return replace(plan, match=match if self.distance == "cos" else replace(match, distance="l2", linear=False))
