"""The digits: the upsampling rule, the split and the checksum."""

import hashlib

import pytest
import sklearn.datasets
import torch

from gibench.datasets.digits import SHARES, Digits, digits_split
from gibench.datasets.parts import NAMES
from gibench.errors import InputError


def test_split_is_disjoint_stratified_and_complete() -> None:
    y = torch.from_numpy(sklearn.datasets.load_digits().target)
    places = digits_split(y)
    assert torch.cat([places[part] for part in NAMES]).sort().values.tolist() == list(range(1797))
    for part, share in zip(NAMES, SHARES, strict=True):
        assert (y[places[part]].bincount() - share * y.bincount()).abs().max() <= 1
    assert places["test"][:6].tolist() == [215, 897, 1376, 1766, 108, 1600]


def test_images_follow_the_stated_rule() -> None:
    published = sklearn.datasets.load_digits()
    parts, places = Digits().load(), digits_split(torch.from_numpy(published.target))
    for part in NAMES:
        images = getattr(parts, part)
        small = torch.from_numpy(published.images)[places[part]] / 16
        assert images.y.tolist() == published.target[places[part].numpy()].tolist()
        # away from the border the mean of the four middle pixels of a 4x4 block is the pixel it came from
        middle = images.x[:, 0].unfold(1, 4, 4).unfold(2, 4, 4)[..., 1:3, 1:3].double()
        assert torch.corrcoef(torch.stack([middle.mean((-1, -2)).flatten(), small.flatten()]))[0, 1] > 0.99
        # the outermost row repeats the border pixels, weighted along the row alone: its corner is the corner pixel
        assert torch.allclose(images.x[:, 0, 0, 0].double(), small[:, 0, 0])
        # the second pixel of the second block: an eighth from the block before, seven eighths its own
        assert torch.allclose(images.x[:, 0, 0, 5].double(), small[:, 0, 0] / 8 + small[:, 0, 1] * 7 / 8)


def test_checksum_is_that_of_the_arrays_and_others_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    published = sklearn.datasets.load_digits()
    raw = published.images.astype("uint8").tobytes() + published.target.astype("uint8").tobytes()
    assert Digits().checksum == "sha256:" + hashlib.sha256(raw).hexdigest()
    published.images[0, 0, 0] += 1
    monkeypatch.setattr(sklearn.datasets, "load_digits", lambda: published)
    with pytest.raises(InputError, match="SHA-256"):
        Digits().load()
