"""Soteria: which columns are cut, by scores that are known in closed form on a linear map."""

import pytest
import torch
from scene import flat, held, net_of, seen
from torch import nn

from gibench.datasets import Parts
from gibench.defenses.soteria import Soteria
from gibench.draws import Draws
from gibench.engine.objective import Objective, Plan
from gibench.gradients import mean_gradient
from gibench.learned.fit import seeded
from gibench.message import own_weights
from gibench.types import Batch

DRAWS = Draws(("m",), range(3))


def linear_net() -> nn.Module:
    def make() -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(1024, 40), nn.Linear(40, 10))

    return seeded(Draws(("linear",)), make).eval()


def expected_scores(net: nn.Module, batch: Batch, eps: float = 0.1) -> torch.Tensor:
    """sum_i |W_j| / (|W_j x_i + b_j| + eps)."""
    r = net[1](batch.x.flatten(2)).abs()
    return (net[1].weight.norm(dim=1) / (r + eps)).sum(1).detach()


@pytest.mark.parametrize("own", [False, True], ids=["shared", "own weights"])
def test_exact_scores_on_a_linear_map(digits: Parts, own: bool) -> None:
    net, batch = linear_net(), held(digits.test, 3, 2)
    found = Soteria(probes=0).scores(net, batch, DRAWS, own_weights(net, 3) if own else None)
    assert torch.allclose(found, expected_scores(net, batch), rtol=1e-4)


def test_random_directions_estimate_the_scores(digits: Parts) -> None:
    net, batch = net_of("lenet(width=2)", 1, 10), held(digits.test, 2, 2)
    exact = Soteria(probes=0).scores(net, batch, Draws(("m",), range(2)))
    for own in (None, own_weights(net, 2)):
        found = Soteria(probes=400).scores(net, batch, Draws(("m",), range(2)), own)
        assert (found / exact - 1).abs().quantile(0.95) < 0.15
        assert abs(float((found / exact).median()) - 1) < 0.01


def test_padding_counts_for_nothing(digits: Parts) -> None:
    net, batch = linear_net(), held(digits.test, 3, 2)
    padded = Batch(torch.cat([batch.x, batch.x[:, :1]], 1), torch.cat([batch.y, batch.y[:, :1]], 1))
    weight = torch.tensor([1.0, 1, 0]).expand(3, 3)
    found = Soteria(probes=0).scores(net, Batch(padded.x, padded.y, weight, 2), DRAWS)
    assert torch.allclose(found, expected_scores(net, batch), rtol=1e-4)


@pytest.mark.parametrize("probes", [0, 8])
@pytest.mark.parametrize("p", [0.0, 1.0, 10.0, 40.0, 80.0, 100.0])
def test_the_columns_of_least_score_are_cut_and_nothing_else(digits: Parts, p: float, probes: int) -> None:
    net, batch, defense = net_of("lenet(width=2)", 1, 10), held(digits.test, 3, 2), Soteria(p=p, probes=probes)
    plain, sent = mean_gradient(net, batch), defense.gradient(net, batch, DRAWS)
    for name, g in plain.items():
        if name != "6.weight":
            assert torch.equal(sent[name], g)
    cut = (sent["6.weight"] == 0).all(1)
    features = cut.shape[1]
    assert cut.sum(1).tolist() == [round(p / 100 * features)] * 3
    kept = ~cut.unsqueeze(1).expand_as(plain["6.weight"])
    assert torch.equal(sent["6.weight"][kept], plain["6.weight"][kept])
    for score, gone in zip(defense.scores(net, batch, DRAWS), cut, strict=True):
        if 0 < p < 100:
            assert score[gone].max() <= score[~gone].min()


def test_a_layer_is_chosen_by_name(digits: Parts) -> None:
    net, batch = net_of("mlp(width=16, depth=2)", 1, 10), held(digits.test, 3, 1)
    sent = Soteria(layer="4", p=50).gradient(net, batch, DRAWS)
    plain = mean_gradient(net, batch)
    assert int((sent["4.weight"] == 0).all(1).sum(1).min()) >= 8
    assert all(torch.equal(sent[k], g) for k, g in plain.items() if k != "4.weight")


def test_what_it_cannot_serve_is_said() -> None:
    without = nn.Sequential(nn.MaxPool2d(8), nn.Flatten())
    assert "has none" in Soteria().unfit(without, (1, 32, 32), 8)
    assert "not '9'" in Soteria(layer="9").unfit(net_of("lenet", 1, 10), (1, 32, 32), 8)
    assert Soteria().unfit(net_of("lenet", 1, 10), (1, 32, 32), 8) == ""
    for bad in ({"p": -1}, {"p": 101}, {"eps": 0}, {"probes": -1}):
        with pytest.raises(ValueError, match="validation error"):
            Soteria(**bad)


@pytest.mark.parametrize("b", [1, 2])
def test_the_simulation_at_the_true_images_is_the_message(digits: Parts, b: int) -> None:
    net, batch, defense = net_of("lenet(width=6)", 1, 10), held(digits.test, 3, b), Soteria()
    view = seen(net, batch, 10, defense)
    objective = Objective(view, Plan(defense.match(view), batch.y))
    assert objective.distance(batch.x, batch.y, DRAWS).abs().max() < 1e-6
    blind = 1 - torch.cosine_similarity(flat(mean_gradient(net, batch)), flat(view.update))
    assert blind.min() > 1e-3, "the defense did nothing"
