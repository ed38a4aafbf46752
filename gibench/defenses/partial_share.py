"""FLOP (Yang et al. 2021): some layers never leave the client, each keeps and trains its own, by default the last."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import nn

from gibench.defenses import Defense
from gibench.draws import Draws
from gibench.engine.labels import head
from gibench.engine.local import trained_from
from gibench.gradients import along, cross_entropy, mean_gradient
from gibench.message import own_weights
from gibench.types import Batch, Extra, Local, Match, Memory, Params, Update, View


@dataclass(frozen=True)
class PartialShare(Defense):
    """The `layers` last (`trailing`) or first (`leading`) layers that have parameters: withheld, trained by each client
    on its own and used by it in place of the server's, as which they start."""

    citation: ClassVar[str] = "Yang, Zhang, Hao, Spell, Carin: FLOP, KDD 2021, arXiv 2102.05218"
    place = "protocol"
    knob = "layers"
    sweep = (0, 1, 2, 3)
    neutral = "partial_share(layers=0)"
    layers: Annotated[int, Field(ge=0)] = 1
    side: Literal["trailing", "leading"] = "trailing"
    lr: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.03  # of the private layers, where gradients are sent

    def weights(self, net: nn.Module, draws: Draws, memory: Memory) -> Params | None:
        if not self.layers:
            return None
        params = own_weights(net, len(draws.members))
        memory |= {name: memory.get(name, params[name]) for name in self._private(params)}
        return params | memory

    def keep(self, update: Update, local: Local | None, memory: Memory) -> None:
        """A step of SGD on the private layers, or what local training made of them."""
        for name, own in memory.items():
            g = update[name]
            assert g is not None
            memory[name] = own - self.lr * g if local is None else own + g

    def message(self, update: Update, draws: Draws, memory: Memory) -> Update:
        private = self._private(update)
        return {name: None if name in private else g for name, g in update.items()}

    def withheld(self, names: Sequence[str]) -> frozenset[str]:
        return frozenset(self._private(names))

    def match(self, view: View) -> Match:
        """Private layers are searched for with the images, held near to the server's initial ones. Without the last
        layer each image has a free direction of the logits instead of a label, but for several local steps.

        Measured (PneumoniaMNIST, lenet, init / 3 epochs, best TV): undefended 46.2 / 34.7 dB, oblivious 19.7 / 12.5,
        this 36.8 / 19.4; server's layers with searched labels 25.8 / 12.2, with free directions 32.9 / 16.4."""
        private, weights = self._private(view.update), dict(view.model.named_parameters())
        if not private:
            return Match()
        local = view.local if view.kind == "delta" and view.local is not None and view.local.epochs > 1 else None
        last = list(view.update)[-1] in private
        unfelt = f"{head(view.model)}.bias" if last and local is None else ""  # a direction leaves it without effect
        spread = {k: 0.3 * float(weights[k].detach().square().mean().sqrt()) for k in private if k != unfelt}

        def unknowns(draws: Draws) -> Extra:
            zero = {k: weights[k].new_zeros(len(draws.members), *weights[k].shape) for k in spread}
            way = draws.normal(view.shape[0], view.classes, like=weights[private[0]])
            return zero | {"way": way} if unfelt else zero

        def gradient(net: nn.Module, batch: Batch, extra: Extra, draws: Draws) -> Update:
            near = {k: weights[k].detach() + spread[k] * extra[k] for k in spread if extra}
            params = own_weights(net, len(batch.y)) | near
            if local is not None:
                return trained_from(params, net, batch, local, view.clients)
            seen, loss = (Batch(batch.x, extra["way"]), along) if "way" in extra else (batch, cross_entropy)
            return mean_gradient(net, seen, loss=loss, params=params, create_graph=True)

        return Match(
            labels="joint" if last and local is not None else "given",
            linear=False,
            extra=unknowns,
            gradient=gradient,
            penalty=lambda extra: 0.1 * torch.stack([extra[k].square().flatten(1).mean(1) for k in spread]).mean(0),
        )

    def _private(self, names: Iterable[str]) -> list[str]:
        layers = list(dict.fromkeys(name.rpartition(".")[0] for name in names))
        own = layers[: self.layers] if self.side == "leading" else layers[max(len(layers) - self.layers, 0) :]
        return [name for name in names if name.rpartition(".")[0] in own]

    def unfit(self, net: nn.Module, shape: tuple[int, int, int], clients: int) -> str:
        layers = [m for m in net.modules() if list(m.parameters(False))]
        if self.layers >= len(layers):
            return f"all {len(layers)} layers of this model would be private: nothing is shared"
        after = layers if self.side == "leading" else layers[len(layers) - self.layers :]
        norms = self.layers and any(isinstance(m, nn.BatchNorm2d) for m in after)
        return "BatchNorm at or after a private layer: the server cannot follow its statistics" if norms else ""
