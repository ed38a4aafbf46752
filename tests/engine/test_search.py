"""The engine: a victim's answer is its own, the best iterate is where its loss was taken, and the attack works."""

from dataclasses import replace

import pytest
import torch
from scene import held, net_of, rows, seen
from torch import Tensor, nn

from gibench.datasets import Parts
from gibench.draws import Draws
from gibench.engine.labels import head, labels_of
from gibench.engine.objective import Plan
from gibench.engine.optimisers import Search
from gibench.engine.priors import total_variation
from gibench.engine.search import invert
from gibench.gradients import cross_entropy, mean_gradient
from gibench.metrics.psnr import PSNR
from gibench.registry import build
from gibench.types import Batch, Guess, Local, Match, View

V = 5
SEARCH = Search(steps=20, lr=0.05, tv=1 / 128)  # exact in every precision


def scene(digits: Parts, b: int, defense: str = "none", labels: bool = True, model: str = "lenet(width=6)") -> View:
    """Five clients in double precision."""
    net = net_of(model, 1, 10).double()
    return seen(net, held(digits.test, V, b, torch.float64), 10, build("defenses", defense), labels=labels)


def alone(view: View, start: int, stop: int) -> View:
    """The same view of some of the victims."""
    labels = None if view.labels is None else view.labels[start:stop]
    return replace(view, update=rows(view.update, start, stop), labels=labels)


def run(view: View, search: Search, match: Match, start: int = 0, stop: int = V) -> Guess:
    part = alone(view, start, stop)
    return invert(
        part, lambda own: Plan(match, labels_of(own, own.update)), search, Draws(("attack",), range(start, stop))
    )


@pytest.mark.parametrize("b", [1, 2])
@pytest.mark.parametrize(
    ("match", "search"),
    [
        (Match(), SEARCH),
        (Match(), replace(SEARCH, restarts=2, schedule="step")),
        (Match(linear=False), replace(SEARCH, sign=False)),
        (Match(distance="l2", linear=False), SEARCH),
    ],
    ids=["linear", "restarts", "adam", "l2"],
)
def test_the_result_does_not_depend_on_the_chunk(digits: Parts, match: Match, search: Search, b: int) -> None:
    view = scene(digits, b)
    whole = run(view, replace(search, chunk=V), match)
    pieces = run(view, replace(search, chunk=2), match)
    single = [run(view, search, match, i, i + 1) for i in range(V)]
    for x, loss in ((pieces.x, pieces.loss), (torch.cat([g.x for g in single]), torch.cat([g.loss for g in single]))):
        assert (whole.x - x).abs().max() < 1e-9
        assert (whole.loss - loss).abs().max() < 1e-9
    assert whole.x.shape == (V, b, 1, 32, 32)
    assert whole.x.min() >= 0
    assert whole.x.max() <= 1
    assert whole.steps == 20 * search.restarts


@pytest.mark.parametrize("defense", ["prune(p=0.9)", "dpsgd(sigma=0.01)"])
def test_nor_does_an_adaptive_one(digits: Parts, defense: str) -> None:
    view = scene(digits, 2, defense)
    attack = build("attacks", "adaptive_matching(steps=10, tv=0.01)")
    whole = attack.reconstruct(view, Draws(("attack",), range(V)))
    part = attack.reconstruct(alone(view, 3, 5), Draws(("attack",), (3, 4)))
    assert (whole.x[3:] - part.x).abs().max() < 1e-9


def test_every_victim_may_have_its_own_weight_of_the_prior(digits: Parts) -> None:
    view = scene(digits, 1)
    weights = torch.tensor([0.0, 1 / 1024, 1 / 128, 1 / 8, 1.0], dtype=torch.float64)
    together = run(view, replace(SEARCH, tv=weights, chunk=2), Match())
    for i, tv in enumerate(weights.tolist()):
        assert (run(view, replace(SEARCH, tv=tv), Match(), i, i + 1).x - together.x[i]).abs().max() < 1e-9


@pytest.mark.parametrize("name", ["inverting_gradients", "adaptive_matching"])
def test_a_rehearsal_of_candidates_equals_each_of_them_alone(digits: Parts, name: str) -> None:
    view, draws = scene(digits, 1, "prune(p=0.5)"), Draws(("tune",), range(V))
    attack = build("attacks", f"{name}(steps=10)")
    candidates = [{"tv": 1 / 1024}, {"tv": 1 / 8}]
    for guess, chosen in zip(attack.rehearse(view, candidates, draws), candidates, strict=True):
        own = replace(attack, **chosen).reconstruct(view, draws)
        assert (guess.x - own.x).abs().max() < 1e-9
        assert torch.equal(guess.labels, own.labels)


