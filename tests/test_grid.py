"""The grid: what is in it, what is skipped and why, and identities that hold what a result depends on."""

from dataclasses import replace

import pytest

from gibench.datasets.digits import Digits
from gibench.errors import InputError
from gibench.grid import Cell, cells, clients
from gibench.registry import build
from gibench.suite import Suite

BASE = {
    "name": "t",
    "datasets": ["digits"],
    "models": ["lenet"],
    "defenses": ["prune(p=0.9)", "dpsgd(sigma=[0.1, 1.0])"],
    "attacks": ["inverting_gradients", "adaptive_matching", "lti"],
    "checkpoints": ["final"],
}


def grid(**changes: object) -> list[Cell]:
    return cells(Suite.model_validate(BASE | changes))


def one(**changes: object) -> Cell:
    """The cell of prior_only on the undefended client."""
    return next(c for c in grid(**changes) if c.attack.control and c.client.defense.entry_name() == "none")


def test_the_grid_is_the_product_and_always_has_the_references() -> None:
    found = grid(checkpoints=["init", "final"], batch_sizes=[1, 2], seeds=[0, 1])
    assert len(found) == 4 * 4 * 2 * 2 * 2
    assert len({c.id for c in found}) == len(found)
    for cell in found:
        partner = [
            c
            for c in found
            if (c.checkpoint, c.batch, c.client.seed) == (cell.checkpoint, cell.batch, cell.client.seed)
        ]
        assert {c.client.defense.spec() for c in partner} == {
            "none", "prune(p=0.9)", "dpsgd(sigma=0.1)", "dpsgd(sigma=1.0)",
        }  # fmt: skip
        assert any(c.attack.control and c.client == cell.client for c in partner)


def test_references_that_are_named_are_not_doubled() -> None:
    plain, named = grid(), grid(defenses=["none", *BASE["defenses"]], attacks=["prior_only", *BASE["attacks"]])
    assert [c.id for c in plain] == [c.id for c in named]


def test_an_undefended_attack_comes_before_defended_ones() -> None:
    assert [c.client.defense.entry_name() for c in grid()][:4] == ["none"] * 4


def test_duplicates_in_further_blocks_change_nothing() -> None:
    plain = grid()
    doubled = grid(extra=[{"defenses": ["prune(p=0.9)"]}, {}])
    assert [c.id for c in doubled] == [c.id for c in plain]
    more = grid(extra=[{"defenses": ["prune(p=0.5)"], "attacks": ["inverting_gradients"]}])
    assert [c.id for c in more][: len(plain)] == [c.id for c in plain]
    assert {c.describe()["defense"] for c in more[len(plain) :]} == {"prune(p=0.5)"}
    assert len(more) == len(plain) + 2


def test_ids_do_not_depend_on_the_order_or_the_spelling() -> None:
    turned = grid(defenses=["dpsgd( sigma=[1, 0.1] )", "prune"], attacks=BASE["attacks"][::-1])
    assert {c.id for c in turned} == {c.id for c in grid()}
    assert {c.id for c in grid(name="u", summary="x", version=2)} == {c.id for c in grid()}


def test_an_id_never_drifts() -> None:
    """A literal: if this fails, results that users already have would be computed again. Raise PROTOCOL instead."""
    assert one().client.id == "55e2b25b04a717b2"
    assert one().id == "bf1de615f279be3c"


@pytest.mark.parametrize(
    "changes",
    [
        {"victims": 31},
        {"first_victim": 1},
        {"seeds": [1]},
        {"checkpoints": ["init"]},
        {"batch_sizes": [2]},
        {"threats": ["D+k"]},
        {"rounds": 2},
        {"client_images": 100},
        {"aux_images": 100},
        {"models": ["lenet(width=13)"]},
        {"datasets": ["ihc"]},
        {"attacks": ['prior_only(mode="mean")'], "only": 1},
        {"training": {"epochs": 11}},
        {"training": {"clients": 63}},
        {"training": {"alpha": 0.5}},
        {"training": {"lr": 0.01}},
        {"training": {"protocol": "fedavg"}},
        {"training": {"local_lr": 0.04}},
    ],
)
def test_any_setting_changes_the_id(changes: dict) -> None:
    changes = dict(changes)
    if changes.pop("only", None):
        changed = next(c for c in grid(**changes) if c.attack.spec() == changes["attacks"][0])
    else:
        changed = one(**changes)
    assert changed.id != one().id


