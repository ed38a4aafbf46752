"""Fishing for user data (Wen et al. 2022): a planted head silences all images of a batch but one, which is inverted."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from gibench.attacks.inverting_gradients import InvertingGradients
from gibench.draws import Draws
from gibench.engine.labels import head
from gibench.engine.objective import Plan
from gibench.engine.search import as_gradient, first_images, invert
from gibench.engine.substitute import substitute
from gibench.gradients import mean_gradient
from gibench.types import Batch, Guess, Images, Match, Update, View

CERTAIN = 1000.0  # logit of every other class in class mode


@dataclass(frozen=True)
class Fishing(InvertingGradients):
    """`class`: only images of the target class send a gradient through the body; one of them is stolen exactly.
    `feature`, for batches of one class: only images whose chosen feature lies below a cut do.

    The stolen image comes first in the guess, the substitute (mean auxiliary image or grey) in the other places: judge
    it by the best image of a batch, never by the mean. A victim without any image of the target class gets the
    substitute alone.
    """

    citation: ClassVar[str] = (
        "Wen, Geiping, Fowl, Goldblum, Goldstein: Fishing for user data in large-batch federated learning via gradient "
        "magnification, ICML 2022, arXiv 2202.00580"
    )
    needs: ClassVar[frozenset[str]] = frozenset({"batch_size", "active_server"})
    mode: Literal["class", "feature"] = "class"
    target: Annotated[int, Field(ge=0)] | None = None  # None: the most frequent auxiliary class, without them 0

    def unfit(self, net: nn.Module, batch: int, kind: str) -> str:
        layers = [m for m in net.modules() if isinstance(m, nn.Linear)]
        if not layers or layers[-1].bias is None:
            return "the last layer is not Linear with bias"
        k = layers[-1].out_features
        return f"there is no class {self.target} among {k}" if self.target is not None and self.target >= k else ""

    def plant(self, net: nn.Module, shape: tuple[int, ...], aux: Images | None, draws: Draws) -> nn.Module:
        net = copy.deepcopy(net)
        layer = net.get_submodule(head(net))
        assert isinstance(layer, nn.Linear)
        target = self._target(aux)
        feature, cut = _cut(net, layer, target, shape, aux, draws) if self.mode == "feature" else (0, 0.0)
        with torch.no_grad():
            layer.weight.zero_()
            if self.mode == "class":
                layer.weight[target] = 0.5
                layer.bias.fill_(CERTAIN)[target] = 0
            else:
                layer.weight[target, feature] = 300
                layer.bias.zero_()[target] = -300 * cut
        return net

    def invert(self, view: View, tv: float | Tensor, draws: Draws) -> Guess:
        view = as_gradient(view)
        lone, other, target = isolated(view), substitute(view), target_of(view.model)
        stolen = invert(replace(lone, update=_unit(lone.update, draws)), self.plan, self.search(tv), draws)
        body = torch.stack([g.flatten(1).any(1) for g in lone.update.values() if g is not None]).any(0)
        first = torch.where(body.view(-1, 1, 1, 1, 1), stolen.x, other.to(stolen.x))
        rest = other.to(first).expand(len(first), view.shape[0] - 1, *view.shape[1:])
        return replace(stolen, x=torch.cat([first, rest], 1), labels=self._labels(view, target))

    def plan(self, view: View) -> Plan:
        """The stolen image has no probability of its class, so that its gradient is that of minus the class's logit."""
        target = target_of(view.model)

        def simulate(net: nn.Module, batch: Batch, draws: Draws) -> Update:
            return mean_gradient(net, batch, loss=lambda logits, _: -logits[:, 0, target], create_graph=True)

        like = next(g for g in view.update.values() if g is not None)
        labels = torch.full((len(like), 1), target, device=like.device)
        # Paper: the cosine of the whole body. A head without signs adds up the same sign over all places of an image,
        # which the gradients of late convolutions are full of; the target's row of the head, too, is the image's own.
        return Plan(Match(linear=False, transform=_unit), labels, simulate=simulate)

    def _labels(self, view: View, target: int) -> Tensor:
        """(v, b), the target first, as the images. In class mode the head's bias counts the classes exactly."""
        like, b, k = next(g for g in view.update.values() if g is not None), view.shape[0], view.classes
        if view.labels is not None:
            return view.labels.gather(1, (view.labels != target).long().argsort(dim=1, stable=True))
        bias = view.update[f"{head(view.model)}.bias"]
        if self.mode == "feature" or bias is None:
            return torch.full((len(like), b), target, device=like.device)
        order = sorted(range(k), key=lambda c: c != target)
        chance = torch.tensor([0.0, *[1 / (k - 1)] * (k - 1)]).to(bias)  # what every image gives to each class
        seen = (b * (chance - bias[:, order])).clamp(min=0).cumsum(1)
        places = (torch.arange(b) + 0.5).to(bias).expand(len(like), b).contiguous()
        return torch.tensor(order, device=bias.device)[torch.searchsorted(seen, places).clamp(max=k - 1)]

    def _target(self, aux: Images | None) -> int:
        if self.target is not None:
            return self.target
        return 0 if aux is None else int(aux.y.bincount().argmax())


def target_of(net: nn.Module) -> int:
    """The class whose row of the planted head is not zero."""
    return int(net.get_parameter(f"{head(net)}.weight").detach().abs().sum(1).argmax())


def isolated(view: View) -> View:
    """The stolen image as the only one of its batch: what the silenced ones send to the head is left out."""
    name, target, b = head(view.model), target_of(view.model), view.shape[0]
    own = torch.arange(view.classes) == target

    def part(key: str, g: Tensor | None) -> Tensor | None:
        if g is None or key == f"{name}.bias":
            return None
        return b * g * own[:, None].to(g) if key == f"{name}.weight" else b * g

    update = {key: part(key, g) for key, g in view.update.items()}
    return replace(view, update=update, shape=(1, *view.shape[1:]), labels=None, rounds=(), bn=None)


def _unit(update: Update, draws: Draws) -> Update:
    """Every tensor at length one."""
    return {
        key: None if g is None else g / (g.square().flatten(1).sum(1) + 1e-30).sqrt().view(-1, *[1] * (g.dim() - 1))
        for key, g in update.items()
    }


def _cut(
    net: nn.Module, layer: nn.Linear, target: int, shape: tuple[int, ...], aux: Images | None, draws: Draws
) -> tuple[int, float]:
    """The feature that varies most among images of the class, and its value that one of a batch stays below.

    Without auxiliary images noise stands for them.
    """
    like = next(net.parameters())
    if aux is not None:
        x = aux.x[aux.y == target] if bool((aux.y == target).any()) else aux.x
    else:
        x = first_images((256, *shape[1:]), "randn", draws, like)[0]
    seen: list[Tensor] = []
    hook = layer.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    try:
        with torch.no_grad():
            net(x.to(like))
    finally:
        hook.remove()
    features = seen[0]
    feature = int(features.std(0).argmax())
    return feature, float(features[:, feature].quantile(1 / shape[0]))
