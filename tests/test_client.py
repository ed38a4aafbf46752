"""Federated training: who holds what, that rounds are what they claim, and that it learns."""

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, ClassVar

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic.dataclasses import dataclass
from scene import net_of
from torch import Tensor, nn

from gibench.client import Checkpoints, build_net, load_parts, restore, split_clients, train, train_rounds
from gibench.datasets import Parts
from gibench.defenses import Defense, Exposure
from gibench.draws import Draws
from gibench.grid import Client
from gibench.registry import build, names
from gibench.suite import Training
from gibench.types import Batch, Images


@dataclass(frozen=True)
class Watched(Defense):
    """No defense; keeps the batches that clients would send."""

    seen: ClassVar[list[Batch]] = []

    def images(self, batch: Batch, draws: Draws) -> Batch:
        self.seen.append(batch)
        return batch


@dataclass(frozen=True)
class WatchedPoisson(Watched):
    sampling: ClassVar[str] = "poisson"


@pytest.fixture
def batches() -> Iterator[list[Batch]]:
    Watched.seen.clear()
    yield Watched.seen
    Watched.seen.clear()


def client(model: str = "lenet(width=6)", dataset: str = "digits", defense: str = "none", **training: object) -> Client:
    return Client(
        build("datasets", dataset),
        build("models", model),
        build("defenses", defense),
        0,
        Training(**training),
        None,
        None,
    )


def learned(
    net: nn.Module,
    images: Images,
    defense: Defense | None = None,
    shards: list[Tensor] | None = None,
    **training: object,
) -> tuple[dict[str, Tensor], dict[str, dict[str, Tensor]]]:
    """Weights after `train_rounds`, and the checkpoints that it left."""
    asked = Training(**training)
    shards = split_clients(images.y, asked, Draws(("split",))) if shards is None else shards
    kept = Checkpoints()
    train_rounds(net, defense or build("defenses", "none"), images, shards, asked, 0, Draws(("train",)), kept)
    return {name: p.detach().clone() for name, p in net.named_parameters()}, kept.weights


def apart(a: dict[str, Tensor], b: dict[str, Tensor]) -> float:
    return max(float((a[name] - b[name]).detach().abs().max()) for name in a)


labels = st.lists(st.integers(0, 4), min_size=1, max_size=120).map(torch.tensor)


@given(y=labels, clients=st.integers(1, 40), alpha=st.none() | st.floats(0.01, 100), seed=st.integers(0, 9))
def test_a_split_is_a_partition(y: Tensor, clients: int, alpha: float | None, seed: int) -> None:
    shards = split_clients(y, Training(clients=clients, alpha=alpha), Draws(("split", seed)))
    assert torch.cat(shards).sort().values.tolist() == list(range(len(y)))
    assert all(len(shard) for shard in shards)
    assert len(shards) <= min(clients, len(y))
    if alpha is None:
        sizes = [len(shard) for shard in shards]
        assert len(shards) == min(clients, len(y))
        assert max(sizes) - min(sizes) <= 1
    again = split_clients(y, Training(clients=clients, alpha=alpha), Draws(("split", seed)))
    assert all(torch.equal(a, b) for a, b in zip(shards, again, strict=True))


def test_a_small_alpha_skews_labels_more(digits: Parts) -> None:
    def skew(alpha: float | None, seed: int) -> float:
        """Share of a client's images that belong to its commonest class, averaged over images."""
        shards = split_clients(digits.client.y, Training(clients=10, alpha=alpha), Draws(("split", seed)))
        return sum(int(digits.client.y[s].bincount().max()) for s in shards) / len(digits.client.y)

    for seed in range(3):
        values = [skew(alpha, seed) for alpha in (0.05, 0.5, 5.0, None)]
        assert values[0] > 0.5
        assert values[0] > values[1] > values[2] > values[3] - 0.05
        assert values[3] < 0.3


