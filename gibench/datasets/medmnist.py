"""Yang et al., Scientific Data 2023: MedMNIST v2, twelve 2-D sets of medical images, X-ray to histology, 28 to 224."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import field_validator
from pydantic.dataclasses import dataclass

from gibench.datasets import Dataset, Parts
from gibench.datasets.files import File, checksum_of, ensure
from gibench.datasets.medmnist_files import SETS, published_file
from gibench.datasets.parts import cut, published_split
from gibench.errors import suggest

SHORT_NAMES = {flag: {"flag": flag} for flag in SETS}


@dataclass(frozen=True)
class MedMnist(Dataset):
    """x (n, 1 or 3, size, size), split as published; the order hangs on the flag: all sizes share their victims.

    chestmnist has 14 findings per image, of which several may hold; here it has 2 classes, no finding or any.
    retinamnist's grades are taken as 5 classes.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"data_file"})
    citation: ClassVar[str] = (
        "Yang, Shi, Wei, Liu, Zhao, Ke, Pfister, Ni: MedMNIST v2 - a large-scale lightweight benchmark for 2D and 3D"
        " biomedical image classification. Scientific Data 10:41, 2023. doi:10.1038/s41597-022-01721-8"
    )
    licence: ClassVar[str] = "CC BY 4.0; dermamnist CC BY-NC 4.0"

    flag: str = "pneumoniamnist"
    size: Literal[28, 64, 128, 224] = 28

    @field_validator("flag")
    @classmethod
    def _known(cls, flag: str) -> str:
        if flag.endswith("3d"):
            raise ValueError(f"3-D sets cannot be used, only the 2-D ones: {', '.join(SETS)}")
        if flag not in SETS:
            raise suggest("medmnist flag", flag, list(SETS))
        return flag

    def spec(self) -> str:
        return self.flag if self.size == 28 else f"{self.flag}(size={self.size})"

    @property
    def classes(self) -> int:
        return SETS[self.flag].classes

    @property
    def channels(self) -> int:
        return SETS[self.flag].channels

    @property
    def side(self) -> int:
        return self.size

    @property
    def checksum(self) -> str:
        return checksum_of((self._file,))

    def ensure(self) -> None:
        ensure(self.flag, (self._file,))

    def load(self) -> Parts:
        self.ensure()
        with np.load(self._file.path) as arrays:
            x = [torch.from_numpy(arrays[f"{split}_images"]) for split in ("train", "val", "test")]
            train, val, test = (one_label(arrays[f"{split}_labels"]) for split in ("train", "val", "test"))
        pixels = torch.cat(x)
        pixels = pixels[:, None] if self.channels == 1 else pixels.permute(0, 3, 1, 2)
        return cut(pixels, torch.cat([train, val, test]), published_split(self.flag, train, val, test))

    @property
    def _file(self) -> File:
        return published_file(self.flag, self.size)


def one_label(published: NDArray[np.integer[Any]]) -> torch.Tensor:
    """(n, 1) classes or (n, 14) findings -> (n,) classes."""
    labels = torch.from_numpy(published.astype("int64"))
    return labels[:, 0] if labels.shape[1] == 1 else labels.any(1).long()
