"""Alpaydin and Kaynak, UCI 1998: handwritten digits that scikit-learn ships, 8x8 brought to 32x32, no download."""

from __future__ import annotations

import hashlib
from typing import ClassVar

import torch
from pydantic.dataclasses import dataclass
from torch.nn.functional import interpolate

from gibench.datasets import Dataset, Parts
from gibench.datasets.parts import NAMES, cut, stratified
from gibench.draws import Draws
from gibench.errors import InputError

SHARES = (0.4, 0.3, 0.05, 0.05, 0.2)  # of every class: client, aux, val, tune, test
# Of the pixels, one byte each, then the labels, one byte each.
SHA256 = "87ff0c9e40dc7e2c0e34e7257799c2e3f3aec1a016363bb11cad869ec428a826"


@dataclass(frozen=True)
class Digits(Dataset):
    """x (n, 1, 32, 32): counts 0..16 over 16, bilinear to four times the side (align_corners=False), clamped.

    10 classes. There is no published split: of the 1797 images every class is cut in the shares above.
    """

    citation: ClassVar[str] = (
        "Alpaydin, Kaynak: Optical recognition of handwritten digits. UCI Machine Learning Repository, 1998."
        " doi:10.24432/C50P49"
    )
    licence: ClassVar[str] = "CC BY 4.0"
    classes = 10
    channels = 1
    side = 32
    checksum = f"sha256:{SHA256}"

    def load(self) -> Parts:
        from sklearn.datasets import load_digits

        published = load_digits()
        counts, labels = published.images.astype("uint8"), published.target.astype("uint8")
        if (found := hashlib.sha256(counts.tobytes() + labels.tobytes()).hexdigest()) != SHA256:
            raise InputError(f"digits: scikit-learn's images have SHA-256 {found}, expected {SHA256}: another release")
        y = torch.from_numpy(labels).long()
        x = torch.from_numpy(counts)[:, None].float() / 16
        x = interpolate(x, scale_factor=4, mode="bilinear", align_corners=False).clamp(0, 1)
        return cut(x, y, digits_split(y))


def digits_split(y: torch.Tensor) -> dict[str, torch.Tensor]:
    """Where each part lies, from all labels (n,)."""
    return dict(zip(NAMES, stratified(y, SHARES, Draws(("split", "digits"))), strict=True))
