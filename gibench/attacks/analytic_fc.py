"""Quotients dW/db of a first fully connected layer are the images (Phong et al. 2017; rows: Boenisch et al. 2023)."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import nn

from gibench.attacks import Attack
from gibench.draws import Draws
from gibench.engine.first_linear import quotients, reason_against, rows_of, unexplained
from gibench.engine.labels import labels_of
from gibench.engine.search import as_gradient
from gibench.engine.substitute import completed
from gibench.types import Guess, View


@dataclass(frozen=True)
class AnalyticFC(Attack):
    """One image: exact. Several: exact for those that are alone in some row; labels are not used.

    The loss is the share of the first layer's gradient that the answer leaves unexplained.
    """

    citation: ClassVar[str] = (
        "Phong, Aono, Hayashi, Wang, Moriai: Privacy-preserving deep learning via additively homomorphic encryption, "
        "IEEE TIFS 13, 2018; Boenisch et al.: When the curious abandon honesty, EuroS&P 2023, arXiv 2112.02918"
    )
    needs: ClassVar[frozenset[str]] = frozenset({"batch_size"})
    tol: Annotated[float, Field(gt=0, lt=1)] = 1e-6  # rows with a smaller |db|, relative to the largest, are left out
    min_rows: Annotated[int, Field(ge=2)] = 2  # that must agree on an image

    def unfit(self, net: nn.Module, batch: int, kind: str) -> str:
        return reason_against(net)

    def reconstruct(self, view: View, draws: Draws) -> Guess:
        view = as_gradient(view)
        rows = rows_of(view)
        found = quotients(rows, view.shape[0], self.tol, self.min_rows)
        x = completed(found, view)
        return Guess(x, labels_of(view, view.update), unexplained(rows, found).to(x), 0)
