"""A generator as prior, on digits."""

import pytest
import torch
from scene import held, net_of, seen

from gibench.attacks import gan_prior
from gibench.attacks.gan_prior import GanPrior
from gibench.datasets import Parts
from gibench.draws import Draws
from gibench.learned.gan import Generator, learn_generator
from gibench.types import Images, View


def scene(digits: Parts, aux: Images, v: int) -> View:
    return seen(net_of("lenet", 1, 10), held(digits.test, v, 1), 10, aux=aux)


@pytest.fixture(scope="module")
def generator(few_aux: Images) -> Generator:
    return learn_generator(few_aux.x, Draws(("generator",)), 16, 20)


@pytest.fixture(scope="module")
def trained(few_aux: Images) -> Generator:
    """ggl never leaves the generator's range, so that it is as good as the generator: this one is trained longer."""
    return learn_generator(few_aux.x, Draws(("generator",)), 16, 60)


@pytest.fixture
def known(generator: Generator, monkeypatch: pytest.MonkeyPatch) -> Generator:
    """Attacks of the test get this generator instead of learning one each."""
    monkeypatch.setattr(gan_prior, "learn_generator", lambda *args: generator)
    return generator


def test_the_generator_makes_images_like_the_auxiliary_ones(digits: Parts, generator: Generator) -> None:
    """Nearer to a real digit than noise or a mean would be, and not one image for all z."""
    x = generator(Draws(("z",)).normal(64, 16)[0])
    real = digits.aux.x.flatten(1)
    nearest = torch.cdist(x.flatten(1), real).square().amin(1) / real.shape[1]
    scattered = x.roll(1, 0).flatten(1)[:, torch.randperm(1024, generator=torch.Generator().manual_seed(0))]
    assert nearest.mean() < 0.6 * (torch.cdist(scattered, real).square().amin(1) / real.shape[1]).mean()
    assert x.var(0).mean() > 0.25 * digits.aux.x.var(0).mean()


@pytest.mark.parametrize("variant", ["gias", "ggl", "gifd"])
def test_the_generator_is_the_same_afterwards_and_its_range_holds_the_latent_stage(
    digits: Parts, few_aux: Images, known: Generator, variant: str
) -> None:
    before = {name: p.clone() for name, p in known.named_parameters()}
    view, draws = scene(digits, few_aux, 3), Draws(("attack",), range(3))
    found: list[torch.Tensor] = []
    inner = known.register_forward_hook(lambda m, args, out: found.append(out.detach()))
    stage = GanPrior(variant=variant, steps=20, refine=0, latent=16).reconstruct(view, draws)
    inner.remove()
    assert torch.allclose(found[-1], stage.x.squeeze(1), atol=1e-6), "not an output of the generator"
    if variant != "ggl":
        whole = GanPrior(variant=variant, steps=20, refine=30, latent=16).reconstruct(view, draws)
        assert (whole.loss < 0.9 * stage.loss).all()
        assert not torch.allclose(whole.x, stage.x, atol=1e-2)
    assert all(torch.equal(before[name], p) for name, p in known.named_parameters())


@pytest.mark.slow
@pytest.mark.parametrize(("variant", "least"), [("gias", 8), ("ggl", 1), ("gifd", 8)])
def test_it_knows_more_than_the_class_mean(
    digits: Parts, few_aux: Images, trained: Generator, variant: str, least: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gan_prior, "learn_generator", lambda *args: trained)
    view, batch = scene(digits, few_aux, 6), held(digits.test, 6, 1)
    attack = GanPrior(variant=variant, steps=150, refine=150, latent=16)
    guess = attack.reconstruct(view, Draws(("attack",), range(6)))
    means = torch.stack([few_aux.x[few_aux.y == c].mean(0) for c in batch.y.flatten()])
    floor = (means - batch.x.squeeze(1)).square().flatten(1).mean(1)
    gain = 10 * (floor / (guess.x - batch.x).square().flatten(1).mean(1)).log10()
    assert gain.mean() > least
