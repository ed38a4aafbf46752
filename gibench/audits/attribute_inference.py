"""Attribute inference (Wu et al. 2020): a patient's sex from what a federated net shows of the other measurements."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Annotated, ClassVar

import numpy as np
import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from sklearn.datasets import load_diabetes
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from gibench.audits import Audit, Measure, Subject
from gibench.defenses import Defense
from gibench.draws import Draws
from gibench.learned.fit import seeded
from gibench.systems.attributes import Floats, Whole, inferred, of_hidden, of_update, randomised

Level = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Chance = Annotated[float, Field(ge=0, le=1)]
SEX = 1  # its column among the ten
LR = 0.005


@dataclass(frozen=True)
class AttributeInference(Audit):
    """On scikit-learn's diabetes data (442 patients), which is tabular: the client's images play no part, so that only
    undefended clients carry its rows, once per seed. Task: progression above the median. Attribute: sex.

    A third of the patients train an MLP together, each a client; a third is the attacker's, who learns the prior from
    it; a third is attacked, record by record: by the activations of the first layer (split learning) and by a record's
    update. `sigmas`: noise on every use of the weights, in training too. `flips`: each patient reports another sex
    with this probability, once and for all. Everything is stated beside the prior: what the other nine fields tell.
    Paper: cardiovascular and heart data, which are not built in.
    """

    citation: ClassVar[str] = (
        "Wu, Zhang, Ding, Nguyen, Yu, Pan, Wong: Evaluation of inference attack models for deep learning on medical "
        "data, 2020, arXiv 2011.00177"
    )
    sigmas: tuple[Level, ...] = (0.02, 0.1, 0.5)
    flips: tuple[Chance, ...] = (0.1, 0.25, 0.5)
    width: Annotated[int, Field(ge=1, le=1000)] = 100
    rounds: Annotated[int, Field(ge=1)] = 100
    splits: Annotated[int, Field(ge=1)] = 3

    def unfit(self, defense: Defense, net: nn.Module) -> str:
        return "" if defense.spec() == "none" else "it looks at tabular data of its own: none alone carries its rows"

    def examine(self, subject: Subject, draws: Draws) -> list[Measure]:
        settings = {"undefended": (0.0, 0.0)}
        settings |= {f"weight noise {sigma:g}": (sigma, 0.0) for sigma in self.sigmas}
        settings |= {f"flips {p:g}": (0.0, p) for p in self.flips}
        return [measure for group, (sigma, p) in settings.items() for measure in self._setting(group, sigma, p, draws)]

    def _setting(self, group: str, sigma: float, p: float, draws: Draws) -> Iterator[Measure]:
        found = [self._split(sigma, p, draws.at("split", k)) for k in range(self.splits)]
        means = {name: float(np.mean([one[name] for one in found])) for name in found[0]}
        yield Measure(group, "task accuracy", means["task"], "share")
        yield Measure(group, "prior", means["prior"], "share")
        for source in ("activations", "update"):
            yield Measure(group, f"from {source}", means[source], "share")
            yield Measure(group, f"gain by {source}", means[source] - means["prior"], "share")

    def _split(self, sigma: float, p: float, draws: Draws) -> dict[str, float]:
        """Accuracies on one split of the patients."""
        fields, sex, levels, task = _patients()
        train, known, victims = np.array_split(draws.at("order").permutation(len(sex))[0].numpy(), 3)
        others = np.delete(fields, SEX, 1)
        prior = LogisticRegression().fit(others[known], sex[known]).predict_log_proba(others[victims])
        reported = fields.copy()
        reported[:, SEX] = levels[randomised(sex, p, len(levels), np.random.default_rng(draws.at("flips").seed()))]
        x, y = torch.from_numpy(reported).float(), torch.from_numpy(task)
        net = self._trained(x[train], y[train], sigma, draws.at("train"))
        own = _noisy(net, sigma, len(victims), draws.at("victims"))  # each use of the weights has noise of its own
        candidates = np.repeat(fields[victims][:, None], len(levels), 1)
        candidates[:, :, SEX] = levels
        first = net[0]
        assert isinstance(first, nn.Linear)
        means = candidates @ first.weight.detach().double().numpy().T + first.bias.detach().double().numpy()
        variance = sigma**2 * ((candidates**2).sum(-1) + 1)
        hidden = vmap(lambda w, b, one: torch.relu(w @ one + b))(own["0.weight"], own["0.bias"], x[victims])
        gradients = vmap(grad(_loss(net)))(own, x[victims], y[victims])
        update = of_update(gradients["0.weight"].numpy(), gradients["0.bias"].numpy(), levels, SEX)
        logits = vmap(lambda w, one: functional_call(net, w, (one,)))(own, x[victims])
        return {
            "task": float((logits.argmax(1) == y[victims]).float().mean()),
            "prior": _right(prior.argmax(1), sex[victims]),
            "activations": _right(inferred(prior, of_hidden(hidden.numpy(), means, variance), p), sex[victims]),
            "update": _right(inferred(prior, update, p), sex[victims]),
        }

    def _trained(self, x: Tensor, y: Tensor, sigma: float, draws: Draws) -> nn.Sequential:
        """Every patient is a client who sends one gradient per round; the server averages and takes a step of Adam."""
        w = self.width

        def layers() -> nn.Sequential:
            return nn.Sequential(nn.Linear(10, w), nn.ReLU(), nn.Linear(w, w), nn.ReLU(), nn.Linear(w, 2))

        net = seeded(draws.at("net"), layers)
        server = torch.optim.Adam(net.parameters(), lr=LR)
        each = vmap(grad(_loss(net)))
        for number in range(self.rounds):
            sent = each(_noisy(net, sigma, len(y), draws.at("round", number)), x, y)
            for name, parameter in net.named_parameters():
                parameter.grad = sent[name].mean(0)
            server.step()
        return net


def _patients() -> tuple[Floats, Whole, Floats, Whole]:
    """Ten fields of 442 patients in units of their deviation, sex as 0 or 1, its two values there, and the task."""
    fields, progression = load_diabetes(return_X_y=True)
    fields = fields / fields.std(0)
    levels, sex = np.unique(fields[:, SEX], return_inverse=True)
    return fields, sex.astype(np.int64), levels, (progression > np.median(progression)).astype(np.int64)


def _noisy(net: nn.Module, sigma: float, n: int, draws: Draws) -> dict[str, Tensor]:
    """Weights of each of n clients, (n, *shape), with noise of their own."""
    own = {name: p.detach().expand(n, *p.shape) for name, p in net.named_parameters()}
    if not sigma:
        return own
    return {name: p + sigma * draws.at(name).normal(*p.shape, like=p)[0] for name, p in own.items()}


def _loss(net: nn.Module) -> Callable[[dict[str, Tensor], Tensor, Tensor], Tensor]:
    def loss(weights: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        return nn.functional.cross_entropy(functional_call(net, weights, (x,)), y)

    return loss


def _right(guess: Whole, truth: Whole) -> float:
    return float((guess == truth).mean())