def test_checksum_version_and_every_field_of_an_entry_are_in_the_id(monkeypatch: pytest.MonkeyPatch) -> None:
    cell = one()

    def other(spec: str) -> Cell:
        return replace(cell, client=replace(cell.client, defense=build("defenses", spec)))

    specs = ["none", "prune(p=0.9)", "prune(p=0.91)", "dpsgd", "dpsgd(clip=2.0)", "dpsgd(delta=1e-5)", "latent_perturb",
             'dpsgd(accountant="prv")', "latent_perturb(lam=2.0)", "latent_perturb(adversary_steps=2)"]  # fmt: skip
    assert len({other(spec).id for spec in specs}) == len(specs)
    monkeypatch.setattr(Digits, "version", 2)
    assert replace(cell, client=replace(cell.client)).id != cell.id
    monkeypatch.setattr(Digits, "version", 1)
    assert replace(cell, client=replace(cell.client)).id == cell.id
    monkeypatch.setattr(Digits, "checksum", "sha256:other")
    assert replace(cell, client=replace(cell.client)).id != cell.id


def test_tuning_images_matter_only_to_attacks_that_are_tuned() -> None:
    def ids(**changes: object) -> dict[str, str]:
        return {c.attack.spec(): c.id for c in grid(defenses=["none"], **changes)}

    a, b = ids(attacks=["lti", "inverting_gradients"]), ids(attacks=["lti", "inverting_gradients"], tune_images=9)
    assert {name for name in a if a[name] != b[name]} == {"inverting_gradients"}


def skips(threat: str) -> dict[tuple[str, str], str]:
    suite = grid(threats=[threat], defenses=["latent_perturb", "prune(p=0.9)"])
    return {(c.attack.entry_name(), c.client.defense.entry_name()): c.skip for c in suite}


def test_nothing_is_skipped_where_all_is_granted() -> None:
    assert set(skips("D+kp").values()) == {""}


def test_a_pair_is_skipped_with_the_reason() -> None:
    found = skips("D+k")
    assert found["adaptive_matching", "latent_perturb"] == "needs defense_params, which threat model D+k does not grant"
    assert found["adaptive_matching", "prune"] == found["adaptive_matching", "none"] == ""
    assert found["inverting_gradients", "latent_perturb"] == ""
    found = skips("B")
    assert found["lti", "none"] == "needs aux_data, defense_spec, which threat model B does not grant"
    assert found["inverting_gradients", "prune"] == ""
    assert "batch_size" in skips("A")["inverting_gradients", "none"]
    assert not any(reason for (attack, _), reason in skips("A").items() if attack == "prior_only")


def test_clients_are_trained_once_and_rehearsals_are_among_them() -> None:
    found = grid(checkpoints=["init", "final"], threats=["D+kp", "B"])
    needed = clients(found)
    assert sorted(c.defense.spec() for c in needed) == [
        "dpsgd(sigma=0.1)", "dpsgd(sigma=1.0)", "none", "prune(p=0.9)",
    ]  # fmt: skip
    oblivious = next(c for c in found if c.attack.entry_name() == "inverting_gradients" and c.client.defense.knob)
    adaptive = next(c for c in found if c.attack.entry_name() == "adaptive_matching" and c.client.defense.knob)
    assert oblivious.rehearsal.defense.entry_name() == "none"
    assert adaptive.rehearsal == adaptive.client
    assert clients([oblivious]) == [oblivious.client, oblivious.rehearsal]


