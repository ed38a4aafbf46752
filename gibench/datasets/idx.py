"""The IDX files of MNIST and its drop-in successors: a header of big-endian sizes, then bytes."""

from __future__ import annotations

import torch
from torch import Tensor

from gibench.datasets import Parts
from gibench.datasets.files import File
from gibench.datasets.parts import cut, published_split

NAMES = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")


def idx_files(folder: str, url: str, md5s: tuple[str, str, str, str]) -> tuple[File, ...]:
    """The four files in the folders of torchvision's loaders; the MD5s are those of the unpacked files."""
    return tuple(
        File(f"{folder}/raw/{name}-ubyte", md5, f"{url}{name}-ubyte.gz") for name, md5 in zip(NAMES, md5s, strict=True)
    )


def idx_array(file: File) -> Tensor:
    """The bytes of one IDX file in their published shape, read by torchvision.

    Its reader is used and not its dataset class, which prefers an unchecked `processed/*.pt` where one lies around.
    """
    from torchvision.datasets.mnist import read_sn3_pascalvincent_tensor

    array: Tensor = read_sn3_pascalvincent_tensor(str(file.path))
    return array


def idx_parts(name: str, files: tuple[File, ...]) -> Parts:
    """The parts of 28x28 grey images, 60000 for training and 10000 for test."""
    train_x, train_y, test_x, test_y = (idx_array(file) for file in files)
    places = published_split(name, train_y, None, test_y)
    return cut(torch.cat([train_x, test_x])[:, None], torch.cat([train_y, test_y]), places)
