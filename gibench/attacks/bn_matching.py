"""Gradient matching with batch-normalisation statistics (Huang et al. 2021), with exact or with running ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from gibench.attacks.inverting_gradients import InvertingGradients
from gibench.bn import has_batch_norm, running_statistics
from gibench.engine.labels import labels_of
from gibench.engine.objective import Plan
from gibench.engine.priors import batch_statistics
from gibench.types import Match, View, victims


@dataclass(frozen=True)
class BatchNormMatching(InvertingGradients):
    """cos + TV + bn * (distance of batch statistics); `statistics = "exact"` is the paper's strong attacker.

    "exact" needs the batch's own statistics (`bn_stats`), which a client gives away that returns its buffers;
    "running" takes the model's buffers, which everybody has. The two never share a column: they are two specs.
    Paper: preset `strong` has bn 0.005 and TV 0.1 in another scaling of TV, `realistic` 0.001 and 0.05.
    """

    citation: ClassVar[str] = (
        "Huang, Gupta, Song, Li, Arora: Evaluating gradient inversion attacks and defenses in federated learning, "
        "NeurIPS 2021, arXiv 2112.00059"
    )
    needs: ClassVar[frozenset[str]] = frozenset({"batch_size", "bn_stats"})
    statistics: Literal["exact", "running"] = "exact"
    bn: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.005

    def required(self) -> frozenset[str]:
        return self.needs if self.statistics == "exact" else self.needs - {"bn_stats"}

    def unfit(self, net: nn.Module, batch: int, kind: str) -> str:
        return "" if has_batch_norm(net) else "the model has no BatchNorm layer"

    def statistics_of(self, view: View) -> Mapping[str, tuple[Tensor, Tensor]]:
        """(mean, variance) of every BatchNorm layer, (v, channels) each."""
        if self.statistics == "exact":
            assert view.bn is not None
            return view.bn
        return running_statistics(view.model, victims(view.update))

    def plan(self, view: View) -> Plan:
        prior = batch_statistics(view.model, self.statistics_of(view))
        return Plan(Match(linear=self.linear), labels_of(view, view.update), ((self.bn, prior),))
