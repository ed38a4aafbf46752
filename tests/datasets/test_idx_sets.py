"""MNIST and its successor: our reader agrees with torchvision's on the original files."""

import os
from pathlib import Path

import pytest
import torch

from gibench.datasets import fashion_mnist, mnist
from gibench.datasets.files import File
from gibench.datasets.idx import idx_array


def test_header_gives_the_shape(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIBENCH_DATA", str(tmp_path))
    (tmp_path / "some").write_bytes(bytes([0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 3, *range(6)]))
    assert idx_array(File("some", "", "")).tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize("module", [mnist, fashion_mnist])
def test_same_as_torchvision(module: object) -> None:
    import torchvision.datasets

    files = module.FILES  # type: ignore[attr-defined]
    if "GIBENCH_DATA" not in os.environ or not all(file.path.exists() for file in files):
        pytest.skip(f"set GIBENCH_DATA to a folder with {files[0].place}")
    folder = files[0].place.split("/")[0]
    loader = getattr(torchvision.datasets, folder)
    for train, (images, labels) in ((True, files[:2]), (False, files[2:])):
        theirs = loader(os.environ["GIBENCH_DATA"], train=train)
        assert torch.equal(theirs.data, idx_array(images))
        assert torch.equal(theirs.targets, idx_array(labels).long())


@pytest.mark.parametrize("module", [mnist, fashion_mnist])
def test_places_and_addresses_are_torchvisions(module: object) -> None:
    import torchvision.datasets

    files = module.FILES  # type: ignore[attr-defined]
    loader = getattr(torchvision.datasets, files[0].place.split("/")[0])
    assert {file.url for file in files} == {loader.mirrors[0] + name for name, _ in loader.resources}
    assert all(file.zipped for file in files)
