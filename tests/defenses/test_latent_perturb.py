"""Latent perturbation, learned on a few digits."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from scene import held, net_of, seen
from torch import Tensor
from torch.nn import functional as F

from gibench.datasets import Parts
from gibench.defenses.latent_perturb import LatentPerturb
from gibench.draws import Draws
from gibench.learned.autoencoder import Autoencoder
from gibench.learned.fit import seeded
from gibench.learned.inverter import best_inverter, families
from gibench.store import Store
from gibench.types import Batch, Images

V = 40
QUICK = LatentPerturb(autoencoder_epochs=1, epochs=1)


def sent(defense: LatentPerturb, batch: Batch, stream: str = "m") -> Tensor:
    return defense.images(batch, Draws((stream,), range(len(batch.y)))).x


def latents(defense: LatentPerturb, x: Tensor, stream: str = "m") -> tuple[Tensor, Tensor]:
    """The latent of the images and the perturbed one that is decoded, as the defense itself computes them."""
    parts = defense._parts(x)
    moved: list[Tensor] = []
    parts["autoencoder"].decode.register_forward_pre_hook(lambda module, args: moved.append(args[0]))
    z = parts["autoencoder"].encode(x)
    noise = Draws((stream,), range(len(x))).normal(*z.shape[1:])
    defense._perturbed(parts, x, noise)
    return z.flatten(1), moved[0].flatten(1)


@pytest.fixture(scope="module")
def batch(digits: Parts) -> Batch:
    return held(digits.test, V, 1)


@pytest.fixture(scope="module")
def bottleneck(few_aux: Images) -> LatentPerturb:
    return LatentPerturb(kind="bottleneck", autoencoder_epochs=4, epochs=2).fit(few_aux, Draws(("test fit",)))


@pytest.fixture(scope="module")
def studied(fitted_latent: LatentPerturb, few_aux: Images) -> Mapping[str, Tensor]:
    return fitted_latent.study(few_aux, Draws(("test study",)))


@pytest.mark.parametrize("rho", [0.25, 1.0, 8.0])
@pytest.mark.parametrize("fresh", [0.0, 0.25, 1.0])
def test_the_latent_moves_by_exactly_rho(fitted_latent: LatentPerturb, digits: Parts, rho: float, fresh: float) -> None:
    z, moved = latents(replace(fitted_latent, rho=rho, fresh=fresh), digits.test.x[:V])
    ratio = (moved - z).norm(dim=1) / z.norm(dim=1)
    assert ratio.tolist() == pytest.approx([rho] * V, rel=1e-5)


def test_without_a_budget_it_is_the_autoencoder_alone(fitted_latent: LatentPerturb, batch: Batch) -> None:
    ae = seeded(Draws(("any",)), lambda: Autoencoder(1, fitted_latent.latent))
    weights = {
        k.removeprefix("autoencoder."): w for k, w in fitted_latent.state.items() if k.startswith("autoencoder.")
    }
    ae.load_state_dict(weights)
    with torch.no_grad():
        expected = ae(batch.x.flatten(0, 1)).view_as(batch.x)
    still = replace(fitted_latent, rho=0.0)
    assert torch.equal(sent(still, batch), expected)
    assert torch.equal(sent(still, batch, "other"), expected)
    assert F.mse_loss(expected, batch.x) < 0.8 * (batch.x - batch.x.mean(0)).square().mean()  # it learned something


@pytest.mark.parametrize("fresh", [0.25, 0.5, 1.0])
def test_the_direction_is_fresh_at_every_use(fitted_latent: LatentPerturb, digits: Parts, fresh: float) -> None:
    defense, x = replace(fitted_latent, fresh=fresh), digits.test.x[:V]
    (z, one), (_, two) = latents(defense, x, "one"), latents(defense, x, "two")
    freshness = (one - two).square().sum(1).mean() / (2 * (one - z).square().sum(1).mean())
    assert freshness >= fresh / 2
    assert freshness <= 1.1


def test_distortion_rises_with_the_budget(fitted_latent: LatentPerturb, batch: Batch) -> None:
    away = [
        float((sent(replace(fitted_latent, rho=rho), batch) - batch.x).square().mean())
        for rho in (0.0, 0.25, 0.5, 1.0, 2.0, 4.0)
    ]
    assert away == sorted(away)
    assert away[-1] > 2 * away[0]


def test_images_of_a_batch_and_uses_get_noise_of_their_own(fitted_latent: LatentPerturb, digits: Parts) -> None:
    same = Batch(digits.test.x[:1].expand(2, 3, -1, -1, -1), digits.test.y[:1].expand(2, 3))
    x = sent(fitted_latent, same).flatten(0, 1).flatten(1)
    assert torch.cdist(x, x).fill_diagonal_(1).min() > 1e-3


def test_the_bottleneck_draws_around_its_mean(bottleneck: LatentPerturb, batch: Batch, few_aux: Images) -> None:
    parts = bottleneck._parts(few_aux.x)
    x = few_aux.x[:V]
    eps = Draws(("e",), range(V)).normal(bottleneck.latent, 8, 8)
    _, divergence = bottleneck._perturbed(parts, x, eps)
    assert divergence.shape == (V,)
    assert divergence.min() > 0
    with torch.no_grad():  # the divergence of N(mean, deviation) from N(0, I), by torch's own distributions
        z = parts["autoencoder"].encode(x)
        mean, raw = parts["perturber"](z, torch.zeros_like(z)).chunk(2, 1)
        own = torch.distributions.Normal(z + mean, F.softplus(raw) + 1e-4)
        other = torch.distributions.Normal(torch.zeros_like(z), torch.ones_like(z))
        expected = torch.distributions.kl_divergence(own, other).flatten(1).sum(1)
    assert torch.allclose(divergence, expected, rtol=1e-4)
    assert not torch.equal(sent(bottleneck, batch), sent(bottleneck, batch, "other"))
    assert bottleneck.knob == "beta"


def test_a_dearer_bottleneck_says_less(few_aux: Images) -> None:
    spent = []
    for beta in (0.0, 1.0):
        defense = LatentPerturb(kind="bottleneck", beta=beta, autoencoder_epochs=2, epochs=4).fit(
            few_aux, Draws(("f",))
        )
        parts = defense._parts(few_aux.x)
        spent.append(float(defense._perturbed(parts, few_aux.x, torch.zeros(256, 8, 8, 8))[1].mean()))
    assert spent[1] < spent[0]


@pytest.mark.parametrize("kind", ["budget", "bottleneck"])
def test_a_fit_is_reproducible_and_hangs_on_its_draws(few_aux: Images, kind: str) -> None:
    tiny = Images(few_aux.x[:100], few_aux.y[:100])
    defense = replace(QUICK, kind=kind)
    one, two = (defense.fit(tiny, Draws(("f",))).state for _ in range(2))
    assert one.keys() == two.keys()
    assert all(torch.equal(one[key], two[key]) for key in one)
    other = defense.fit(tiny, Draws(("g",))).state
    assert not all(torch.equal(one[key], other[key]) for key in one)
    assert defense.state == {}


def test_the_public_state_survives_safetensors(fitted_latent: LatentPerturb, batch: Batch, tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.write_tensors("defense", fitted_latent.state)
    back = replace(LatentPerturb(), state=store.read_tensors("defense"))
    assert torch.equal(sent(back, batch), sent(fitted_latent, batch))
    assert back == LatentPerturb()  # the state is no setting


@pytest.mark.parametrize("lam", [1.0, 20.0])
def test_the_outer_loss_is_bounded_below_by_minus_lam(
    few_aux: Images, lam: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses: list[float] = []
    backward = Tensor.backward

    def recorded(self: Tensor, *args: object, **kwargs: object) -> None:
        losses.append(self.item())
        backward(self, *args, **kwargs)

    monkeypatch.setattr(Tensor, "backward", recorded)
    defense = LatentPerturb(lam=lam, rho=16.0, autoencoder_epochs=1, epochs=3).fit(few_aux, Draws(("f",)))
    assert min(losses) >= -lam
    if lam > 5:
        assert min(losses) < 0  # the bound was put to the test
    assert all(value.isfinite().all() for value in defense.state.values())


def test_inverse_networks_beat_the_distortion_and_the_floor(
    fitted_latent: LatentPerturb, studied: Mapping[str, Tensor], few_aux: Images, digits: Parts, batch: Batch
) -> None:
    distortion = float((sent(fitted_latent, batch) - batch.x).square().mean())
    floor = float((digits.test.x - few_aux.x.mean(0)).square().mean())
    errors = {name: float(studied[f"{name}/error"]) for name in families(1, 32)}
    assert min(errors.values()) < 0.8 * min(distortion, floor)
    inverse = best_inverter(studied, 1, 32)
    with torch.no_grad():
        undone = inverse(sent(fitted_latent, batch).flatten(0, 1)).view_as(batch.x)
    error = float((undone - batch.x).square().mean())
    assert error < 0.8 * min(distortion, floor)
    assert error == pytest.approx(min(errors.values()), rel=0.3)  # the held-out error is honest


def test_the_better_family_is_chosen(studied: Mapping[str, Tensor]) -> None:
    kinds = {name: type(seeded(Draws(("any",)), make)) for name, make in families(1, 32).items()}
    for better in ("conv", "mlp"):
        errors = {f"{name}/error": torch.tensor([0.1 if name == better else 0.2]) for name in ("conv", "mlp")}
        assert type(best_inverter({**studied, **errors}, 1, 32)) is kinds[better]


def test_the_adaptive_attack_ends_with_the_inverse_network(
    fitted_latent: LatentPerturb, studied: Mapping[str, Tensor], batch: Batch
) -> None:
    view = replace(seen(net_of("lenet", 1, 10), batch, 10, fitted_latent), studied=studied)
    x = sent(fitted_latent, batch)
    with torch.no_grad():
        expected = best_inverter(studied, 1, 32)(x.flatten(0, 1)).view_as(x)
    post = fitted_latent.match(view).post(x)
    assert torch.equal(post, expected)
    assert not post.requires_grad


def test_three_channels_and_sides_of_28(ihc: Parts) -> None:
    aux = Images(ihc.aux.x[:64, :, :28, :28], ihc.aux.y[:64])
    defense = QUICK.fit(aux, Draws(("f",)))
    x = held(ihc.test, 2, 2).x[..., :28, :28]
    out = sent(defense, Batch(x, torch.zeros(2, 2, dtype=torch.long)))
    assert out.shape == x.shape
    assert out.isfinite().all()
