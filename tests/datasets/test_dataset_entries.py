"""What every dataset promises: shapes, ranges, classes, a fixed order, a licence, a citation and a known checksum."""

import os
import subprocess
import sys
from dataclasses import fields

import pytest
import torch

from gibench import registry
from gibench.datasets import Dataset, Parts
from gibench.datasets.medmnist_files import SETS
from gibench.errors import InputError

EMBEDDED = ("ihc", "digits")
NAMES = registry.names("datasets")


def built(spec: str) -> Dataset:
    entry = registry.build("datasets", spec)
    assert isinstance(entry, Dataset)
    return entry


@pytest.fixture(scope="module", params=NAMES)
def loaded(request: pytest.FixtureRequest) -> tuple[Dataset, Parts]:
    entry = built(request.param)
    if request.param not in EMBEDDED and "GIBENCH_DATA" not in os.environ:
        pytest.skip("set GIBENCH_DATA to a folder with the published files")
    try:
        return entry, entry.load()
    except InputError as error:
        if "is missing" not in str(error):
            raise
        pytest.skip(str(error))


def test_all_datasets_are_found() -> None:
    assert {*SETS, *EMBEDDED, "medmnist", "mnist", "fashion_mnist", "cifar10"} <= set(NAMES)
    assert len(SETS) == 12
    assert not {"files", "parts", "idx", "medmnist_files"} & set(NAMES)


def test_listing_names_loads_no_heavy_library() -> None:
    code = (
        "import sys; from gibench import registry; [registry.build('datasets', n).identity()"
        " for n in registry.names('datasets')];"
        "print(*{'torchvision', 'medmnist', 'sklearn', 'skimage', 'scipy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


@pytest.mark.parametrize("name", NAMES)
def test_entry_describes_itself(name: str) -> None:
    entry = built(name)
    kind, digest = entry.checksum.split(":")
    assert len(digest) == {"md5": 32, "sha256": 64}[kind]
    assert entry.identity()["checksum"] == entry.checksum
    assert entry.licence
    assert any(year in entry.citation for year in ("1998", "2009", "2014", "2017", "2023"))
    assert len(entry.summary()) > 40
    assert built(entry.spec()) == entry


def test_shapes_ranges_and_classes(loaded: tuple[Dataset, Parts]) -> None:
    entry, parts = loaded
    for part in fields(Parts):
        images = getattr(parts, part.name)
        n = len(images.y)
        assert n >= 30, part.name
        assert images.x.shape == (n, entry.channels, entry.side, entry.side)
        assert (images.x.dtype, images.y.dtype) == (torch.float32, torch.int64)
        assert images.x.is_contiguous()
        assert images.x.min() >= 0
        assert 0.9 < images.x.max() <= 1
        assert images.y.unique().tolist() == list(range(entry.classes)), part.name
        assert images.x.flatten(1).std(1).mean() > 0.05


def test_no_victim_is_among_the_attackers_images(loaded: tuple[Dataset, Parts]) -> None:
    """By content, for the first victims; doubles that the publisher shipped are few."""
    _, parts = loaded
    distances = torch.cdist(parts.test.x[:64].flatten(1).double(), parts.aux.x[:5000].flatten(1).double())
    assert (distances.min(1).values < 1e-3).sum() <= 2


def test_the_order_is_fixed_and_leaves_the_global_generator_alone() -> None:
    for name in EMBEDDED:
        before = torch.get_rng_state()
        first, again = built(name).load(), built(name).load()
        assert torch.equal(before, torch.get_rng_state())
        for part in fields(Parts):
            a, b = getattr(first, part.name), getattr(again, part.name)
            assert torch.equal(a.x, b.x)
            assert torch.equal(a.y, b.y)
        assert first.test.y[:64].unique().numel() == built(name).classes


def test_misspelt_name_suggests_the_nearest() -> None:
    with pytest.raises(InputError, match="did you mean 'pneumoniamnist'"):
        built("pneumoniamnst")
