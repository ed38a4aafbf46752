"""SPEAR (Dimitrov et al. 2024): a batch is exact from a linear ReLU layer, where low rank and sparsity meet."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from gibench.attacks import Attack
from gibench.draws import Draws
from gibench.engine.first_linear import first_linear, quotients, reason_against, rows_of
from gibench.engine.labels import labels_of
from gibench.engine.search import as_gradient
from gibench.engine.substitute import completed
from gibench.types import Guess, View

AT_ONCE = 1000  # draws between two attempts at an answer


@dataclass(frozen=True)
class Spear(Attack):
    """dW = D Z with D zero where ReLU is: sought is the basis of dW's columns in which many entries vanish.

    A victim for which the samples do not suffice gets the quotients of `analytic_fc`. The loss is the share of
    entries where the signs of the layer's output contradict the zeros. Needs no labels.
    """

    citation: ClassVar[str] = (
        "Dimitrov, Baader, Müller, Vechev: SPEAR: Exact gradient inversion of batches in federated learning, "
        "NeurIPS 2024, arXiv 2403.03945"
    )
    needs: ClassVar[frozenset[str]] = frozenset({"batch_size"})
    samples: Annotated[int, Field(ge=1)] = 8000
    max_batch: Annotated[int, Field(ge=1)] = 10

    def unfit(self, net: nn.Module, batch: int, kind: str) -> str:
        if batch > self.max_batch:
            return f"a batch of {batch} takes more samples than there are; max_batch is {self.max_batch}"
        return reason_against(net, relu=True)

    def reconstruct(self, view: View, draws: Draws) -> Guess:
        view = as_gradient(view)
        rows, layer = rows_of(view), first_linear(view.model)[1]
        fallback = quotients(rows, view.shape[0], 1e-6, 2)
        found, wrong = [], []
        for i, member in enumerate(draws.members):
            z, loss = self._solve(layer, rows.weight[i], rows.bias[i], rows.precision, draws.of((member,)))
            found.append(fallback[i] if z is None else rows.pixels(z))
            wrong.append(loss)
        x = completed(found, view)
        return Guess(x, labels_of(view, view.update), torch.tensor(wrong).to(x), self.samples)

    def _solve(
        self, layer: nn.Linear, dw: Tensor, db: Tensor, precision: float, draws: Draws
    ) -> tuple[Tensor | None, float]:
        """Inputs of the layer (images, inputs), None if no basis was found, and the share of contradictions."""
        left, size, right = torch.linalg.svd(dw, full_matrices=False)
        b = int((size > precision * size[0]).sum()) if bool(dw.any()) else 0
        if b == 0 or b > self.max_batch:
            return None, 1.0
        left, right = left[:, :b] * size[:b], right[:b]
        live = left.norm(dim=1) > precision * left.norm(dim=1).max()
        kept = left.new_empty(0, b)
        best, least = None, 1.0
        for attempt in range(-(-self.samples // AT_ONCE)):
            fresh = _sparse(left[live], AT_ONCE, precision, draws.at(attempt)) if b > 1 else left.new_ones(1, 1)
            kept = _distinct(torch.cat([kept, fresh]), left[live], precision)
            basis = _independent(kept, b)
            if basis is None:
                continue
            scale = torch.linalg.solve(basis, torch.linalg.lstsq(left[live], db[live].unsqueeze(1)).solution)
            basis = basis * scale.squeeze(1)
            if not bool((torch.linalg.matrix_rank(basis) == b) & basis.isfinite().all()):
                continue
            z = torch.linalg.solve(basis, right)
            off = (left @ basis).abs() <= precision * left.norm(dim=1, keepdim=True) * basis.norm(dim=0)
            silent = layer(z.to(layer.weight)).T <= 0
            loss = float((off != silent)[live].double().mean())
            if loss < least:
                best, least = z, loss
            if least < 0.01:
                break
        return (best if least < 0.1 else None), least


def _sparse(left: Tensor, count: int, precision: float, draws: Draws) -> Tensor:
    """Directions q with many zeros in `left` q, drawn as kernels of b - 1 rows and refined on all their zeros."""
    b = left.shape[1]
    unit = left / left.norm(dim=1, keepdim=True)
    chosen = (draws.uniform(count, b - 1)[0] * len(left)).long()
    q = _kernel(unit[chosen])
    zeros = (q @ unit.T).abs() < precision
    many = zeros.sum(1) >= b + 2
    q, zeros = q[many], zeros[many]
    return _kernel(zeros.to(unit).unsqueeze(2) * unit) if len(q) else q


def _kernel(rows: Tensor) -> Tensor:
    """The direction that the rows (n, r, b) see least, (n, b)."""
    kernel: Tensor = torch.linalg.eigh(rows.transpose(1, 2) @ rows).eigenvectors[:, :, 0]
    return kernel


def _distinct(q: Tensor, left: Tensor, precision: float) -> Tensor:
    """Directions without repetitions, those with most zeros first."""
    unit = left / left.norm(dim=1, keepdim=True)
    q = q[((q @ unit.T).abs() < precision).sum(1).argsort(descending=True, stable=True)]
    same = (q @ q.T).abs() > 1 - 10 * precision
    return q[~torch.tril(same, -1).any(1)]


def _independent(q: Tensor, b: int) -> Tensor | None:
    """The first b directions that are linearly independent, as columns (b, b)."""
    kept: list[Tensor] = []
    for direction in q:
        trial = torch.stack([*kept, direction])
        if float(torch.linalg.svdvals(trial)[-1]) > 1e-3:
            kept.append(direction)
        if len(kept) == b:
            return torch.stack(kept, 1)
    return None
