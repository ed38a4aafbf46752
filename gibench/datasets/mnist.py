"""LeCun et al., Proc. IEEE 1998: scanned handwritten digits, 28x28 grey, the field's easiest common ground."""

from __future__ import annotations

from typing import ClassVar

from pydantic.dataclasses import dataclass

from gibench.datasets import Dataset, Parts
from gibench.datasets.files import checksum_of, ensure
from gibench.datasets.idx import idx_files, idx_parts

FILES = idx_files(
    "MNIST",
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    (
        "6bbc9ace898e44ae57da46a324031adb",
        "a25bea736e30d166cdddb491f175f624",
        "2646ac647ad5339dbf082846283269ea",
        "27ae3e4e09519cfbb04c329615203637",
    ),
)


@dataclass(frozen=True)
class Mnist(Dataset):
    """x (n, 1, 28, 28), 10 classes."""

    needs: ClassVar[frozenset[str]] = frozenset({"data_file"})
    citation: ClassVar[str] = (
        "LeCun, Bottou, Bengio, Haffner: Gradient-based learning applied to document recognition. Proc."
        " IEEE 86(11), 1998. doi:10.1109/5.726791"
    )
    licence: ClassVar[str] = "CC BY-SA 3.0 as stated by its redistributors; copyright LeCun and Cortes"
    classes = 10
    channels = 1
    side = 28
    checksum = checksum_of(FILES)

    def ensure(self) -> None:
        ensure(self.entry_name(), FILES)

    def load(self) -> Parts:
        self.ensure()
        return idx_parts(self.entry_name(), FILES)