@pytest.mark.parametrize("kind", ["adam", "sgd"])
def test_four_clients_of_two_images_train_like_one_server_with_all_eight(digits: Parts, kind: str) -> None:
    images = Images(digits.client.x[:8].double(), digits.client.y[:8])
    start = net_of("lenet(width=6)", 1, 10, seed=3).double()
    asked = {
        "clients": 4,
        "batch": 2,
        "epochs": 3,
        "optimizer": kind,
        "lr": 0.05,
        "momentum": 0.9 if kind == "sgd" else 0,
    }
    found, _ = learned(start, images, **asked)
    plain = net_of("lenet(width=6)", 1, 10, seed=3).double()
    make = torch.optim.Adam if kind == "adam" else lambda p, lr: torch.optim.SGD(p, lr=lr, momentum=0.9)
    optimizer = make(plain.parameters(), lr=0.05)
    for _ in range(3):
        optimizer.zero_grad()
        nn.functional.cross_entropy(plain(images.x), images.y).backward()
        optimizer.step()
    assert apart(found, dict(plain.named_parameters())) < 1e-9
    first = dict(net_of("lenet(width=6)", 1, 10, seed=3).double().named_parameters())
    assert apart(found, first) > 1e-2


def test_averaging_weights_after_one_local_step_is_averaging_gradients(digits: Parts) -> None:
    images = Images(digits.client.x[:24].double(), digits.client.y[:24])
    shared = {"clients": 4, "batch": 2, "epochs": 2}
    one, _ = learned(
        net_of("lenet(width=6)", 1, 10).double(), images, protocol="fedsgd", optimizer="sgd", lr=0.07, **shared
    )
    two, _ = learned(net_of("lenet(width=6)", 1, 10).double(), images, protocol="fedavg", local_lr=0.07, **shared)
    assert apart(one, two) < 1e-12


def test_local_training_is_plain_sgd_of_every_client(digits: Parts) -> None:
    images = Images(digits.client.x[:4].double(), digits.client.y[:4])
    asked = {"protocol": "fedavg", "local_epochs": 3, "local_lr": 0.05, "local_momentum": 0.9, "clients": 2, "batch": 2}
    shards = [torch.tensor([0, 1]), torch.tensor([2, 3])]
    found, _ = learned(net_of("lenet(width=6)", 1, 10).double(), images, shards=shards, epochs=1, **asked)
    ends = []
    for shard in shards:
        net = net_of("lenet(width=6)", 1, 10).double()
        optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
        for _ in range(3):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(images.x[shard]), images.y[shard]).backward()
            optimizer.step()
        ends.append(dict(net.named_parameters()))
    assert apart(found, {name: (ends[0][name] + ends[1][name]) / 2 for name in found}) < 1e-12


def marked(n: int) -> Images:
    """Images that name themselves: pixel value i / n."""
    return Images((torch.arange(n) / n).view(n, 1, 1, 1).expand(n, 1, 8, 8).clone(), torch.zeros(n, dtype=torch.long))


def test_an_epoch_shows_every_image_of_every_client_once(batches: list[Batch]) -> None:
    images = marked(48)
    learned(net_of("lenet(width=1)", 1, 2, side=8), images, Watched(), clients=4, batch=3, epochs=2)
    shards = split_clients(images.y, Training(clients=4), Draws(("split",)))
    assert len(batches) == 8
    orders = []
    for epoch in range(2):
        shown = torch.cat([b.x[..., 0, 0, 0] * 48 for b in batches[4 * epoch : 4 * epoch + 4]], 1).round().long()
        for shard, own in zip(shards, shown, strict=True):
            assert own.sort().values.tolist() == shard.sort().values.tolist()
        orders.append(shown)
    assert not torch.equal(*orders)


def test_poisson_sampling_includes_every_image_at_its_rate(batches: list[Batch]) -> None:
    n, clients, b = 60, 3, 4
    images = marked(n)
    learned(net_of("lenet(width=1)", 1, 2, side=8), images, WatchedPoisson(), clients=clients, batch=b, epochs=160)
    shards = split_clients(images.y, Training(clients=clients), Draws(("split",)))
    counts, sizes = torch.zeros(n), []
    for batch in batches:
        assert batch.size == b
        assert batch.weight is not None
        for k, shard in enumerate(shards):
            own = (batch.x[k, :, 0, 0, 0] * n).round().long()[batch.weight[k] == 1].tolist()
            assert set(own) <= set(shard.tolist())
            assert len(set(own)) == len(own)
            counts[own] += 1
            sizes.append(len(own))
    rounds, rate = len(batches), b / (n / clients)
    assert rounds == 800
    share = counts / rounds
    assert (share - rate).abs().max() < 5 * (rate * (1 - rate) / rounds) ** 0.5
    spread = torch.tensor(sizes).float()
    assert float(spread.mean()) == pytest.approx(b, rel=0.03)
    assert float(spread.var()) == pytest.approx(b * (1 - rate), rel=0.1)  # binomial, not fixed