def objective(view: View, guess: Guess, distance: str, tv: float) -> Tensor:
    """Written anew from the definition, one victim at a time."""
    values = []
    for i in range(len(guess.x)):
        loss = nn.functional.cross_entropy(view.model(guess.x[i]), guess.labels[i])
        a = torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(view.model.parameters()))])
        b = torch.cat([g[i].flatten() for g in view.update.values() if g is not None])
        apart = 1 - a @ b / a.norm() / b.norm() if distance == "cos" else ((a - b) / b.norm()).square().sum()
        x = guess.x[i]
        prior = (x[..., 1:, :] - x[..., :-1, :]).abs().mean() + (x[..., 1:] - x[..., :-1]).abs().mean()
        values.append(apart + tv * prior)
    return torch.stack(values)


@pytest.mark.parametrize("distance", ["cos", "l2"])
@pytest.mark.parametrize(("lr", "steps"), [(0.05, 12), (5.0, 2)])  # the large one overshoots: its last is not its best
@pytest.mark.parametrize("b", [1, 2])
def test_the_returned_image_is_where_its_loss_was_evaluated(
    digits: Parts, distance: str, lr: float, steps: int, b: int
) -> None:
    view = scene(digits, b)
    search = replace(SEARCH, lr=lr, steps=steps, schedule="step")
    guess = run(view, search, Match(distance=distance, linear=False))
    assert (objective(view, guess, distance, SEARCH.tv) - guess.loss).abs().max() < 1e-10
    for restarts in (2, 3):
        more = run(view, replace(search, restarts=restarts), Match(distance=distance, linear=False))
        assert (more.loss <= guess.loss + 1e-12).all()
        assert (objective(view, more, distance, SEARCH.tv) - more.loss).abs().max() < 1e-10


def test_linear_matching_matches_the_gradient_of_the_output_error(digits: Parts) -> None:
    view = scene(digits, 1)
    guess = run(view, SEARCH, Match())
    for i in range(V):
        error = view.update[f"{head(view.model)}.bias"]
        gradient = torch.autograd.grad(view.model(guess.x[i])[0] @ error[i], list(view.model.parameters()))
        a = torch.cat([g.flatten() for g in gradient])
        b = torch.cat([g[i].flatten() for g in view.update.values()])
        expected = 1 - a @ b / a.norm() / b.norm() + SEARCH.tv * total_variation(guess.x[i : i + 1])[0]
        assert abs(float(expected - guess.loss[i])) < 1e-10


@pytest.mark.parametrize("b", [1, 2])
@pytest.mark.parametrize(
    ("defense", "kind"),
    [("none", "cos"), ("prune(p=0.9)", "cos"), ("dpsgd(sigma=0, clip=0.5)", "l2"), ("dpsgd(sigma=0, clip=100)", "l2")],
)
def test_the_simulated_message_of_the_true_image_is_the_observed_one(
    digits: Parts, defense: str, kind: str, b: int
) -> None:
    """The attacker's model of the defense is the defense: zero loss at the truth, clearly more elsewhere."""
    view, truth = scene(digits, b, defense), held(digits.test, V, b, torch.float64).x
    match = view.defense.match(view)
    assert match.distance == kind
    search = Search(steps=1, lr=0.1, tv=0.0, chunk=V)
    there = replace(match, input_map=lambda x, draws: truth + 0 * x)
    assert run(view, search, there).loss.max() < 1e-6
    beside = replace(match, input_map=lambda x, draws: truth.roll(1, 0) + 0 * x)
    assert run(view, search, beside).loss.min() > 1e-3


def test_the_clip_above_is_active_and_differs_between_images(digits: Parts) -> None:
    plain = mean_gradient(net_of("lenet(width=6)", 1, 10).double(), held(digits.test, V, 1, torch.float64))
    norms = torch.cat([g.flatten(1) for g in plain.values()], 1).norm(dim=1)
    assert norms.min() > 0.5
    assert norms.max() < 100
    assert norms.std() > 0.01


@pytest.mark.parametrize("b", [1, 2])
def test_adaptive_matching_of_no_defense_is_inverting_gradients(digits: Parts, b: int) -> None:
    view = scene(digits, b, labels=False)
    draws = Draws(("attack",), range(V))
    one, other = (
        build("attacks", f"{name}(steps=15, tv=0.01)").reconstruct(view, draws)
        for name in ("inverting_gradients", "adaptive_matching")
    )
    assert torch.equal(one.x, other.x)
    assert torch.equal(one.loss, other.loss)
    assert torch.equal(one.labels, other.labels)


