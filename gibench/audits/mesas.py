"""MESAS (Krauss, Dmitrienko 2023): does a filter against poisoned updates throw out clients who defend their images?"""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import nn

from gibench.attacks import Attack
from gibench.attacks.imprint import Imprint
from gibench.attacks.trap_weights import TrapWeights
from gibench.audits import Audit, Measure, Subject
from gibench.audits.poison import POISONS, poisoned_images, poisoned_message
from gibench.defenses import Defense
from gibench.draws import Draws
from gibench.learned.fit import seeded
from gibench.systems.mesas import Mesas as Filter
from gibench.types import Batch, Update

Floats = NDArray[np.float64]
Clients = Annotated[int, Field(ge=4, le=1000)]
ALONE, TIME = "nobody poisons", "time for all clients"
MIXED = {"a quarter defends": 4, "half defend": 2}  # of two equal camps the filter cannot tell which is odd
INITS = 40  # fresh initialisations that a broadcast model is compared with


@dataclass(frozen=True)
class MESAS(Audit):
    """Who is rejected of `clients` honest ones, all under the defense, and of `poisoners` beside them.

    Poisoners follow the defense: wrong labels, or a patch with a target class, go through it; a message that is scaled
    or reversed was defended before. Where a quarter or half of the honest clients defend, the others do not and nobody
    poisons; that question counts for a defense. Compared are the parameters that everybody shares. A gradient counts
    as the step that it is at the suite's local rate. Planted models are told from fresh initialisations of the same
    layers. Means over `trials` with other images.
    """

    citation: ClassVar[str] = (
        "Krauss, Dmitrienko: MESAS: poisoning defense for federated learning resilient against adaptive attackers, CCS "
        "2023, arXiv 2306.03600"
    )
    alpha: Annotated[float, Field(gt=0, lt=1)] = 1e-4
    robust_z: Annotated[float, Field(gt=0)] = 7.0
    clients: Clients = 24
    poisoners: Annotated[int, Field(ge=1, le=1000)] = 4
    images: Annotated[int, Field(ge=1, le=1000)] = 16  # per client and message
    trials: Annotated[int, Field(ge=1)] = 10
    checkpoint: Literal["init", "early", "final"] = "final"

    def unfit(self, defense: Defense, net: nn.Module) -> str:
        return defense.sealed or (
            "the server sees the sum of several clients and cannot judge any of them" if defense.cohort else ""
        )

    def examine(self, subject: Subject, draws: Draws) -> list[Measure]:
        trials = [self._trial(subject, draws.at("trial", k)) for k in range(self.trials)]
        means = {key: float(np.mean([trial[key] for trial in trials])) for key in trials[0]}
        found = [Measure(*key, value, "s" if key[1] == TIME else "share") for key, value in means.items()]
        return [*found, *self._planted(subject, draws.at("planted"))]

    def _trial(self, subject: Subject, draws: Draws) -> dict[tuple[str, str], float]:
        """Shares that are rejected by (group, name), and the seconds of one judgement."""
        honest, bad = range(self.clients), range(self.clients, self.clients + self.poisoners)
        batch = _batch(subject, self.clients + self.poisoners, self.images, draws.at("images"))
        weights = dict(subject.nets[self.checkpoint].named_parameters())
        at = draws.at("messages")
        sent = subject.messages(self.checkpoint, _rows(batch, honest), at.of(honest))
        clock = time.perf_counter()
        alone = self._rejected(_steps(subject, sent), weights)
        spent = time.perf_counter() - clock
        found = {(ALONE, "honest rejected"): float(alone.mean()), (ALONE, TIME): spent}
        for name in POISONS:
            changed = poisoned_images(name, _rows(batch, bad), int(subject.parts.client.y.max()) + 1)
            theirs = poisoned_message(name, subject.messages(self.checkpoint, changed, at.of(bad)))
            out = self._rejected(_steps(subject, _joined(sent, theirs)), weights)
            found[name, "poisoners rejected"] = float(out[self.clients :].mean())
            found[name, "honest rejected"] = float(out[: self.clients].mean())
        plain = subject.messages(self.checkpoint, _rows(batch, honest), at.of(honest), defended=False)
        for name, part in MIXED.items():
            bare = self.clients - self.clients // part
            others = _steps(subject, _part(plain, slice(bare)), defended=False)
            out = self._rejected(_joined(others, _steps(subject, _part(sent, slice(bare, None)))), weights)
            found[name, "defended rejected"] = float(out[bare:].mean())
            found[name, "undefended rejected"] = float(out[:bare].mean())
        return found

    def _rejected(self, updates: Update, weights: dict[str, nn.Parameter]) -> NDArray[np.bool_]:
        shared = [name for name, g in updates.items() if g is not None]
        if not shared:
            raise ValueError("the clients share no parameter that could be compared")
        d = np.concatenate([updates[name].flatten(1).double().cpu().numpy() for name in shared], 1)  # type: ignore[union-attr]
        w = np.concatenate([weights[name].detach().flatten().double().cpu().numpy() for name in shared])
        return ~Filter(self.alpha, self.robust_z).judge(d, w).kept

    def _planted(self, subject: Subject, draws: Draws) -> Iterator[Measure]:
        """Whether models that a server planted are told from fresh ones, and a fresh one taken for planted."""
        net, rule = subject.fresh(-1), Filter(self.alpha, self.robust_z)
        shape = (self.images, *subject.parts.test.x.shape[1:])
        attacks: dict[str, Attack] = {"imprint": Imprint(), "trap weights": TrapWeights()}
        for name, attack in attacks.items():
            if attack.unfit(net, self.images, "gradient"):
                continue
            model = attack.plant(net, shape, subject.parts.aux, draws.at(name))
            inits = [_flat(_anew(model, draws.at(name, k))) for k in range(INITS + 2)]
            found = rule.unlike(np.stack([_flat(model), inits[1]]), np.stack(inits[2:]), inits[0])
            yield Measure(f"model with {name}", "planted flagged", float(bool(found[0])), "share")
            yield Measure(f"model with {name}", "fresh flagged", float(bool(found[1])), "share")


