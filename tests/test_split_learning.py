"""Split learning as a protocol: what the server sees, who is served, and that boards and identities stay apart."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from scene import held, net_of, seen
from torch.func import functional_call

from gibench.datasets import Parts
from gibench.defenses.label_flip import LabelFlip
from gibench.defenses.weight_noise import WeightNoise
from gibench.draws import Draws
from gibench.engine.labels import labels_of
from gibench.errors import InputError
from gibench.gradients import mean_gradient
from gibench.grid import Cell, cells
from gibench.leaderboard.aggregate import aggregate
from gibench.message import make_activations, make_message, rounds_seen, used_weights
from gibench.registry import build, names
from gibench.runner import run
from gibench.split import smashed, split
from gibench.store import read_results
from gibench.suite import Suite
from gibench.types import ACTIVATIONS, Images

DRAWS = Draws(("split",), range(3))
NONE = build("defenses", "none")
BASE = {
    "name": "split",
    "datasets": ["digits"],
    "models": ["lenet"],
    "defenses": ["none"],
    "attacks": ["activation_matching"],
    "checkpoints": ["final"],
    "training": {"protocol": "split"},
}


def grid(**changes: object) -> list[Cell]:
    return cells(Suite.model_validate({**BASE, **changes}))


@pytest.mark.parametrize("cut", [1, 2])
def test_the_server_sees_the_activations_at_the_cut(cut: int, digits: Parts) -> None:
    net, batch = net_of("lenet", 1, 10), held(digits.test, 3, 2)
    (sent,) = rounds_seen(net, NONE, batch, DRAWS, 1, cut=cut)
    assert list(sent) == [ACTIVATIONS]
    assert torch.equal(sent[ACTIVATIONS].flatten(0, 1), smashed(net, batch.x.flatten(0, 1), cut).detach())
    assert not sent[ACTIVATIONS].requires_grad


def test_noise_is_on_the_clients_weights_alone_and_fresh_in_every_round(digits: Parts) -> None:
    net, batch, noisy = net_of("lenet(width=4)", 1, 10), held(digits.test, 3, 2), WeightNoise(sigma=0.1)
    params = noisy.weights(net, DRAWS.at("weights"), {})
    client = split(net, 1).client
    sent = make_activations(net, noisy, batch, DRAWS, 1)[ACTIVATIONS]
    for v in range(3):
        own = {name: params[name][v] for name, _ in client.named_parameters()}
        assert torch.allclose(sent[v], functional_call(client, own, (batch.x[v],)), atol=1e-5)
    assert not torch.allclose(sent[0], smashed(net, batch.x[0], 1), atol=0.01)
    used = used_weights(net, noisy, DRAWS.at("weights"), {}, 1)
    kept = {name for name, p in net.named_parameters() if torch.equal(used[name][1], p)}
    assert (
        kept
        == {name for name, _ in split(net, 1).server.named_parameters()}
        == {"3.weight", "3.bias"} | {name for name in used if name.startswith("6")}
    )
    first, second = rounds_seen(net, noisy, batch, DRAWS, 2, cut=1)
    assert not torch.allclose(first[ACTIVATIONS], second[ACTIVATIONS], atol=0.01)


def test_training_takes_the_gradient_of_the_whole_net_at_the_weights_used(digits: Parts) -> None:
    net, batch = net_of("lenet(width=4)", 1, 10), held(digits.test, 3, 2)
    plain = make_message(net, NONE, batch, DRAWS, cut=1)
    assert all(torch.equal(g, plain[name]) for name, g in mean_gradient(net, batch).items())
    noisy = WeightNoise(sigma=0.1)
    used = used_weights(net, noisy, DRAWS.at("weights"), {}, 1)
    made, wanted = make_message(net, noisy, batch, DRAWS, cut=1), mean_gradient(net, batch, params=used)
    assert all(torch.equal(made[name], g) for name, g in wanted.items())
    whole = make_message(net, noisy, batch, DRAWS)
    assert not torch.allclose(made["6.weight"], whole["6.weight"])


def test_labels_do_not_cross_the_cut_and_the_server_guesses_them(digits: Parts, few_aux: Images) -> None:
    net, batch = net_of("lenet", 1, 10), held(digits.test, 3, 2)
    flipping = LabelFlip(p=0.9).fit(few_aux, Draws(("fit",)))
    plain, flipped = (make_activations(net, d, batch, DRAWS, 1)[ACTIVATIONS] for d in (NONE, flipping))
    assert torch.equal(plain, flipped)
    view = seen(net, batch, 10, labels=False, cut=1)
    assert torch.equal(labels_of(view, view.update).flatten(), net(batch.x.flatten(0, 1)).argmax(1))
    assert torch.equal(labels_of(seen(net, batch, 10, cut=1), view.update), batch.y)


def test_without_split_learning_there_is_no_cut_in_any_identity() -> None:
    plain = grid(training={}, attacks=["inverting_gradients"])[0].client
    assert "cut" not in plain.identity()["training"]
    assert "cut" not in Suite.model_validate({**BASE, "training": {}}).model_dump()["training"]
    one, named, two = (grid(training={"protocol": "split", **own})[0] for own in ({}, {"cut": 1}, {"cut": 2}))
    assert one.id == named.id != two.id
    assert [c.describe()["training"] for c in (one, two)] == ["split(cut 1)", "split(cut 2)"]
    assert one.client.identity()["training"]["cut"] == 1


def test_a_further_grid_may_bring_its_own_cut() -> None:
    found = grid(extra=[{"training": {"cut": 2}}, {"training": {"protocol": "fedsgd"}}])
    assert {c.describe()["training"] for c in found} == {"split(cut 1)", "split(cut 2)", "fedsgd"}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"training": {"cut": 1}}, 'the protocol is "fedsgd"'),
        ({"training": {"protocol": "fedavg", "cut": 2}}, 'the protocol is "fedavg"'),
        ({"extra": [{"training": {"protocol": "fedsgd", "cut": 2}}]}, 'the protocol is "fedsgd"'),
        ({"training": {"protocol": "split", "cut": 3}}, "none on digits with lenet: split: cut is 3; allowed: 1 to 2"),
        ({"models": ["mlp(depth=2)"], "training": {"protocol": "split", "cut": 9}}, "allowed: 1 to 2"),
        ({"defenses": ["dpsgd"]}, "protects gradients; split learning sends activations"),
        ({"defenses": ["psgl + prune(p=0.5)"]}, "protects gradients; split learning sends activations"),
    ],
)
def test_what_cannot_be_is_one_line(changes: dict[str, object], told: str) -> None:
    with pytest.raises((InputError, ValueError), match="(?s)" + told.replace("(", r"\(")) as caught:
        grid(**changes)
    assert isinstance(caught.value, InputError) is ("training" not in told and "protocol" not in told)


def test_defenses_of_images_and_weights_serve_and_those_of_gradients_do_not() -> None:
    serving = {name for name in names("defenses") if not build("defenses", name).bypassed()}
    assert serving >= {"none", "psgl", "weight_noise", "label_flip", "salm", "obfuscate", "latent_perturb", "mixup"}
    refused = {"clip", "dpsgd", "noise", "prune", "secagg", "he", "partial_share", "local_steps", "soteria", "dcs"}
    assert not serving & refused


def test_an_attack_on_the_other_kind_of_message_is_skipped_with_the_reason() -> None:
    every = [name for name in names("attacks") if name != "prior_only"]
    found = {c.attack.entry_name(): c.skip for c in grid(attacks=every, threats=["H+lkp"])}
    reading = {"prior_only", "auto", "activation_matching", "adaptive_activation_matching"}
    assert {name for name, why in found.items() if not why} == reading
    assert {why for name, why in found.items() if why} == {"reads a gradient or a delta; the client sends activations"}
    apart = grid(attacks=["activation_matching", 'inverse_network(at="activations")'], training={})
    assert {c.skip for c in apart} == {"", "reads activations; the client sends a gradient"}
    assert not any(c.skip for c in grid(attacks=['inverse_network(at="activations")']))


def test_a_whole_run_has_a_board_for_every_cut(tmp_path: Path) -> None:
    small = {"protocol": "split", "clients": 4, "epochs": 1}
    suite = Suite.model_validate(
        {
            **BASE,
            "models": ["lenet(width=2)"],
            "defenses": ["psgl(epochs=1)", "weight_noise", "label_flip"],
            "attacks": ["activation_matching(steps=2, tv=0)", "adaptive_activation_matching(steps=2, tv=0)",
                        'inverse_network(at="activations", epochs=1)', "idlg"],
            "threats": ["D+kpm"],
            "batch_sizes": [2],
            "rounds": 2,
            "victims": 2,
            "client_images": 24,
            "aux_images": 40,
            "training": small,
            "extra": [{"defenses": ["none"], "training": own} for own in ({"cut": 2}, {"protocol": "fedsgd"})],
        }
    )  # fmt: skip
    state = torch.random.get_rng_state()
    ended = run(suite, tmp_path, workers=1, device="cpu")
    torch.random.set_rng_state(state)
    assert ended.failed == []
    results = read_results(tmp_path)
    split_rows = results.rows[results.rows.training != "fedsgd"]
    assert set(split_rows.status) == {"ok"}
    assert len(split_rows) == (4 + 1) * 4 * 4  # defenses at both cuts, attacks that read activations, images
    assert split_rows.psnr.notna().all()
    table = aggregate(results)
    assert set(table.training) == {"split(cut 1)", "split(cut 2)", "fedsgd"}
    bytes_of = results.clients.drop_duplicates("training").set_index("training").upload_bytes
    assert bytes_of["split(cut 1)"] == 4 * 2 * 16 * 16
    assert bytes_of["split(cut 2)"] == 4 * 2 * 8 * 8
