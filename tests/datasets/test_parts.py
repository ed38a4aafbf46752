"""The rule of the splits, by index."""

import pytest
import torch

from gibench.datasets.parts import NAMES, cut, published_split, stratified
from gibench.draws import Draws


def labels(n: int, seed: int) -> torch.Tensor:
    return torch.randint(0, 3, (n,), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("val", [None, labels(80, 1)])
def test_parts_cover_everything_once(val: torch.Tensor | None) -> None:
    places = published_split("any", labels(301, 0), val, labels(50, 2))
    assert tuple(places) == NAMES
    total = 301 + 50 + (0 if val is None else 80)
    assert torch.cat(list(places.values())).sort().values.tolist() == list(range(total))


def test_published_splits_are_not_mixed() -> None:
    places = published_split("any", labels(300, 0), labels(80, 1), labels(50, 2))
    source = {part: sorted({0 if i < 300 else 1 if i < 380 else 2 for i in at.tolist()}) for part, at in places.items()}
    assert source == {"client": [0], "aux": [0], "val": [1], "tune": [1], "test": [2]}
    without = published_split("any", labels(300, 0), None, labels(50, 2))
    assert all((at < 300).all() for part, at in without.items() if part != "test")
    assert (without["test"] >= 300).all()
    assert abs(len(without["val"]) + len(without["tune"]) - 30) <= 3


def test_halves_keep_the_class_shares() -> None:
    y = torch.tensor([0] * 90 + [1] * 10)
    first, second = stratified(y, (0.5, 0.5), Draws(("any",)))
    assert y[first].bincount().tolist() == y[second].bincount().tolist() == [45, 5]
    assert y[first].tolist() != sorted(y[first].tolist())


def test_the_order_hangs_on_the_name_alone_and_is_the_stored_one() -> None:
    """These numbers are protocol: another order is another benchmark."""
    train, test = labels(301, 0), labels(50, 2)
    torch.manual_seed(1)
    places = published_split("mnist", train, None, test)
    torch.manual_seed(2)
    again = published_split("mnist", train, None, test)
    assert all(torch.equal(places[part], again[part]) for part in NAMES)
    assert not torch.equal(places["test"], published_split("fashion_mnist", train, None, test)["test"])
    assert (places["test"][:8] - 301).tolist() == [5, 33, 15, 23, 35, 18, 49, 25]
    assert places["client"][:8].tolist() == [180, 251, 239, 59, 70, 23, 17, 33]


def test_cut_scales_bytes_and_pairs_labels_with_images() -> None:
    x = torch.arange(4, dtype=torch.uint8).mul(85).reshape(4, 1, 1, 1)
    parts = cut(x, torch.arange(4), {part: torch.tensor([i % 4]) for i, part in enumerate(NAMES)})
    assert [getattr(parts, part).x.item() for part in NAMES] == pytest.approx([0, 1 / 3, 2 / 3, 1, 0])
    assert [getattr(parts, part).y.item() for part in NAMES] == [0, 1, 2, 3, 0]
