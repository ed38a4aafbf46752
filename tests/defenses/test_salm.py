"""SALM: bounded noise on the pixels that matter; it spoils what a model learns and hides nothing from an inversion."""

import math
from dataclasses import replace

import pytest
import torch
from scene import net_of
from torch import Tensor
from torch.nn import functional as F

from gibench.datasets import Parts
from gibench.defenses.salm import SALM
from gibench.draws import Draws
from gibench.learned.fit import minimise
from gibench.metrics.psnr import PSNR
from gibench.registry import build
from gibench.types import Batch, Images

DRAWS = Draws(("images",))


@pytest.fixture(scope="module")
def fitted(few_aux: Images) -> SALM:
    return SALM(passes=3).fit(few_aux, Draws(("fit",)))


def of(digits: Parts, n: int = 48) -> Batch:
    return Batch(digits.client.x[:n].unsqueeze(1), digits.client.y[:n].unsqueeze(1))


@pytest.mark.parametrize("share", [0.1, 0.37, 1.0])
@pytest.mark.parametrize("radius", [2 / 255, 8 / 255, 0.2])
def test_noise_keeps_its_bound_and_its_mask(fitted: SALM, digits: Parts, radius: float, share: float) -> None:
    defense, batch = replace(fitted, radius=radius, share=share, step=radius / 4), of(digits)
    x = defense.images(batch, DRAWS).x
    moved = (x - batch.x).abs().flatten(1)
    assert x.min() >= 0
    assert x.max() <= 1
    assert radius - 1e-6 < float(moved.max()) <= radius + 1e-6
    most = math.floor(share * 1024 + 1e-9)
    assert moved.count_nonzero(1).max() <= most
    # a black pixel whose noise would be negative, or a white one, stays: elsewhere the whole mask is used
    grey = batch.x * 0.5 + 0.25
    kept = replace(defense, radius=min(radius, 0.2)).images(replace(batch, x=grey), DRAWS).x
    assert ((kept != grey).flatten(1).sum(1) > 0.97 * most).all()


def test_the_mask_is_the_top_share_by_the_sum_over_channels() -> None:
    uphill = torch.zeros(2, 3, 4, 5)
    uphill[0, :, 1, 2] = torch.tensor([-2.0, 1.0, 0.0])
    uphill[0, 0, 3, 3] = -2.5
    uphill[1, 1, 0, 4] = 0.1
    uphill[1, 2, 2, 2] = 0.3
    one = SALM(share=0.09).mask(uphill)  # floor(1.8) = 1 of 20
    assert one.nonzero().tolist() == [[0, 0, 1, 2], [1, 0, 2, 2]]
    assert SALM(share=0.1).mask(uphill)[0, 0].nonzero().tolist() == [[1, 2], [3, 3]]
    assert SALM(share=0.01).mask(uphill).sum() == 2, "at least one pixel of each image"


def test_noise_makes_the_surrogate_surer_and_opposite_noise_less_sure(fitted: SALM, digits: Parts) -> None:
    net = net_of("lenet", 1, 10)
    net.load_state_dict({name: t for name, t in fitted.state.items() if name != "classes"})
    batch = of(digits)
    x, y = batch.x.squeeze(1), batch.y.squeeze(1)
    shown = fitted.images(batch, DRAWS).x.squeeze(1)
    with torch.no_grad():
        before, after, opposite = (F.cross_entropy(net(t), y) for t in (x, shown, 2 * x - shown))
    assert after < 0.95 * before
    assert opposite > before


def test_it_depends_on_the_image_and_its_label_alone(fitted: SALM, digits: Parts) -> None:
    batch = of(digits)
    together = fitted.images(batch, DRAWS).x
    alone = fitted.images(Batch(batch.x[5:6], batch.y[5:6]), Draws(("others",))).x
    assert ((alone[0] - together[5]).abs() > 1e-5).double().mean() < 0.01
    other = fitted.images(replace(batch, y=(batch.y + 1) % 10), DRAWS).x
    assert (other != together).flatten(1).any(1).all()
    soft = fitted.images(replace(batch, y=F.one_hot(batch.y, 10).float()), DRAWS)
    assert torch.allclose(soft.x, together, atol=1e-5)
    assert soft.y.shape == (48, 1, 10)
    assert torch.equal(fitted.inference(batch, DRAWS).x, batch.x), "in use it meets clean images"


def test_no_radius_is_no_defense(fitted: SALM, digits: Parts) -> None:
    batch = of(digits)
    assert torch.equal(build("defenses", SALM.neutral).images(batch, DRAWS).x, batch.x)
    assert torch.equal(replace(fitted, radius=0).images(batch, DRAWS).x, batch.x)


@pytest.mark.parametrize(("share", "least"), [(1.0, 0.0), (0.1, 10.0)])
@pytest.mark.parametrize("radius", [8 / 255, 16 / 255])
def test_noise_alone_is_no_defense_against_inversion(
    fitted: SALM, digits: Parts, radius: float, share: float, least: float
) -> None:
    """Who reconstructs x + delta perfectly has x within the bound of the noise: 30.07 and 40.07 dB at 8/255."""
    batch = of(digits)
    shown = replace(fitted, radius=radius, share=share).images(batch, DRAWS).x
    psnr = PSNR().compare(batch.x.squeeze(1), shown.squeeze(1))
    bound = 20 * math.log10(1 / radius) + least
    assert psnr.min() >= bound - 1e-3
    assert psnr.median() <= bound + 3, "and no more than that is won by the bound"


def learned(x: Tensor, y: Tensor, test: Images, model: str = "lenet") -> tuple[float, float]:
    """Error of a fresh net on what it is trained on, accuracy on clean test images."""
    net = net_of(model, x.shape[1], int(test.y.max()) + 1, seed=1).train()
    minimise(net.parameters(), lambda c, _: F.cross_entropy(net(x[c]), y[c]), len(y), epochs=12, lr=2e-3, draws=DRAWS)
    with torch.no_grad():
        error, right = ((net(t).argmax(1) == u).double().mean() for t, u in ((x, y), (test.x, test.y)))
    return 1 - float(error), float(right)


def test_who_trains_on_protected_images_learns_less(digits: Parts) -> None:
    """On digits, whose contrast is high, that takes more noise than 8/255, which costs no more than 2 points."""
    defense = SALM(radius=0.25, share=1.0, step=0.02).fit(digits.aux, Draws(("fit",)))
    batch = of(digits, len(digits.client.y))
    shown, y = defense.images(batch, DRAWS).x.squeeze(1), digits.client.y
    error, protected = learned(shown, y, digits.test)
    _, raw = learned(digits.client.x, y, digits.test)
    assert error < 0.01, "the protected images are learnt"
    assert raw > 0.93
    assert protected < raw - 0.04, "and what was learnt is not the images"
    noise = torch.rand(shown.shape, generator=torch.Generator().manual_seed(0)).sub(0.5).sign() * 0.25
    _, random = learned((digits.client.x + noise).clamp(0, 1), y, digits.test)
    assert protected < random, "random noise of that size does less"


def test_it_serves_colour_images_and_a_deeper_surrogate(ihc: Parts) -> None:
    aux = ihc.aux
    defense = SALM(surrogate="convnet", passes=1, steps=4).fit(Images(aux.x[:16], aux.y[:16]), Draws(("fit",)))
    batch = Batch(aux.x[:8].view(4, 2, *aux.x.shape[1:]), aux.y[:8].view(4, 2))
    moved = (defense.images(batch, DRAWS).x != batch.x).any(2).flatten(2).double().mean(2)
    assert (moved > 0.08).all()
    assert (moved <= 0.1).all()