def test_a_weight_change_is_attacked_like_the_gradient_it_points_against(digits: Parts) -> None:
    view = scene(digits, 1)
    net, batch = view.model, held(digits.test, V, 1, torch.float64)
    delta = seen(net, batch, 10, local=Local(epochs=1, lr=0.05, momentum=0.0))
    assert delta.kind == "delta"
    attack = build("attacks", "inverting_gradients(steps=15, tv=0.01)")
    one, other = (attack.reconstruct(v, Draws(("attack",), range(V))) for v in (view, delta))
    assert (one.x - other.x).abs().max() < 1e-6


def test_rounds_of_the_same_batch_are_averaged(digits: Parts) -> None:
    net, batch = net_of("lenet(width=6)", 1, 10).double(), held(digits.test, V, 1, torch.float64)
    defense = build("defenses", "dpsgd(sigma=0.05)")
    view = seen(net, batch, 10, defense, rounds=3)
    mean = {k: (g + view.rounds[0][k] + view.rounds[1][k]) / 3 for k, g in view.update.items()}
    attack, draws = build("attacks", "adaptive_matching(steps=10, tv=0.01)"), Draws(("attack",), range(V))
    averaged = attack.reconstruct(view, draws)
    expected = attack.reconstruct(replace(view, update=mean, rounds=()), draws)
    assert (averaged.x - expected.x).abs().max() < 1e-9
    assert not torch.equal(averaged.x, attack.reconstruct(replace(view, rounds=()), draws).x)


def test_a_parameter_that_is_not_shared_is_not_compared(digits: Parts) -> None:
    view = scene(digits, 1)
    hidden = replace(view, update=view.update | {"1.weight": None})
    search = replace(SEARCH, steps=3)
    guess = run(hidden, search, Match(linear=False))
    kept = [p for name, p in view.model.named_parameters() if name != "1.weight"]
    loss = cross_entropy(view.model(guess.x[0]).unsqueeze(0), Batch(guess.x[:1], guess.labels[:1])).sum()
    a = torch.cat([g.flatten() for g in torch.autograd.grad(loss, kept)])
    b = torch.cat([g[0].flatten() for name, g in view.update.items() if name != "1.weight"])
    expected = 1 - a @ b / a.norm() / b.norm() + SEARCH.tv * total_variation(guess.x[:1])[0]
    assert abs(float(expected - guess.loss[0])) < 1e-10


@pytest.mark.parametrize("channels", [1, 3])
def test_total_variation_is_the_mean_difference_of_neighbours(channels: int) -> None:
    x = Draws(("x",), range(2)).uniform(2, channels, 5, 7).double()
    expected = []
    for victim in x.tolist():
        down = [
            abs(image[c][i + 1][j] - image[c][i][j])
            for image in victim for c in range(channels) for i in range(4) for j in range(7)
        ]  # fmt: skip
        right = [
            abs(image[c][i][j + 1] - image[c][i][j])
            for image in victim for c in range(channels) for i in range(5) for j in range(6)
        ]  # fmt: skip
        expected.append(sum(down) / len(down) + sum(right) / len(right))
    assert total_variation(x).tolist() == pytest.approx(expected, abs=1e-12)
    ramp = torch.arange(4.0).view(1, 1, 1, 1, 4).expand(1, 1, channels, 3, 4)
    assert total_variation(ramp).item() == pytest.approx(1)


@pytest.mark.parametrize(("source", "classes", "tv"), [("digits", 10, 1e-3), ("ihc", 5, 1e-2)])
def test_real_images_come_back_from_undefended_gradients(
    source: str, classes: int, tv: float, request: pytest.FixtureRequest
) -> None:
    parts: Parts = request.getfixturevalue(source)
    batch = held(parts.test, 8, 1)
    truth = batch.x[:, 0]
    view = seen(net_of("lenet", truth.shape[1], classes), batch, classes, labels=False)
    guess = build("attacks", f"inverting_gradients(steps=200, tv={tv})").reconstruct(view, Draws(("attack",), range(8)))
    floor = PSNR().compare(truth, parts.aux.x.mean(0).expand_as(truth)).mean()
    assert PSNR().compare(truth, guess.x[:, 0]).mean() >= floor + 8
    assert torch.equal(guess.labels, batch.y)
