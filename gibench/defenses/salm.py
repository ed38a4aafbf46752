"""SALM (Sun et al. 2024; only its abstract was known): small noise, only where it matters, leaves nothing to learn."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, ClassVar, Literal, Self

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.func import functional_call

from gibench.defenses import Defense
from gibench.draws import Draws
from gibench.gradients import cross_entropy
from gibench.learned.fit import minimise, seeded
from gibench.learned.surrogate import surrogate, without_weights
from gibench.types import Batch, Images

Weights = dict[str, Tensor]
LEARNED = 1024  # auxiliary images that the surrogate learns from


@dataclass(frozen=True)
class SALM(Defense):
    """min_theta min_delta loss(x + M delta), |delta|_inf <= radius, x + M delta in [0, 1]; M: the `share` of pixels
    with the largest sum over channels of |dloss/dx|. A surrogate's theta is public state, learned on auxiliary images;
    a client's noise is `steps` signed steps of `step` against it, from zero: it depends on image and label alone.

    Noise of steps * step at most: a radius beyond it changes nothing. Training on protected images is what should
    fail: `utility` is the accuracy on clean ones, which the model meets in use, and should FALL. So this is never
    ranked with defenses that keep it. Against inversion the noise is worth no more than its size.

    Paper: method and numbers are not in the abstract; this is error-minimising noise (Huang et al., ICLR 2021) with
    a mask, its radius 8/255, share 0.1, step 0.8/255 and 20 steps.
    """

    citation: ClassVar[str] = (
        "Sun, Liu, Yan, Xu, Sun: Medical unlearnable examples: securing medical data from unauthorized training via "
        "sparsity-aware local masking, 2024, arXiv 2403.10573; Huang, Ma, Erfani, Bailey, Wang: Unlearnable examples: "
        "making personal data unexploitable, ICLR 2021, arXiv 2101.04898"
    )
    place = "data"
    knob = "radius"
    sweep = (0.0, 2 / 255, 4 / 255, 8 / 255, 16 / 255)
    neutral = "salm(radius=0)"
    match_needs: ClassVar[frozenset[str]] = frozenset({"defense_params"})  # its noise is the surrogate's
    oblivious_suffices = (
        "what an attack inverts to is within the radius of the image at every pixel, and equal to it outside of the "
        "mask: at least 20 log10(1/radius) - 10 log10(share) dB, without undoing anything"
    )
    radius: Annotated[float, Field(ge=0, le=1)] = 8 / 255
    share: Annotated[float, Field(gt=0, le=1)] = 0.1
    step: Annotated[float, Field(gt=0, le=1)] = 0.8 / 255
    steps: Annotated[int, Field(ge=1, le=1000)] = 20
    # Paper: ResNet-18 as it seems; lenet is enough for images of 28 to 64 pixels.
    surrogate: Literal["lenet", "convnet", "resnet18"] = "lenet"
    passes: Annotated[int, Field(ge=1, le=1000)] = 30  # over the auxiliary images, at most
    until: Annotated[float, Field(ge=0, lt=1)] = 0.01  # error on protected images that ends them; 0: never

    def fit(self, images: Images, draws: Draws) -> Self:
        """Passes of training on the protected images, which are made anew after each.

        Measured on real images at share 1, accuracy on clean images of who trains on protected ones, without noise /
        so / after 20 passes, four seeds: lenet on digits at radius 8/255 95.5 / 94.8 %, at 64/255 95.5 / 87.4 / 93 %;
        convnet on ihc at 8/255 74 / 73 / 71 %, seeds 3 % apart. Small nets that train briefly are hardly misled at
        the usual radius.
        """
        if not self.radius:
            return self
        x, y = images.x[:LEARNED], images.y[:LEARNED]
        classes = int(images.y.max()) + 1
        net = seeded(draws.at("surrogate"), lambda: surrogate(self.surrogate, x.shape[1], x.shape[2], classes)).to(x)

        def loss(chosen: Tensor, _: Draws) -> Tensor:
            return nn.functional.cross_entropy(net(shown[chosen]), y[chosen])

        for turn in range(self.passes):
            theta = {name: t.detach() for name, t in net.state_dict().items()}
            shown = self.protected(net.eval(), theta, Batch(x, y)).x
            with torch.no_grad():
                if turn and float((net(shown).argmax(1) != y).double().mean()) < self.until:
                    break
            # Paper: SGD there; Adam needs no schedule, as in the federated training here.
            minimise(net.parameters(), loss, len(y), epochs=1, lr=2e-3, draws=draws.at("pass", turn))
        theta = {name: t.detach().clone() for name, t in net.state_dict().items()}
        return replace(self, state={"classes": torch.tensor(classes), **theta})

    def images(self, batch: Batch, draws: Draws) -> Batch:
        if not self.radius:
            return batch
        theta = {name: t for name, t in self.state.items() if name != "classes"}
        net = without_weights(self.surrogate, batch.x.shape[2], batch.x.shape[3], int(self.state["classes"]))
        flat = Batch(batch.x.flatten(0, 1), batch.y.flatten(0, 1))
        return replace(batch, x=self.protected(net, theta, flat).x.view_as(batch.x))

    def inference(self, batch: Batch, draws: Draws) -> Batch:
        return batch

    def protected(self, net: nn.Module, theta: Weights, images: Batch) -> Batch:
        """Images (n, c, h, w), labels (n,) or (n, k): the same with noise that makes the net right about them."""
        x = images.x.detach()
        shown, mask = x, self.mask(self._uphill(net, theta, x, images.y))
        low, high = (x - self.radius).clamp(min=0), (x + self.radius).clamp(max=1)
        for _ in range(self.steps):
            downhill = self.step * mask * self._uphill(net, theta, shown, images.y).sign()
            shown = (shown - downhill).clamp(low, high)
        return replace(images, x=torch.where(mask, shown, x))

    def mask(self, uphill: Tensor) -> Tensor:
        """True at the floor(share h w) pixels, at least one, of the largest |dloss/dx| summed over channels:
        (n, c, h, w) -> (n, 1, h, w)."""
        weight = uphill.abs().sum(1).flatten(1)
        top = weight.topk(max(1, int(self.share * weight.shape[1] + 1e-9)), dim=1).indices
        chosen = torch.zeros_like(weight, dtype=torch.bool).scatter(1, top, True)
        return chosen.view(len(uphill), 1, *uphill.shape[2:])

    @staticmethod
    def _uphill(net: nn.Module, theta: Weights, x: Tensor, y: Tensor) -> Tensor:
        """dloss/dx of each image's own loss."""
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            logits: Tensor = functional_call(net, theta, (x,))
            total = cross_entropy(logits.unsqueeze(1), Batch(x, y.unsqueeze(1))).sum()
            return torch.autograd.grad(total, x)[0]
