"""Learning to Invert (Wu et al. 2023): a network learns update -> image on auxiliary data, under the known defense."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from gibench.attacks import Attack
from gibench.draws import Draws
from gibench.engine.assignment import in_order_of
from gibench.engine.labels import labels_of
from gibench.engine.surrogate import at_rest
from gibench.learned.fit import minimise, seeded
from gibench.message import mean_message, rounds_seen
from gibench.types import Batch, Guess, Update, View


@dataclass(frozen=True)
class LearningToInvert(Attack):
    """Messages on auxiliary images with the defense's fresh randomness at every use -> principal components -> MLP.

    Paper: principal components of the simulated messages instead of a random subset or hash (better at equal size);
    each message is divided by its norm, whose logarithm becomes one more feature, and jittered while training, which
    keeps the network from leaning on directions that hold next to nothing.
    """

    citation: ClassVar[str] = "Wu, Chen, Guo, Weinberger: Learning to invert, UAI 2023, arXiv 2210.10880"
    needs: ClassVar[frozenset[str]] = frozenset({"batch_size", "aux_data", "defense_spec"})
    adaptive: ClassVar[bool] = True
    components: Annotated[int, Field(ge=1)] = 512
    width: Annotated[int, Field(ge=1)] = 512
    epochs: Annotated[int, Field(ge=1)] = 30
    lr: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1e-3
    jitter: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.01

    def reconstruct(self, view: View, draws: Draws) -> Guess:
        assert view.aux is not None
        b = view.shape[0]
        once = draws.of((0,))
        n = len(view.aux.y) // b * b
        x, y = view.aux.x[:n].unflatten(0, (-1, b)), view.aux.y[:n].unflatten(0, (-1, b))
        stochastic = view.defense is not None and view.defense.stochastic

        def messages(chosen: Tensor, stream: Draws) -> Tensor:
            return _flat(_simulate(view, Batch(x[chosen], y[chosen]), stream))

        first = torch.cat(
            [messages(part, once.at("simulate", i)) for i, part in enumerate(torch.arange(len(x)).split(128))]
        )
        features, jitter = _principal(first, self.components, self.jitter)
        kept = features(first)
        net = seeded(once.at("net"), lambda: _mlp(kept.shape[1], self.width, x[0].numel())).to(kept)

        def loss(chosen: Tensor, step: Draws) -> Tensor:
            seen = features(messages(chosen, step)) if stochastic else kept[chosen]
            seen = seen + jitter * torch.randn(seen.shape, generator=step.at("jitter").generator()).to(seen)
            guess: Tensor = net(seen).view(-1, *x.shape[1:])
            return (guess - in_order_of(guess.detach(), x[chosen])).square().mean()

        minimise(net.parameters(), loss, len(x), epochs=self.epochs, lr=self.lr, draws=once.at("fit"))
        observed = mean_message([view.update, *view.rounds])
        with torch.no_grad():
            guess = net(features(_flat(observed))).view(-1, *view.shape)
        rest = at_rest(view)
        return Guess(guess, labels_of(rest, rest.update), torch.zeros(len(guess)).to(guess), self.epochs)


def _simulate(view: View, batch: Batch, stream: Draws) -> Update:
    """The message that clients holding `batch` would send, averaged over as many rounds as the attacker observed."""
    assert view.defense is not None
    clients = stream.of(range(len(batch.y)))
    return mean_message(rounds_seen(view.model, view.defense, batch, clients, 1 + len(view.rounds), view.local))


def _flat(update: Update) -> Tensor:
    """(v, all shared entries)."""
    return torch.cat([g.flatten(1) for g in update.values() if g is not None], 1)


def _principal(messages: Tensor, components: int, jitter: float) -> tuple[Callable[[Tensor], Tensor], Tensor]:
    """Projection on the leading principal directions of the normalised messages, scaled to unit variance with jitter.

    Also returns what noise of deviation `jitter` on every entry of a normalised message becomes in each feature.
    """

    def normal(m: Tensor) -> tuple[Tensor, Tensor]:
        norm = m.norm(dim=1, keepdim=True).clamp(min=1e-30)
        return m / norm, norm.log()

    unit, size = normal(messages)
    centre = unit.mean(0)
    gram = (unit - centre) @ (unit - centre).T
    values, vectors = torch.linalg.eigh(gram.double())
    kept = values > values[-1] * 1e-10
    values, vectors = values[kept][-components:], vectors[:, kept][:, -components:]
    deviation = (values / len(unit) + jitter**2).sqrt()
    basis = (unit - centre).T @ (vectors / values.sqrt() / deviation).to(unit)
    mean, spread = size.mean(), size.std() + 1e-6

    def features(m: Tensor) -> Tensor:
        unit, size = normal(m)
        return torch.cat([(unit - centre) @ basis, (size - mean) / spread], 1)

    return features, torch.cat([jitter / deviation, torch.zeros(1).to(deviation)]).to(unit)


def _mlp(inputs: int, width: int, outputs: int) -> nn.Module:
    return nn.Sequential(
        nn.Linear(inputs, width), nn.GELU(), nn.Linear(width, width), nn.GELU(), nn.Linear(width, outputs), nn.Sigmoid()
    )
