"""Krizhevsky, 2009: small colour photographs of ten kinds of animals and vehicles, 32x32 RGB."""

from __future__ import annotations

import tarfile
import tempfile
from typing import ClassVar

import numpy as np
import torch
from pydantic.dataclasses import dataclass

from gibench.datasets import Dataset, Parts
from gibench.datasets.files import File, checksum_of, ensure
from gibench.datasets.parts import cut, published_split

ARCHIVE = File(
    "cifar-10-python.tar.gz",
    "c58f30108f718f92721af3b95e74349a",
    "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
)


@dataclass(frozen=True)
class Cifar10(Dataset):
    """x (n, 3, 32, 32), 10 classes, 50000 for training and 10000 for test."""

    needs: ClassVar[frozenset[str]] = frozenset({"data_file"})
    citation: ClassVar[str] = (
        "Krizhevsky: Learning multiple layers of features from tiny images. Technical report, University of Toronto,"
        " 2009"
    )
    licence: ClassVar[str] = "no licence stated by its publisher; collected from the web for research"
    classes = 10
    channels = 3
    side = 32
    checksum = checksum_of((ARCHIVE,))

    def ensure(self) -> None:
        ensure(self.entry_name(), (ARCHIVE,))

    def load(self) -> Parts:
        self.ensure()
        from torchvision.datasets import CIFAR10

        # The archive holds pickles: only those of the archive just checked are read, never a folder beside it.
        with tempfile.TemporaryDirectory() as room, tarfile.open(ARCHIVE.path) as archive:
            archive.extractall(room, filter="data")
            train, test = CIFAR10(room, train=True), CIFAR10(room, train=False)
        train_y, test_y = torch.tensor(train.targets), torch.tensor(test.targets)
        x = torch.from_numpy(np.concatenate([train.data, test.data])).permute(0, 3, 1, 2)
        return cut(x, torch.cat([train_y, test_y]), published_split(self.entry_name(), train_y, None, test_y))