def test_training_survives_rounds_in_which_nobody_drew_an_image(digits: Parts) -> None:
    images = Images(digits.client.x[:20], digits.client.y[:20])
    found, _ = learned(
        net_of("lenet(width=6)", 1, 10), images, build("defenses", "dpsgd(sigma=0.01)"), clients=1, batch=1, epochs=2
    )
    assert all(p.isfinite().all() for p in found.values())


def test_a_short_training_learns_digits(digits: Parts) -> None:
    asked = client(clients=16, epochs=5)
    trained, row = train(asked, digits)
    assert row["utility"] > 0.6
    assert row["utility"] == row["utility_raw"]
    assert row["auc"] > 0.9
    assert (row["images"], row["rounds"], row["status"]) == (719, 5 * (719 // 16), "ok")
    net = restore(asked, trained, "final", "cpu")
    with torch.no_grad():
        accuracy = float((net(digits.test.x).argmax(1) == digits.test.y).double().mean())
    assert row["utility"] == pytest.approx(accuracy)
    assert row["upload_bytes"] == 4 * sum(p.numel() for p in net.parameters())
    assert set(trained.checkpoints) == {"init", "early", "final"}
    first = build_net(asked, asked.defense).state_dict()
    assert all(torch.equal(first[k], w) for k, w in trained.checkpoints["init"].items())
    assert not torch.equal(*(trained.checkpoints[c]["1.weight"] for c in ("early", "final")))
    assert not torch.equal(*(trained.checkpoints[c]["1.weight"] for c in ("init", "early")))


def test_training_repeats_and_hangs_on_the_seed(digits: Parts) -> None:
    small = replace(digits, client=Images(digits.client.x[:32], digits.client.y[:32]))
    asked = client(clients=4, epochs=1, batch=2)
    one, two, other = (train(c, small)[0].checkpoints for c in (asked, asked, replace(asked, seed=1)))
    assert all(torch.equal(w, two["final"][k]) for k, w in one["final"].items())
    assert not torch.equal(one["init"]["1.weight"], other["init"]["1.weight"])
    defended = replace(asked, defense=build("defenses", "prune(p=0.5)"))
    pruned = train(defended, small)[0].checkpoints
    assert all(torch.equal(w, pruned["init"][k]) for k, w in one["init"].items())
    assert not torch.equal(one["final"]["1.weight"], pruned["final"]["1.weight"])


def test_a_defended_client_reports_its_privacy(digits: Parts) -> None:
    small = replace(digits, client=Images(digits.client.x[:60], digits.client.y[:60]))
    asked = client(defense="dpsgd(sigma=1.0)", clients=3, epochs=1, batch=4)
    _, row = train(asked, small)
    expected = asked.defense.accounting(Exposure(20, 60, 4, 5, 1))
    assert {k: row[k] for k in expected} == expected
    assert (row["classes"], row["strength"]) == (10, 1.0)
    bare = train(replace(asked, defense=build("defenses", "none")), small)[1]
    assert "epsilon" not in bare
    assert bare["strength"] is None


def test_batch_normalisation_trains_and_its_statistics_follow_the_clients(ihc: Parts) -> None:
    images = Images(ihc.client.x[:64, :, ::2, ::2], ihc.client.y[:64])
    net = net_of('resnet18(width=8, norm="batch")', 3, 5, side=16)
    before = {k: w.clone() for k, w in net.state_dict().items()}
    with torch.no_grad():
        loss = nn.functional.cross_entropy(net(images.x), images.y)
    learned(net, images, clients=8, batch=2, epochs=4)
    after = net.state_dict()
    assert not net.training
    for name, value in after.items():
        assert value.isfinite().all()
        if "running" in name or name.endswith("weight"):
            assert not torch.equal(value, before[name]), name
    with torch.no_grad():
        hidden = net[1](net[0](images.x))
        assert nn.functional.cross_entropy(net(images.x), images.y) < loss
    # 16 updates of momentum 0.1 leave 0.9^16 = 19 % of the start
    assert torch.allclose(after["2.running_mean"], hidden.mean((0, 2, 3)), atol=0.35 * float(hidden.abs().mean()))


@pytest.mark.filterwarnings("ignore")
def test_a_training_that_diverges_is_told(digits: Parts) -> None:
    images = Images(digits.client.x[:8], digits.client.y[:8])
    with pytest.raises(FloatingPointError, match="diverged in epoch"):
        learned(net_of("lenet(width=6)", 1, 10), images, clients=2, batch=4, epochs=50, optimizer="sgd", lr=1e30)


def test_caps_take_a_prefix_of_client_and_aux_only(digits: Parts) -> None:
    parts = load_parts(build("datasets", "digits"), 10, 20, "cpu")
    assert torch.equal(parts.client.x, digits.client.x[:10])
    assert torch.equal(parts.aux.y, digits.aux.y[:20])
    assert len(parts.test.y) == len(digits.test.y)
    assert len(parts.tune.y) == len(digits.tune.y)


@settings(max_examples=20)
@given(n=st.integers(1, 30), clients=st.integers(1, 40), b=st.integers(1, 5))
def test_any_number_of_images_clients_and_batch_makes_rounds(n: int, clients: int, b: int) -> None:
    Watched.seen.clear()
    learned(net_of("lenet(width=1)", 1, 2, side=8), marked(n), Watched(), clients=clients, batch=b, epochs=1)
    assert len(Watched.seen) == max(1, n // (min(clients, n) * b))
    assert all(batch.x.shape[:2] == (min(clients, n), b) for batch in Watched.seen)


def trainings() -> Iterator[Any]:
    """Every defense under both protocols; what one does to images hangs on neither protocol nor model."""
    more = (
        'latent_perturb(kind="bottleneck", autoencoder_epochs=1, epochs=1)',
        'latent_perturb(kind="code", epochs=1, still=true)',
        'latent_perturb(reading="B", fresh=1)',
        'obfuscate(kind="svd_keyed")',
        'obfuscate(kind="pca")',
    )
    for spec in (*names("defenses"), *more):
        again = pytest.mark.slow if build("defenses", spec).place == "data" else ()
        yield pytest.param(spec, "lenet(width=6)", "fedsgd")
        yield pytest.param(spec, "lenet(width=6)", "fedavg", marks=again)
        yield pytest.param(spec, "convnet(width=8)", "fedsgd", marks=pytest.mark.slow)


@pytest.mark.parametrize(("spec", "model", "protocol"), list(trainings()))
def test_every_defense_trains_and_its_utility_is_measured(digits: Parts, spec: str, model: str, protocol: str) -> None:
    """One epoch on real images; noise at inference is each image's own, not one draw for all."""
    spec = {"latent_perturb": "latent_perturb(autoencoder_epochs=1, epochs=1)", "dcs": "dcs(steps=2)"}.get(spec, spec)
    if lacking := build("defenses", spec).lacks():
        pytest.skip(lacking)
    few = replace(
        digits,
        client=Images(digits.client.x[:40], digits.client.y[:40]),
        aux=Images(digits.aux.x[:60], digits.aux.y[:60]),
        test=Images(digits.test.x[:100], digits.test.y[:100]),
    )
    trained, row = train(client(model=model, defense=spec, clients=4, epochs=1, batch=2, protocol=protocol), few)
    for suffix in ("", "_raw"):
        assert 0 <= row[f"utility{suffix}"] <= 1
        assert math.isfinite(row[f"cross_entropy{suffix}"])
    first, last = trained.checkpoints["init"], trained.checkpoints["final"]
    assert any(not torch.equal(first[name], last[name]) for name in first)
