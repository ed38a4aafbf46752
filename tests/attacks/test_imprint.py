"""Bins of brightness planted in front of a model, on digits and stain patches."""

from dataclasses import replace

import pytest
import torch
from scene import held, net_of, same, seen
from torch import Tensor

from gibench.attacks.imprint import Imprint
from gibench.datasets import Parts
from gibench.draws import Draws
from gibench.errors import InputError
from gibench.types import Batch, Guess, Images

F64 = torch.float64


def steal(parts: Parts, attack: Imprint, model: str, batch: Batch, aux: Images | None) -> tuple[Guess, Tensor]:
    """The guess, and for every image in how many rows it is active, (v, b)."""
    c, k = parts.test.x.shape[1], int(parts.test.y.max()) + 1
    net = attack.plant(net_of(model, c, k).to(batch.x), tuple(batch.x.shape[1:]), aux, Draws(("plant",)))
    view = seen(net, batch, k, labels=False, aux=aux, planted=True)
    height = (net[1](batch.x.flatten(2)) > 0).sum(2)
    return attack.answer(view, Draws(("attack",), range(len(batch.y)))), height


def alone(height: Tensor) -> Tensor:
    return (height.unsqueeze(2) == height.unsqueeze(1)).sum(2) == 1


def nearest(truth: Tensor, guess: Tensor) -> Tensor:
    """Mean squared error of each true image to the nearest guess, (v, b)."""
    return (truth.unsqueeze(2) - guess.unsqueeze(1)).square().flatten(3).mean(3).amin(2)


@pytest.mark.parametrize("dtype", [F64, torch.float32])
@pytest.mark.parametrize("model", ["lenet", "mlp", "convnet(width=16)"])
@pytest.mark.parametrize("source", ["digits", "ihc"])
def test_an_image_alone_in_its_bin_is_found(
    source: str, model: str, dtype: torch.dtype, request: pytest.FixtureRequest
) -> None:
    parts: Parts = request.getfixturevalue(source)
    batch = held(parts.test, 4, 8, dtype)
    guess, height = steal(parts, Imprint(), model, batch, parts.aux)
    assert alone(height).double().mean() > 0.7
    assert nearest(batch.x, guess.x)[alone(height)].max() < 1e-9
    assert guess.x.dtype == dtype


@pytest.mark.parametrize("direction", ["mean", "random"])
@pytest.mark.parametrize("with_aux", [True, False])
def test_either_direction_works_with_and_without_auxiliary_images(
    digits: Parts, with_aux: bool, direction: str
) -> None:
    batch = held(digits.test, 8, 4, F64)
    guess, height = steal(digits, Imprint(direction=direction), "lenet", batch, digits.aux if with_aux else None)
    assert alone(height).double().mean() > 0.7
    assert nearest(batch.x, guess.x)[alone(height)].max() < 1e-9


def test_as_many_are_found_as_chance_puts_alone(digits: Parts) -> None:
    """60 batches of 8 from images that set the cuts, so that every bin is as likely as any other."""
    order = Draws(("order",)).permutation(len(digits.aux.y))[0][:480]
    pool = Images(digits.aux.x[order], digits.aux.y[order])
    guess, _ = steal(digits, Imprint(bins=64), "lenet", held(pool, 60, 8, F64), digits.aux)
    found = (nearest(held(pool, 60, 8, F64).x, guess.x) < 1e-9).double().mean()
    assert abs(found - (1 - 1 / 64) ** 7) < 0.05
    assert abs(float(guess.loss.mean()) - (1 - found) / 2) < 0.05  # two in a bin: one place of two stays empty


def test_the_given_net_is_left_alone_and_still_there(digits: Parts) -> None:
    net = net_of("lenet", 1, 10)
    before = {k: p.clone() for k, p in net.state_dict().items()}
    planted = Imprint().plant(net, (4, 1, 32, 32), digits.aux, Draws(("plant",)))
    assert same(before, net.state_dict())
    assert same(before, planted[-1].state_dict())
    assert planted[-1] is not net
    assert not planted.training
    assert planted(digits.test.x[:2]).shape == (2, 10)


def test_images_that_share_a_bin_leave_the_substitute(digits: Parts) -> None:
    batch = held(digits.test, 3, 1, F64)
    twins = Batch(batch.x.repeat(1, 3, 1, 1, 1), batch.y.repeat(1, 3))
    guess, _ = steal(digits, Imprint(), "lenet", twins, None)
    assert (guess.x == 0.5).flatten(2).all(2).sum(1).tolist() == [2, 2, 2]
    assert guess.loss.tolist() == pytest.approx([2 / 3] * 3)


def test_an_honest_server_cannot(digits: Parts) -> None:
    view = seen(net_of("lenet", 1, 10), held(digits.test, 2, 2), 10)
    with pytest.raises(InputError, match="needs active_server"):
        Imprint().answer(replace(view, planted=False), Draws(("attack",), range(2)))
