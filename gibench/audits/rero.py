"""Huge-epsilon DP (Ziller et al. 2024): what a private training's noise still allows the best of attackers."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass

from gibench.audits import Audit, Measure, Subject
from gibench.defenses import Defense
from gibench.draws import Draws
from gibench.systems.rero_table import Plan, bound


@dataclass(frozen=True)
class ReRo(Audit):
    """Bounds of robustness to reconstruction (ReRo) for the sigma, rate and rounds that a client was trained with.

    gamma: no attack that knows all other images and a prior succeeds more often if guessing succeeds with kappa; the
    relaxed one ignores a sign that attackers seldom know. kappa: `priors`, and 1 / N for N images of all clients, as
    published. PSNR of an attacker without a prior who reads the image with noise of sigma times the largest norm.
    """

    citation: ClassVar[str] = (
        "Ziller, Mueller, Stieger, Feiner, Brandt, Braren, Rueckert, Kaissis: Reconciling privacy and accuracy in AI "
        "for medical imaging, Nature Machine Intelligence 2024, arXiv 2312.04590; Hayes, Mahloujifar, Balle: Bounding "
        "training data reconstruction in DP-SGD, NeurIPS 2023, arXiv 2302.07225"
    )
    priors: Annotated[tuple[Annotated[float, Field(gt=0, lt=1)], ...], Field(min_length=1)] = (0.001, 0.01, 0.1)

    def unfit(self, defense: Defense, net: torch.nn.Module) -> str:
        private = type(defense).accounting is not Defense.accounting
        return "" if private else f"{defense.entry_name()} promises no differential privacy"

    def examine(self, subject: Subject, draws: Draws) -> list[Measure]:
        row = subject.row
        if "gdp_mu" not in row:  # no noise at all: infinite, and stored as such
            return [Measure("", "noise multiplier", 0.0)]
        sigma = 1 / row["gdp_mu"]
        plan = Plan(row["sampling_rate"], int(row["rounds"]), row["delta"])
        x = subject.parts.client.x
        radius, pixels = float(x.flatten(1).norm(dim=1).max()), x[0].numel()
        found = [
            Measure("", "epsilon", row["epsilon"], note=f"delta {row['delta']:.2g}"),
            Measure("", "noise multiplier", sigma),
        ]
        for kappa in sorted({1 / len(x), *self.priors}):
            limit = bound(sigma, plan, kappa, radius, pixels)
            found += [
                Measure(f"kappa {kappa:.2g}", "gamma", limit.gamma, "share"),
                Measure(f"kappa {kappa:.2g}", "relaxed", limit.relaxed, "share"),
            ]
        ends = {"mean": limit.psnr, "5 % below": limit.low, "95 % below": limit.high}
        return found + [Measure("PSNR without a prior", name, db) for name, db in ends.items() if math.isfinite(db)]
