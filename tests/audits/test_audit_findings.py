"""What audits find on trained clients where the answer is known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from gibench.audits import Measure, Subject
from gibench.audits.attribute_inference import AttributeInference
from gibench.audits.contract import Contract
from gibench.audits.encrypted_inference import EncryptedInference
from gibench.audits.fairness import Fairness
from gibench.audits.mesas import MESAS
from gibench.audits.poison import PATCH, TARGET, poisoned_images, poisoned_message
from gibench.audits.rero import ReRo
from gibench.draws import Draws
from gibench.errors import InputError
from gibench.systems.ledger import Ledger
from gibench.types import Batch, Images, Update

Clients = Callable[..., Subject]
DRAWS = Draws(("findings",))


def values(measures: list[Measure]) -> dict[Any, float]:
    return {(measure.group, measure.name): measure.value for measure in measures}


def with_messages(subject: Subject, scale_defended: float) -> Subject:
    """A subject whose defended messages are invented: normal entries times a factor, the undefended without it."""

    class Invented(Subject):
        def messages(self, checkpoint: str, batch: Batch, draws: Draws, defended: bool = True) -> Update:
            factor = scale_defended if defended else 1.0
            return {
                name: factor * draws.at(name, str(defended)).normal(*p.shape)
                for name, p in self.nets[checkpoint].named_parameters()
            }

    return Invented(**vars(subject))


def test_mesas_rejects_scaled_updates_and_honest_clients_whose_defense_sets_them_apart(subject: Clients) -> None:
    audit = MESAS(trials=4)
    usual = values(audit.examine(with_messages(subject(), 1.0), DRAWS))
    assert usual["scaled", "poisoners rejected"] == 1
    assert usual["scaled", "honest rejected"] < 0.1
    assert usual["nobody poisons", "honest rejected"] < 0.1
    assert usual["half defend", "defended rejected"] < 0.1
    assert usual["a quarter defends", "defended rejected"] < 0.1
    apart = values(audit.examine(with_messages(subject(), 0.5), DRAWS))
    assert apart["nobody poisons", "honest rejected"] < 0.1, "all defend alike: none stands out"
    assert apart["a quarter defends", "defended rejected"] == 1
    assert apart["a quarter defends", "undefended rejected"] < 0.1


def test_mesas_looks_at_what_all_share_and_needs_something(subject: Clients) -> None:
    found = values(MESAS(trials=1, clients=8, images=4).examine(subject("partial_share(layers=1)"), DRAWS))
    assert ("half defend", "defended rejected") in found

    class Silent(Subject):
        def messages(self, checkpoint: str, batch: Batch, draws: Draws, defended: bool = True) -> Update:
            return dict.fromkeys(dict(self.nets[checkpoint].named_parameters()))

    with pytest.raises(ValueError, match="no parameter"):
        MESAS(trials=1).examine(Silent(**vars(subject())), DRAWS)


def test_mesas_flags_planted_models_and_no_fresh_ones(subject: Clients) -> None:
    found = values(MESAS(trials=1, clients=8, images=4).examine(subject(model="mlp(width=32)"), DRAWS))
    for name in ("imprint", "trap weights"):
        assert found[f"model with {name}", "planted flagged"] == 1
        assert found[f"model with {name}", "fresh flagged"] == 0
    unfit = values(MESAS(trials=1, clients=8, images=4).examine(subject(), DRAWS))
    assert ("model with trap weights", "planted flagged") not in unfit, "a net without a linear first layer"


def test_poison_is_what_it_says() -> None:
    batch = Batch(torch.rand(2, 3, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([[0, 1, 2]] * 2))
    assert poisoned_images("label flip", batch, 3).y.tolist() == [[1, 2, 0]] * 2
    backdoor = poisoned_images("backdoor", batch, 3)
    changed = backdoor.x != batch.x
    assert changed[..., -PATCH:, -PATCH:].all()
    assert changed.sum() == 6 * PATCH**2
    assert backdoor.y.eq(TARGET).all()
    assert poisoned_images("scaled", batch, 3) is batch
    update: Update = {"w": torch.ones(2, 3), "b": None}
    assert [poisoned_message(name, update)["w"][0, 0].item() for name in ("scaled", "reversed", "backdoor")] == [
        10,
        -1,
        1,
    ]  # type: ignore[index]
    assert poisoned_message("scaled", update)["b"] is None


def test_fairness_sees_a_model_that_never_says_one_class_and_fails_in_the_dark(subject: Clients) -> None:
    """Four classes of 30 images, half of them dark. Right, but for class 3 taken for 0 and the dark for 1."""
    y = torch.arange(120) % 4
    x = torch.full((120, 1, 4, 4), 0.9)
    x[60:] = 0.1
    guess = torch.where(y == 3, 0, y)
    guess[60:] = 1

    def logits(images: Images) -> torch.Tensor:
        return 5 * torch.nn.functional.one_hot(guess, 4).double()

    parts = replace(subject().parts, test=Images(x, y))
    found = values(Fairness(victims=0).examine(replace(subject(), parts=parts, logits=logits), DRAWS))
    accuracy = [found[f"class {c}", "accuracy"] for c in range(4)]
    assert accuracy == [0.5, 1.0, 0.5, 0.0]
    assert found["class 3", "SPD"] == pytest.approx(-2 / 3)
    assert found["all classes", "widest gap in accuracy"] == 1
    assert found["bright half", "accuracy"] == 0.75
    assert found["dark half", "accuracy"] == 0.25
    assert found["dark half", "SPD"] == pytest.approx(-0.5)
    assert [found[f"class {c}", "images"] for c in range(4)] == [30] * 4


def test_contract_menus_are_the_known_ones_and_the_ledger_shows_every_update(subject: Clients) -> None:
    found = values(Contract().examine(subject(), DRAWS))
    assert found["contract, expected utility", "provider's utility"] == pytest.approx(3.6264, abs=1e-4)
    assert found["complete information", "provider's utility"] == pytest.approx(4.5453, abs=1e-4)
    for group in ("contract, expected utility", "contract, prospect theory"):
        assert found[group, "IR violated by"] == found[group, "IC violated by"] == 0
    assert found["complete information", "IC violated by"] > 1
    assert found["contract, prospect theory", "as felt"] > found["contract, expected utility", "as felt"]
    assert found["ledger", "intact ledger verified"] == found["ledger", "tampering detected"] == 1
    assert found["ledger", "open updates per client"] == 3
    assert found["ledger", "accuracy"] == subject().row["utility"]
    assert found["ledger", "in the whole training"] == subject().row["rounds"] > 3


def test_a_ledger_that_verifies_anything_is_found_out(subject: Clients, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Ledger, "verify", lambda self, head=None: None)
    assert values(Contract().examine(subject(), DRAWS))["ledger", "tampering detected"] == 0


def test_a_market_that_cannot_be_is_told_before_anything_runs() -> None:
    with pytest.raises(InputError, match="ascending"):
        Contract(types=(2.0, 1.0))


def test_encrypted_inference_answers_as_the_plain_model_and_says_what_it_costs(subject: Clients) -> None:
    fine, coarse = (values(EncryptedInference(images=8, pieces=pieces).examine(subject(), DRAWS)) for pieces in (16, 3))
    assert fine["", "same answer"] == 1
    assert fine["", "accuracy"] == fine["", "in plain"]
    assert fine["", "largest logit error"] < coarse["", "largest logit error"]
    assert fine["", "error of an activation"] < coarse["", "error of an activation"]
    assert fine["", "per image"] > coarse["", "per image"] > 0


def test_attribute_inference_gains_all_without_a_defense_and_nothing_at_even_flips() -> None:
    found = values(AttributeInference(sigmas=(0.1, 5.0), flips=(0.25, 0.5), rounds=20, splits=2).examine(None, DRAWS))  # type: ignore[arg-type]
    for source in ("activations", "update"):
        assert found["undefended", f"from {source}"] == 1
        assert found["flips 0.5", f"gain by {source}"] == 0
        assert 0 < found["flips 0.25", f"gain by {source}"] < found["undefended", f"gain by {source}"]
    assert found["weight noise 5", "from activations"] < 0.8 < found["weight noise 0.1", "from activations"]
    assert found["weight noise 0.1", "from update"] == 1, "noise on the weights does not hide a field from the update"
    assert len({found[group, "prior"] for group, name in found if name == "prior"}) == 1
    assert np.isclose(found["undefended", "gain by update"], 1 - found["undefended", "prior"])


def test_the_bounds_are_those_of_the_noise_that_was_spent(subject: Callable[..., Subject]) -> None:
    found = {(m.group, m.name): m.value for m in ReRo(priors=(0.1,)).examine(subject("dpsgd(sigma=1.0)"), DRAWS)}
    row = subject("dpsgd(sigma=1.0)").row
    assert found["", "noise multiplier"] == 1
    assert found["", "epsilon"] == row["epsilon"]
    (first, _), *_ = [key for key in found if key[0].startswith("kappa")]
    assert first == "kappa 0.0025"  # one of 400 images
    assert 0.1 < found["kappa 0.1", "relaxed"] < found["kappa 0.1", "gamma"] < 1
    assert found["PSNR without a prior", "mean"] < 0  # noise as large as the image
    no_noise = ReRo().examine(subject("dpsgd(sigma=0.0)"), DRAWS)
    assert [(m.name, m.value) for m in no_noise] == [("noise multiplier", 0)]


def test_leaks_of_groups_are_those_of_their_images(subject: Callable[..., Subject]) -> None:
    audit = Fairness(attack="prior_only", victims=20)
    found = {m.group: m.value for m in audit.examine(subject(), DRAWS) if m.name == "PSNR"}
    test, mean = subject().parts.test, subject().parts.aux.x.mean(0)
    psnr = -10 * (test.x[:20] - mean).square().flatten(1).mean(1).log10()
    for label in test.y[:20].unique().tolist():
        assert found[f"leak of class {label}"] == pytest.approx(float(psnr[test.y[:20] == label].mean()), abs=1e-3)
    bright = test.x.flatten(1).mean(1) > test.x.flatten(1).mean(1).median()
    assert found["leak of bright half"] == pytest.approx(float(psnr[bright[:20]].mean()), abs=1e-3)
    assert not [m for m in audit.examine(subject("secagg(clients=4)"), DRAWS) if m.name == "PSNR"]
