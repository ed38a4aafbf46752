"""PriMIA (Kaissis et al. 2021): what it costs to use the model when neither image nor weights may be seen."""

from __future__ import annotations

import time
from typing import Annotated, ClassVar

import numpy as np
import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import nn

from gibench.audits import Audit, Measure, Subject
from gibench.defenses import Defense
from gibench.draws import Draws
from gibench.systems.encrypted_net import encrypted, unknown_layer
from gibench.systems.two_party import TwoParty


@dataclass(frozen=True)
class EncryptedInference(Audit):
    """The final model on raw test images between two parties, one holding the images, the other the weights.

    Against the same model on the same images in plain floating point. Smooth activations become broken lines of
    `pieces` points. What the dealer hands out in advance is not among the bytes.
    """

    citation: ClassVar[str] = (
        "Kaissis, Ziller, Passerat-Palmbach, Ryffel, Usynin, Trask, Lima, Mancuso, Jungmann, Steinborn, Saleh, "
        "Makowski, Rueckert, Braren: End-to-end privacy preserving deep learning on multi-institutional medical "
        "imaging, Nature Machine Intelligence 2021, arXiv 2012.06354"
    )
    images: Annotated[int, Field(ge=1)] = 32
    pieces: Annotated[int, Field(ge=2, le=256)] = 16
    fraction: Annotated[int, Field(ge=4, le=16)] = 13  # bits after the point

    def unfit(self, defense: Defense, net: nn.Module) -> str:
        layer = unknown_layer(net)
        return f"there is no protocol for the layer {layer}" if layer else ""

    def examine(self, subject: Subject, draws: Draws) -> list[Measure]:
        net, test = subject.nets["final"], subject.parts.test
        assert isinstance(net, nn.Sequential)
        x, y = test.x[: self.images], test.y[: self.images].cpu().numpy()
        with torch.no_grad():
            plain = net(x).double().cpu().numpy()
        session = TwoParty(np.random.default_rng(draws.at("dealer").seed()), self.fraction)
        clock = time.perf_counter()
        found, bent = encrypted(net, x, session, self.pieces)
        spent = time.perf_counter() - clock
        guess, own = plain.argmax(1), found.argmax(1)
        return [
            Measure("", "same answer", float((guess == own).mean()), "share"),
            Measure("", "accuracy", float((own == y).mean()), "share"),
            Measure("", "in plain", float((guess == y).mean()), "share", f"on the first {len(y)} test images"),
            Measure("", "largest logit error", float(np.abs(found - plain).max())),
            Measure("", "error of an activation", bent),
            Measure("", "per image", session.bytes / len(y) / 2**20, "MiB"),
            Measure("", "rounds", session.rounds),
            Measure("", "time per image", spent / len(y), "s"),
        ]