def _batch(subject: Subject, n: int, b: int, draws: Draws) -> Batch:
    """b of the clients' images for each of n, all different as long as there are enough."""
    images = subject.parts.client
    order = torch.arange(n * b) % len(images.y)
    index = draws.permutation(len(images.y))[0][order].view(n, b).to(images.y.device)
    return Batch(images.x[index], images.y[index])


def _rows(batch: Batch, chosen: range) -> Batch:
    part = slice(chosen.start, chosen.stop)
    return Batch(batch.x[part], batch.y[part])


def _steps(subject: Subject, sent: Update, defended: bool = True) -> Update:
    """Messages as changes of the weights."""
    local = subject.local if defended else subject.training.local()
    return sent if local else {name: None if g is None else -subject.training.local_lr * g for name, g in sent.items()}


def _joined(one: Update, other: Update) -> Update:
    """The clients of both; a parameter that either keeps back is kept back."""
    pairs = {name: (g, other[name]) for name, g in one.items()}
    return {name: None if g is None or h is None else torch.cat([g, h]) for name, (g, h) in pairs.items()}


def _part(update: Update, rows: slice) -> Update:
    return {name: None if g is None else g[rows] for name, g in update.items()}


def _flat(net: nn.Module) -> Floats:
    flat: Floats = torch.cat([p.detach().flatten() for p in net.parameters()]).double().cpu().numpy()
    return flat


def _anew(net: nn.Module, draws: Draws) -> nn.Module:
    """A copy whose layers are initialised by their own rule."""

    def build() -> nn.Module:
        fresh = copy.deepcopy(net)
        for layer in fresh.modules():
            if callable(reset := getattr(layer, "reset_parameters", None)):
                reset()
        return fresh

    return seeded(draws, build)
