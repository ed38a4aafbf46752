"""Xiao et al., 2017: photographs of clothing from a shop's catalogue, 28x28 grey, as large as MNIST but harder."""

from __future__ import annotations

from typing import ClassVar

from pydantic.dataclasses import dataclass

from gibench.datasets import Dataset, Parts
from gibench.datasets.files import checksum_of, ensure
from gibench.datasets.idx import idx_files, idx_parts

FILES = idx_files(
    "FashionMNIST",
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    (
        "f4a8712d7a061bf5bd6d2ca38dc4d50a",
        "9018921c3c673c538a1fc5bad174d6f9",
        "8181f5470baa50b63fa0f6fddb340f0a",
        "15d484375f8d13e6eb1aabb0c3f46965",
    ),
)


@dataclass(frozen=True)
class FashionMnist(Dataset):
    """x (n, 1, 28, 28), 10 classes."""

    needs: ClassVar[frozenset[str]] = frozenset({"data_file"})
    citation: ClassVar[str] = (
        "Xiao, Rasul, Vollgraf: Fashion-MNIST: a novel image dataset for benchmarking machine learning"
        " algorithms. 2017. arXiv:1708.07747"
    )
    licence: ClassVar[str] = "MIT"
    classes = 10
    channels = 1
    side = 28
    checksum = checksum_of(FILES)

    def ensure(self) -> None:
        ensure(self.entry_name(), FILES)

    def load(self) -> Parts:
        self.ensure()
        return idx_parts(self.entry_name(), FILES)
