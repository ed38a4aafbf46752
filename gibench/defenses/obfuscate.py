"""SVD and PCA obfuscation (Popescu et al. 2023; only its abstract was known): images lose or hide their layout."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, ClassVar, Literal, Self

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from gibench.defenses import Defense
from gibench.draws import Draws
from gibench.types import Batch, Images, Match, View
from gibench.undo import study_images, undoing

BASIS = 1024  # auxiliary images that a basis is computed from


@dataclass(frozen=True)
class Obfuscate(Defense):
    """`svd_lowrank`: each channel keeps its round((1 - strength) min(h, w)) largest singular values, at least one.
    `pca`: an image is rebuilt from the round((1 - strength) n) first of n principal components, at least one.
    `svd_keyed`: singular vectors are rotated by a secret key of all clients; strength scales its angles.

    The key and the basis are learned state: an attacker who is granted it is the paper's informed actor. The other
    one can attack obliviously only: pairs that it makes are pairs of other keys.
    Images are obfuscated at inference too. Only svd_lowrank has a neutral end.
    """

    citation: ClassVar[str] = (
        "Popescu, Nita, Taca, Vizitiu, Itu: Privacy-preserving medical image classification through deep learning and "
        "matrix decomposition, MED 2023, arXiv 2308.16530"
    )
    place = "data"
    knob = "strength"
    sweep = (0.0, 0.8, 0.875, 0.91, 0.94, 0.97)
    neutral = "obfuscate(strength=0)"
    match_needs: ClassVar[frozenset[str]] = frozenset({"aux_data", "defense_params"})
    kind: Literal["svd_lowrank", "svd_keyed", "pca"] = "svd_lowrank"
    strength: Annotated[float, Field(ge=0, le=1)] = 0.875

    def fit(self, aux: Images, draws: Draws) -> Self:
        x = aux.x[:BASIS]
        if self.kind == "svd_lowrank":
            return self
        if self.kind == "pca":
            flat = x.flatten(1).double()
            basis = torch.linalg.svd(flat - flat.mean(0), full_matrices=False).Vh
            return replace(self, state={"mean": x.mean(0), "basis": basis.to(x)})
        (rows,), (columns,) = (draws.at(n).normal(s, s, like=x) for n, s in zip("hw", x.shape[-2:], strict=True))
        return replace(self, state={"mean": x.mean(0), "rows": angles(rows), "columns": angles(columns)})

    def images(self, batch: Batch, draws: Draws) -> Batch:
        x = batch.x.detach()
        if self.kind == "svd_lowrank":
            kept = max(1, round((1 - self.strength) * min(x.shape[-2:])))
            return batch if kept == min(x.shape[-2:]) else replace(batch, x=low_rank(x, kept).clamp(0, 1))
        centred = x - self.state["mean"]
        if self.kind == "pca":
            basis = self.state["basis"]
            basis = basis[: max(1, round((1 - self.strength) * len(basis)))]
            part = (centred.flatten(2) @ basis.T @ basis).view_as(x)
            return replace(batch, x=(self.state["mean"] + part).clamp(0, 1))
        left, right = self.rotations()
        return replace(batch, x=(4 * (left @ centred @ right.T)).sigmoid())  # a public map to [0, 1], invertible

    def rotations(self) -> tuple[Tensor, Tensor]:
        """The orthogonal matrices that rotate left and right singular vectors."""
        return torch.matrix_exp(self.strength * self.state["rows"]), torch.matrix_exp(
            self.strength * self.state["columns"]
        )

    def study(self, aux: Images, draws: Draws) -> Mapping[str, Tensor]:
        return study_images(self, aux, draws)

    def match(self, view: View) -> Match:
        """Invert to the obfuscated image, then undo: exactly where the key is all there is, else by a network."""
        if self.kind != "svd_keyed":
            return Match(post=undoing(view))
        left, right = self.rotations()
        return Match(post=lambda x: left.T @ (x.clamp(1e-6, 1 - 1e-6).logit() / 4) @ right + self.state["mean"])


def low_rank(x: Tensor, kept: int) -> Tensor:
    """The best approximation of each channel (..., h, w) by `kept` singular values."""
    u, s, v = torch.linalg.svd(x, full_matrices=False)
    out: Tensor = (u[..., :kept] * s[..., None, :kept]) @ v[..., :kept, :]
    return out


def angles(noise: Tensor) -> Tensor:
    """A random skew matrix; as a rotation it turns by angles up to about pi."""
    out: Tensor = (noise - noise.T) * (torch.pi / (8 * len(noise)) ** 0.5)
    return out
