"""The slide: parts share no pixel, patches are what they claim, labels follow the stain."""

import hashlib
import itertools

import pytest
import skimage.data
import torch
from skimage.color import rgb2hed

from gibench.datasets import ihc
from gibench.datasets.ihc import Ihc, corners
from gibench.datasets.parts import NAMES
from gibench.errors import InputError


def covered(part: str, margin: int = 0) -> torch.Tensor:
    mask = torch.zeros(512, 512, dtype=torch.bool)
    for row, column in corners(part).tolist():
        mask[max(row - margin, 0) : row + 32 + margin, max(column - margin, 0) : column + 32 + margin] = True
    return mask


def test_parts_share_no_pixel_and_keep_a_gap() -> None:
    for one, other in itertools.combinations(NAMES, 2):
        assert not (covered(one, margin=8) & covered(other)).any(), (one, other)
    assert (covered("client", margin=9) & covered("aux")).any()


def test_patches_lie_on_the_slide_and_only_once() -> None:
    for part in NAMES:
        at = corners(part)
        assert at.min() >= 0
        assert at.max() <= 512 - 32
        assert len(at.unique(dim=0)) == len(at)
    sizes = {part: len(corners(part)) for part in NAMES}
    least = {"client": 1500, "aux": 1000, "val": 100, "tune": 64, "test": 300}
    assert all(sizes[part] >= least[part] for part in NAMES), sizes


def test_images_are_the_pixels_at_the_corners() -> None:
    slide = torch.from_numpy(skimage.data.immunohistochemistry())
    parts = Ihc().load()
    for part in NAMES:
        images = getattr(parts, part)
        for i in (0, 17, len(images.y) - 1):
            row, column = corners(part)[i].tolist()
            patch = slide[row : row + 32, column : column + 32].permute(2, 0, 1) / 255
            assert torch.allclose(images.x[i], patch)


@pytest.mark.parametrize("levels", [2, 5])
def test_labels_rise_with_the_stain(levels: int) -> None:
    stain = torch.from_numpy(rgb2hed(skimage.data.immunohistochemistry())[..., 2].copy())
    y = Ihc(levels=levels).load().test.y  # type: ignore[arg-type]
    means = torch.stack([stain[r : r + 32, c : c + 32].mean() for r, c in corners("test").tolist()])
    for level in range(levels - 1):
        assert means[y == level].max() < means[y == level + 1].min()


def test_every_part_has_every_level_in_fair_shares() -> None:
    parts = Ihc().load()
    for part in NAMES:
        shares = getattr(parts, part).y.bincount(minlength=5) / len(getattr(parts, part).y)
        assert shares.min() > 0.1, part
        assert shares.max() < 0.3, part
    assert torch.cat([parts.client.y, parts.aux.y]).bincount().tolist() == pytest.approx([4046 / 5] * 5, abs=1)


def test_first_victims_are_spread_over_the_region() -> None:
    tiles = corners("test") // (ihc.TILE + ihc.GAP)
    assert len(tiles[:64].unique(dim=0)) == len(tiles.unique(dim=0)) == 5


def test_stored_order() -> None:
    assert corners("test")[:4].tolist() == [[376, 332], [448, 152], [468, 56], [416, 60]]


def test_checksum_is_that_of_the_slide_and_another_slide_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    slide = skimage.data.immunohistochemistry()
    assert Ihc().checksum == "sha256:" + hashlib.sha256(slide.tobytes()).hexdigest()
    monkeypatch.setattr(skimage.data, "immunohistochemistry", lambda: slide ^ 1)
    with pytest.raises(InputError, match="expected c5b3ef50"):
        Ihc().load()
