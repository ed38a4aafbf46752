"""Latent perturbation, learned on a few digits."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from scene import flat, held, net_of, seen
from torch import Tensor, nn
from torch.nn import functional as F

from gibench.attacks.adaptive_matching import AdaptiveMatching
from gibench.client import train
from gibench.datasets import Parts
from gibench.defenses.latent_perturb import LatentPerturb
from gibench.draws import Draws
from gibench.engine.features import FeatureShift
from gibench.engine.objective import Objective, Plan
from gibench.grid import Client
from gibench.learned import minimax
from gibench.learned.autoencoder import Autoencoder
from gibench.learned.fit import seeded
from gibench.learned.inverter import RidgeInverter, best_inverter, families
from gibench.learned.latent import Code, Maps
from gibench.learned.minimax import Minimax, errors, inner_step, learn_autoencoder, outer_step
from gibench.message import make_message
from gibench.noise import draw_noise, given
from gibench.registry import build
from gibench.store import Store
from gibench.suite import Training
from gibench.types import Batch, Images

V = 40
QUICK = LatentPerturb(autoencoder_epochs=1, epochs=1)


def sent(defense: LatentPerturb, batch: Batch, stream: str = "m") -> Tensor:
    return defense.images(batch, Draws((stream,), range(len(batch.y)))).x


def latents(defense: LatentPerturb, x: Tensor, stream: str = "m") -> tuple[Tensor, Tensor]:
    """The latent of the images and the perturbed one that is decoded, as the defense itself computes them."""
    made = defense._learned(x)
    assert isinstance(made, Maps)
    moved: list[Tensor] = []
    made.autoencoder.decode.register_forward_pre_hook(lambda module, args: moved.append(args[0]))
    z = made.encode(x)
    made(x, Draws((stream,), range(len(x))).normal(*made.noise))
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
    made = bottleneck._learned(few_aux.x)
    assert isinstance(made, Maps)
    x = few_aux.x[:V]
    _, divergence = made(x, Draws(("e",), range(V)).normal(*made.noise))
    assert divergence.shape == (V,)
    assert divergence.min() > 0
    with torch.no_grad():  # the divergence of N(mean, deviation) from N(0, I), by torch's own distributions
        z = made.encode(x)
        mean, raw = made.perturber(z, torch.zeros_like(z)).chunk(2, 1)
        own = torch.distributions.Normal(z + mean, F.softplus(raw) + 1e-4)
        other = torch.distributions.Normal(torch.zeros_like(z), torch.ones_like(z))
        expected = torch.distributions.kl_divergence(own, other).flatten(1).sum(1)
    assert torch.allclose(divergence, expected, rtol=1e-4)
    assert not torch.equal(sent(bottleneck, batch), sent(bottleneck, batch, "other"))
    assert bottleneck.knob == "beta"


def test_a_dearer_bottleneck_says_less(few_aux: Images) -> None:
    spent = []
    few = Images(few_aux.x[:128], few_aux.y[:128])
    for beta in (0.0, 1.0):
        defense = LatentPerturb(kind="bottleneck", beta=beta, autoencoder_epochs=2, epochs=4).fit(few, Draws(("f",)))
        made = defense._learned(few.x)
        spent.append(float(made(few.x, torch.zeros(128, 8, 8, 8))[1].mean()))
    assert spent[1] < spent[0]


@pytest.mark.parametrize("kind", ["budget", "bottleneck", "code"])
def test_a_fit_is_reproducible_and_hangs_on_its_draws(few_aux: Images, kind: str) -> None:
    tiny = Images(few_aux.x[:50], few_aux.y[:50])
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
    for better in kinds:
        errors = {f"{name}/error": torch.tensor([0.1 if name == better else 0.2]) for name in kinds}
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


def test_each_player_moves_alone(few_aux: Images) -> None:
    x, y = few_aux.x[:64], few_aux.y[:64]
    made = seeded(Draws(("t",)), lambda: Code(1, 32, 4, 10))
    adversaries = nn.ModuleList([seeded(Draws((name,)), make) for name, make in families(1, 32).items()][:2])
    inner, outer = (torch.optim.Adam(players.parameters(), lr=1e-2) for players in (adversaries, made))

    def weights(players: nn.Module) -> Tensor:
        return torch.cat([p.detach().flatten() for p in players.parameters()])

    sent, price = made(x, torch.randn(64, 4, generator=torch.Generator().manual_seed(0)), y)
    ours, theirs = weights(made), weights(adversaries)
    inner_step(adversaries, inner, sent, x)
    assert torch.equal(weights(made), ours)
    assert not torch.equal(weights(adversaries), theirs)
    theirs = weights(adversaries)
    outer_step(outer, list(made.parameters()), price.mean() - errors(adversaries, sent, x).mean())
    assert torch.equal(weights(adversaries), theirs)
    assert not torch.equal(weights(made), ours)


def test_a_code_costs_nothing_that_its_class_says(few_aux: Images) -> None:
    made = seeded(Draws(("t",)), lambda: Code(1, 32, 4, 10))
    with torch.no_grad():  # an encoder that knows the class and nothing else
        made.body[-1].weight.zero_()
        made.body[-1].bias[:4], made.body[-1].bias[4:] = made.centres[3], torch.tensor(1.0 - 1e-2).expm1().log()
    eps = torch.zeros(V, 4)
    assert made(few_aux.x[:V], eps, torch.full((V,), 3))[1].abs().max() < 1e-5
    assert made(few_aux.x[:V], eps, torch.full((V,), 5))[1].min() > 0.01


def test_a_dearer_code_says_little_beyond_the_class(digits: Parts) -> None:
    beyond, right = [], []
    for beta in (1e-3, 0.3):
        defense = LatentPerturb(kind="code", beta=beta, latent=4, lam=0.0).fit(digits.aux, Draws(("f",)))
        made, y = defense._learned(digits.aux.x), digits.test.y
        with torch.no_grad():
            beyond.append(float(made(digits.test.x, torch.zeros(len(y), 4), y)[1].mean()))
            z, known = made.encode(digits.test.x), made.encode(digits.aux.x)
        centres = torch.stack([known[digits.aux.y == c].mean(0) for c in range(10)])
        right.append(float((torch.cdist(z, centres).argmin(1) == y).float().mean()))
    assert beyond[1] < 0.3 * beyond[0]
    assert min(right) > 0.7


@pytest.mark.parametrize("contrast", [False, True])
def test_with_contrast_a_code_cannot_hide_in_the_dark(few_aux: Images, contrast: bool) -> None:
    made = seeded(Draws(("t",)), lambda: Code(1, 32, 4, 10, contrast)).double()
    with torch.no_grad():  # where games against adversaries ended: all but black
        made.up[-1][-2].bias.fill_(-12.0)
        z = made.encode(few_aux.x[:32].double())
        for _ in range(200):
            made.decode(z)
        seen = made.eval().decode(z)
        alone = torch.cat([made.decode(one) for one in z.split(1)])
    torch.testing.assert_close(alone, seen)
    assert seen.shape == few_aux.x[:32].shape
    assert bool(((seen.mean(0) - 0.5).abs() < 0.1).all()) == contrast
    assert (float(seen.std(0).mean()) > 0.1) == contrast


@pytest.mark.parametrize("cap", [0.5, 1.0])
def test_the_adversary_is_credited_up_to_its_cap(few_aux: Images, cap: float, monkeypatch: pytest.MonkeyPatch) -> None:
    losses: list[float] = []
    step = minimax.outer_step

    def recorded(optimizer: torch.optim.Optimizer, free: list[nn.Parameter], loss: Tensor) -> None:
        losses.append(loss.item())
        step(optimizer, free, loss)

    monkeypatch.setattr(minimax, "outer_step", recorded)
    made = seeded(Draws(("t",)), lambda: Code(1, 32, 4, 10))
    Minimax(("mlp",), 100.0, 0.0, cap, 1, 1, rising=True).play(made, few_aux, Draws(("g",)))
    assert min(losses) >= -100
    assert min(losses) < (-90 if cap < 1 else -50)


def test_without_a_direction_the_noise_has_equal_norm_and_nothing_is_played(few_aux: Images) -> None:
    defense = LatentPerturb(fresh=1.0, rho=2.0, autoencoder_epochs=1).fit(few_aux, Draws(("f",)))
    z, moved = latents(defense, few_aux.x[:V])
    noise = Draws(("m",), range(V)).normal(8, 8, 8).flatten(1)
    assert torch.allclose(F.normalize(moved - z), F.normalize(noise), atol=1e-5)
    other = LatentPerturb(fresh=1.0, autoencoder_epochs=1, epochs=1, lam=0.0).fit(few_aux, Draws(("f",)))
    assert all(torch.equal(defense.state[key], other.state[key]) for key in other.state)


def test_noise_on_the_output_is_noise_on_the_decoded_image(fitted_latent: LatentPerturb, batch: Batch) -> None:
    outside = replace(fitted_latent, fresh=1.0, where="output", rho=0.05)
    decoded = sent(replace(fitted_latent, rho=0.0), batch)
    away = (sent(outside, batch) - decoded).flatten(1).norm(dim=1) / decoded.flatten(1).norm(dim=1)
    assert away.max() <= 0.05 + 1e-6  # less where pixels end at 0 and 1
    assert away.min() > 0.02


def test_the_control_of_a_stack_loses_its_noise(few_aux: Images) -> None:
    """`kind="bottleneck", beta=0, lam=0`: the transform trained for the task alone."""
    free, dear = (
        LatentPerturb(kind="bottleneck", beta=beta, lam=0.0, autoencoder_epochs=4, epochs=20).fit(
            few_aux, Draws(("f",))
        )
        for beta in (0.0, 1e-2)
    )
    batch = held(few_aux, V, 1)
    spread = [float((sent(d, batch) - sent(d, batch, "other")).square().mean()) for d in (free, dear)]
    assert spread[0] < 0.5 * spread[1]


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"kind": "noise"}, "kind"),
        ({"rho": -1.0}, "rho"),
        ({"beta": float("inf")}, "beta"),
        ({"fresh": 1.5}, "fresh"),
        ({"lam": -0.1}, "lam"),
        ({"cap": 0.0}, "cap"),
        ({"adversaries": ()}, "adversaries"),
        ({"adversaries": ("mlp", "mlp")}, "each family once"),
        ({"adversaries": ("unet",)}, "adversaries"),
        ({"latent": 0}, "latent"),
        ({"epochs": 0}, "epochs"),
        ({"adversary_steps": 6}, "adversary_steps"),
        ({"where": "output"}, "plain noise"),
        ({"still": True}, "still"),
        ({"where": "output", "fresh": 1.0, "kind": "code"}, "plain noise"),
        ({"learns_from": "public"}, "learns_from"),
        ({"contrast": True}, "what a code decodes to"),
        ({"reading": "C"}, "reading"),
        ({"reading": "B"}, "plain noise inside"),
        ({"reading": "B", "fresh": 1.0, "kind": "code"}, "plain noise inside"),
        ({"reading": "B", "fresh": 1.0, "where": "output"}, "plain noise inside"),
        ({"reading": "B", "fresh": 1.0, "learns_from": "client"}, "plain noise inside"),
    ],
)
def test_settings_without_a_meaning_are_refused(fields: dict[str, object], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        LatentPerturb(**fields)


@pytest.mark.parametrize("variant", ["eot", "range"])
def test_further_attacks_run_and_stay_where_they_say(
    fitted_latent: LatentPerturb, studied: Mapping[str, Tensor], few_aux: Images, batch: Batch, variant: str
) -> None:
    few = Batch(batch.x[:3], batch.y[:3])
    view = replace(seen(net_of("lenet", 1, 10), few, 10, fitted_latent, aux=few_aux), studied=studied)
    guess = AdaptiveMatching(steps=6, tv=1e-3, variant=variant).answer(view, Draws(("a",), range(3)))
    assert guess.x.shape == few.x.shape
    assert guess.loss.isfinite().all()
    match = fitted_latent.variant(variant, view)
    if variant == "eot":  # the simulation is the defense, noise included
        own = Draws(("m",), range(3))
        assert torch.equal(match.input_map(few.x, own), sent(fitted_latent, few))
        return
    assert match.range is not None
    inside = match.range.decode(match.range.encode(few.x))
    assert torch.equal(inside, sent(replace(fitted_latent, rho=0.0), few))


def test_in_use_the_noise_may_be_left_out(bottleneck: LatentPerturb, batch: Batch) -> None:
    draws = Draws(("m",), range(V))
    assert torch.equal(bottleneck.inference(batch, draws).x, sent(bottleneck, batch))
    still = replace(bottleneck, still=True)
    one, two = (still.inference(batch, Draws((name,), range(V))).x for name in ("m", "n"))
    assert torch.equal(one, two)
    mean = torch.stack([sent(bottleneck, batch, str(i)) for i in range(16)]).mean(0)
    assert (one - mean).square().mean() < 0.5 * (sent(bottleneck, batch) - mean).square().mean()
    assert torch.equal(sent(still, batch), sent(bottleneck, batch))  # messages are made as before


def test_an_attack_without_a_simulation_is_a_reason() -> None:
    attack = AdaptiveMatching(variant="eot")
    assert "ships no variant 'eot'" in attack.unmatched(build("defenses", "prune"), net_of("lenet", 1, 10))
    assert attack.unmatched(LatentPerturb(), net_of("lenet", 1, 10)) == ""


def test_rounds_with_other_noise_are_inverted_one_by_one(
    fitted_latent: LatentPerturb, studied: Mapping[str, Tensor], batch: Batch
) -> None:
    few = Batch(batch.x[:2], batch.y[:2])
    view = replace(seen(net_of("lenet", 1, 10), few, 10, fitted_latent, rounds=3), studied=studied)
    attack, draws = AdaptiveMatching(steps=4, tv=1e-3), Draws(("a",), range(2))
    single = [
        attack.reconstruct(replace(view, update=update, rounds=()), draws.at("round", i)).x
        for i, update in enumerate([view.update, *view.rounds])
    ]
    assert torch.allclose(attack.reconstruct(view, draws).x, torch.stack(single).mean(0), atol=1e-6)


@pytest.mark.parametrize("n", [60, 1300])
def test_whitened_components_are_uncorrelated_and_of_equal_spread(n: int) -> None:
    """Fewer examples than pixels, and more; a linear world is solved exactly."""
    draws = Draws(("w",), range(n))
    hidden = draws.normal(20)
    raw, altered = (
        (hidden @ draws.at(name).part(slice(0, 20)).normal(1024)).view(n, 1, 32, 32) for name in ("raw", "altered")
    )
    net = seeded(Draws(("ridge",)), lambda: RidgeInverter(1, 32, components=20))
    net.look(altered, raw)
    features = net.features(altered)
    assert torch.allclose(features.T @ features / n, torch.eye(20), atol=0.02)
    net.solve(altered, raw, 1e-6)
    assert F.mse_loss(net(altered), raw) < 1e-3 * raw.var()


@pytest.mark.slow
def test_training_against_adversaries_costs_a_fresh_attacker(digits: Parts) -> None:
    """At equal beta, paired over 200 images that neither the defense nor the attacker has seen; one-sided 5 %."""
    left = []
    raw, known = digits.client.x[:200], digits.aux.x.repeat(4, 1, 1, 1)
    for lam in (0.0, 1.0):
        defense = LatentPerturb(kind="bottleneck", lam=lam).fit(digits.aux, Draws(("f",)))
        made, inverse = defense._learned(raw), seeded(Draws(("ridge",)), lambda: RidgeInverter(1, 32))
        with torch.no_grad():
            seen_of, seen_by = (made(x, Draws(("e",)).normal(len(x), *made.noise)[0])[0] for x in (raw, known))
            inverse.look(seen_by, known)
            inverse.solve(seen_by, known, 0.1)
            left.append((inverse(seen_of) - raw).square().flatten(1).mean(1))
    gain = left[1] - left[0]
    assert gain.mean() / (gain.std() / len(gain) ** 0.5) > 1.65


@pytest.mark.parametrize("kind", ["budget", "code"])
def test_federated_parties_learn_on_their_own_images_alone(
    kind: str, digits: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gibench.defenses.latent_perturb.ROUNDS", 2)
    defense = replace(QUICK, kind=kind, learns_from="federated")
    few = Images(digits.client.x[:40], digits.client.y[:40])
    state = defense.learn({"federated": few}, Draws(("f",))).state
    again = defense.learn({"federated": few}, Draws(("f",))).state
    pooled = replace(defense, learns_from="client").fit(few, Draws(("f",))).state
    assert all(torch.equal(state[key], again[key]) for key in again)
    assert state.keys() == pooled.keys()
    assert any(not torch.equal(state[key], pooled[key]) for key in pooled)
    assert all(value.isfinite().all() for value in state.values())


def test_from_clients_it_learns_on_their_images_and_touches_no_other(digits: Parts) -> None:
    defense = replace(QUICK, learns_from="client")
    few = replace(
        digits,
        client=Images(digits.client.x[:40], digits.client.y[:40]),
        aux=Images(digits.aux.x[:50], digits.aux.y[:50]),
        test=Images(digits.test.x[:100], digits.test.y[:100]),
    )
    unread = Images(torch.full_like(few.aux.x, torch.nan), few.aux.y)
    state = defense.learn({"aux": unread, "client": few.client}, Draws(("f",))).state
    own, other = (QUICK.fit(images, Draws(("f",))).state for images in (few.client, few.aux))
    assert all(torch.equal(state[key], own[key]) for key in own)
    assert any(not torch.equal(state[key], other[key]) for key in other)
    # and so a client is trained, which an attacker studies on auxiliary images
    training = Training(clients=4, epochs=1, batch=2)
    client = Client(build("datasets", "digits"), build("models", "lenet(width=6)"), defense, 0, training, None, None)
    trained, row = train(client, few)
    draws = Draws((client.id,))
    own = QUICK.fit(few.client, draws.at("fit")).state
    assert all(torch.equal(trained.defense.state[key], own[key]) for key in own)
    assert 0 <= row["utility"] <= 1
    assert 'learns_from="client"' in row["defense"]
    again = trained.defense.study(few.aux, draws.at("study"))
    assert all(torch.equal(trained.studied[key], again[key]) for key in again)


INSIDE = LatentPerturb(reading="B", fresh=1.0)
STREAMS = Draws(("test message",), range(3)).at(0)


def shifting(defense: LatentPerturb, model: str = "lenet(width=6)") -> tuple[nn.Module, str]:
    """The defended net, and the name of the layer that shifts."""
    net = defense.network(net_of(model, 1, 10)).eval()
    return net, next(name for name, m in net.named_modules() if isinstance(m, FeatureShift))


def features(net: nn.Module, layer: str, x: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """What reaches the layer, and what leaves it."""
    seen: list[tuple[Tensor, Tensor]] = []
    hook = net.get_submodule(layer).register_forward_hook(lambda _, args, out: seen.append((args[0], out)))
    with torch.no_grad(), given(net, {layer: noise}):
        net(x)
    hook.remove()
    return seen[0]


@pytest.mark.parametrize("rho", [0.25, 1.0, 8.0])
@pytest.mark.parametrize("model", ["lenet(width=6)", "mlp(width=20)"])
def test_inside_the_features_move_by_exactly_rho(digits: Parts, rho: float, model: str) -> None:
    net, layer = shifting(replace(INSIDE, rho=rho), model)
    x = digits.test.x[:V]
    noise = draw_noise(net, 1, Draws(("e",), range(V)), x)[layer].squeeze(1)
    h, moved = features(net, layer, x, noise)
    assert ((moved - h).norm(dim=1) / h.norm(dim=1)).tolist() == pytest.approx([rho] * V, rel=1e-4)
    assert torch.allclose(F.normalize(moved - h), F.normalize(noise), atol=1e-4)


def test_inside_without_a_budget_nothing_changes(digits: Parts) -> None:
    batch, plain = held(digits.test, 3, 2), net_of("lenet(width=6)", 1, 10)
    none = make_message(plain, build("defenses", "none"), batch, STREAMS)
    still = replace(INSIDE, rho=0.0)
    assert torch.allclose(flat(make_message(shifting(still)[0], still, batch, STREAMS)), flat(none), atol=1e-7)
    assert not torch.allclose(flat(make_message(shifting(INSIDE)[0], INSIDE, batch, STREAMS)), flat(none), atol=1e-2)


def test_inside_the_noise_is_each_images_own_and_in_use_there_is_none(digits: Parts) -> None:
    (net, layer), plain = shifting(INSIDE), net_of("lenet(width=6)", 1, 10)
    same = Batch(digits.test.x[:1].expand(3, 2, -1, -1, -1), digits.test.y[:1].expand(3, 2))
    noise = draw_noise(net, 2, STREAMS.at("layers"), same.x)[layer]
    moved = features(net, layer, same.x.flatten(0, 1), noise.flatten(0, 1))[1]
    assert torch.cdist(moved, moved).fill_diagonal_(9).min() > 0.1 * moved.norm(dim=1).min()
    one, two = (flat(make_message(net, INSIDE, same, STREAMS.at(i))) for i in range(2))
    assert (one - two).norm(dim=1).min() > 0.05 * one.norm(dim=1).max()
    with torch.no_grad():
        assert torch.equal(net(digits.test.x), plain(digits.test.x))
    assert INSIDE.inference(same, STREAMS) is INSIDE.images(same, STREAMS) is same


def test_inside_nothing_is_learned_or_needed(few_aux: Images) -> None:
    assert INSIDE.fit(few_aux, Draws(("f",))).state == {}
    assert INSIDE.study(few_aux, Draws(("s",))) == {}
    assert (INSIDE.place, INSIDE.match_needs, INSIDE.variants) == ("model", frozenset(), ())
    assert QUICK.network(net := net_of("lenet", 1, 10)) is net
    without = nn.Sequential(nn.MaxPool2d(8), nn.Flatten())
    assert "has none" in INSIDE.unfit(INSIDE.network(without), (1, 32, 32), 8)
    assert INSIDE.unfit(net, (1, 30, 30), 8) == QUICK.unfit(net, (1, 28, 28), 8) == ""
    assert "divisible by 4, not 30" in QUICK.unfit(net, (1, 30, 30), 8)
    assert build("defenses", 'precode + latent_perturb(reading="B", fresh=1)').place == "model"


@pytest.mark.parametrize("b", [1, 2])
def test_inside_the_simulation_fits_at_the_true_image(digits: Parts, b: int) -> None:
    (net, layer), batch, draws = shifting(INSIDE), held(digits.test, 3, b), Draws(("a",), range(3))
    view = seen(net, batch, 10, INSIDE)
    match = INSIDE.match(view)
    assert {key for key, weight in match.weight.items() if weight == 0} == {"6.1.weight", "6.1.bias"}
    objective = Objective(view, Plan(match, batch.y))
    noise = draw_noise(net, b, STREAMS.at("layers"), batch.x)[layer]
    extra = {} if match.extra is None else {**match.extra(draws), "noise": noise}
    assert objective.distance(batch.x, batch.y, draws, extra).abs().max() < 1e-6
    assert Objective(view, Plan(INSIDE.match(view), batch.y)).distance(1 - batch.x, batch.y, draws, extra).min() > 1e-3
    assert (match.extra is None) is (b == 1)  # one message tells one image's noise


def test_inside_the_adaptive_attack_is_far_stronger(digits: Parts) -> None:
    net, batch = shifting(INSIDE, "lenet")[0], held(digits.test, 8, 1)
    view = seen(net, batch, 10, INSIDE)
    errors_of = []
    for name in ("inverting_gradients", "adaptive_matching"):
        guess = build("attacks", f"{name}(steps=100, tv=0.01)").answer(view, Draws(("a",), range(8)))
        errors_of.append(float((guess.x - batch.x).square().mean()))
    assert errors_of[1] < 0.1 * errors_of[0]


@pytest.mark.parametrize("after", ["partial_share(layers=1)", "prune(p=0.9)", "local_steps(epochs=2)"])
def test_inside_it_is_attacked_where_a_message_does_not_tell_the_noise(digits: Parts, after: str) -> None:
    stack = build("defenses", f'latent_perturb(reading="B", fresh=1) + {after}')
    net, local = shifting(INSIDE)[0], stack.local(None)
    view = seen(net, held(digits.test, 2, 1), 10, stack, local=local)
    guess = AdaptiveMatching(steps=4, tv=1e-3).answer(view, Draws(("a",), range(2)))
    assert guess.loss.isfinite().all()
    if "prune" not in after:
        match = INSIDE.match(view)
        assert (match.extra is None, match.gradient is None) == (("local" in after), ("local" in after))


def test_an_autoencoder_that_ends_in_black_is_learned_again(few_aux: Images) -> None:
    """Least squares cannot leave it: a sigmoid that is flat has no gradient."""
    made = seeded(Draws(("black",)), lambda: Maps(1, 32, 8, 1))
    made.autoencoder.decode[-3].bias.data.fill_(-12.0)
    black = made.autoencoder(few_aux.x).detach()
    learn_autoencoder(made, few_aux, 20, Draws(("black",)))
    assert black.max() < 1e-4
    assert made.autoencoder(few_aux.x).std(0).mean() > 0.05


@pytest.mark.parametrize(("flat", "games"), [(0, 1), (1, 2), (9, 3)])
def test_a_game_that_ends_with_one_picture_for_all_is_played_again(
    few_aux: Images, monkeypatch: pytest.MonkeyPatch, flat: int, games: int
) -> None:
    played = []

    def play(self: Minimax, transform: nn.Module, images: Images, draws: Draws) -> None:
        played.append(draws.seed())
        for parameter in transform.parameters():  # loud enough to tell images apart, or dead
            parameter.mul_(0 if len(played) <= flat else 4)

    monkeypatch.setattr(Minimax, "play", torch.no_grad()(play))
    fitted = build("defenses", 'latent_perturb(kind="code")').fit(few_aux, Draws(("again",)))
    assert len(set(played)) == games
    assert all(bool((value == 0).all()) for value in fitted.state.values()) == (flat == 9)