def test_describe_names_the_cell() -> None:
    cell = one(threats=["D+lkp"])
    told = cell.describe()
    assert (told["dataset"], told["model"], told["defense"], told["attack"]) == (
        "digits",
        "lenet",
        "none",
        "prior_only",
    )
    assert (told["labels"], told["adaptive"], told["batch"], told["cell"]) == ("given", False, 1, cell.id)
    assert one().describe()["labels"] == "inferred"


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("defenses", ["prun"], "did you mean 'prune'"),
        ("attacks", ["lti(epochs=0)"], "epochs"),
        ("models", ["vgg"], "vgg"),
    ],
)
def test_a_typo_dies_before_any_work(key: str, value: list[str], told: str) -> None:
    with pytest.raises(InputError, match=told):
        grid(**{key: value})


def test_no_two_cells_share_all_their_names() -> None:
    seen = [tuple((k, v) for k, v in c.describe().items() if k not in ("cell", "client")) for c in grid()]
    assert len(set(seen)) == len(seen)


def test_a_further_block_may_differ_in_all_that_a_setting_is_made_of() -> None:
    plain = grid()
    block = {"batch_sizes": [2], "checkpoints": ["final"], "threats": ["B+m"], "victims": 1, "rounds": 3, "seeds": [7]}
    more = grid(extra=[block | {"attacks": ["prior_only"], "training": {"protocol": "fedavg", "local_epochs": 3}}])
    new = more[len(plain) :]
    assert {(c.batch, c.checkpoint, c.threat, c.victims) for c in new} == {(2, "final", "B+m", 1)}
    assert {(c.rounds, c.client.seed) for c in new} == {(3, 7)}
    assert {c.client.training.protocol for c in new} == {"fedavg"}
    assert {c.client.training.epochs for c in new} == {c.client.training.epochs for c in plain}  # the suite's own
    assert {c.describe()["training"] for c in new} == {"fedavg(3 x 0.05)"}
    assert {c.describe()["training"] for c in plain} == {"fedsgd"}


def test_an_attack_that_cannot_handle_the_model_is_skipped_with_the_reason() -> None:
    attacks = ["analytic_fc", "bn_matching", "fedavg_matching", "imprint", "idlg"]
    reasons = {c.attack.entry_name(): c.skip for c in grid(attacks=attacks, threats=["E+kp"], batch_sizes=[4])}
    assert "Conv2d" in reasons["analytic_fc"]
    assert "no BatchNorm" in reasons["bn_matching"]
    assert "no local training" in reasons["fedavg_matching"]
    assert "active_server" in reasons["imprint"]
    assert "one image per message" in reasons["idlg"]
    fit = grid(attacks=["analytic_fc"], models=["mlp"], defenses=["none"])
    assert not any(c.skip for c in fit)


def test_an_attack_on_what_a_defense_withholds_is_skipped_with_the_reason() -> None:
    attack = 'inverse_network(at="features")'
    stacked = "prune(p=0.5) + partial_share(layers=1)"
    defenses = ["partial_share(layers=1)", 'partial_share(layers=1, side="leading")', stacked]
    found = {c.client.defense.spec(): c.skip for c in grid(attacks=[attack], defenses=defenses) if not c.attack.control}
    assert "partial_share withholds" in found["partial_share(layers=1)"]
    assert "withholds" in found[stacked]
    assert not found['partial_share(layers=1, side="leading")']
    assert not found["none"]


def test_exact_statistics_are_asked_for_only_where_they_are_used() -> None:
    model = {"models": ['convnet(norm="batch")'], "defenses": ["none"], "threats": ["D+kp"]}
    exact, running = (
        next(c.skip for c in grid(attacks=[spec], **model) if not c.attack.control)
        for spec in ("bn_matching", 'bn_matching(statistics="running")')
    )
    assert "bn_stats" in exact
    assert running == ""
