"""SVD and PCA obfuscation: what is lost is what the decompositions say, and the key gives all of it back."""

from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError
from scene import held, net_of, seen

from gibench.datasets import Parts
from gibench.defenses.obfuscate import Obfuscate, low_rank
from gibench.draws import Draws
from gibench.engine.labels import matched_labels
from gibench.engine.objective import Objective, Plan
from gibench.message import transmitted
from gibench.types import Images

DRAWS = Draws(("m",), range(4))


@pytest.mark.parametrize("kept", [1, 4, 17, 32])
def test_what_low_rank_drops_is_the_sum_of_the_dropped_squares(kept: int, ihc: Parts) -> None:
    x = ihc.test.x[:8].double()
    out, s = low_rank(x, kept), torch.linalg.svdvals(x)
    assert torch.allclose((x - out).square().sum((2, 3)), s[..., kept:].square().sum(-1), atol=1e-9)
    assert torch.linalg.matrix_rank(out).max() == kept
    assert torch.allclose(torch.linalg.svdvals(out)[..., :kept], s[..., :kept])


def test_strength_is_the_share_of_the_rank_that_goes(ihc: Parts) -> None:
    batch, side = held(ihc.test, 4, 2, torch.float64), 32
    for strength in Obfuscate.sweep:
        kept = max(1, round((1 - strength) * side))
        sent = Obfuscate(strength=strength).images(batch, DRAWS)
        assert torch.allclose(sent.x, low_rank(batch.x, kept).clamp(0, 1))
        assert torch.equal(sent.x, batch.x) is (strength == 0)
        assert torch.equal(Obfuscate(strength=strength).inference(batch, DRAWS).x, sent.x)


def keyed(ihc: Parts, strength: float, name: str = "fit") -> Obfuscate:
    aux = Images(ihc.aux.x[:64].double(), ihc.aux.y[:64])
    return Obfuscate(kind="svd_keyed", strength=strength).fit(aux, Draws((name,)))


@pytest.mark.parametrize("strength", [0.0, 0.3, 1.0])
def test_the_key_gives_the_image_back_and_no_other_key_does(strength: float, ihc: Parts) -> None:
    defense, batch = keyed(ihc, strength), held(ihc.test, 4, 2, torch.float64)
    for key in defense.rotations():
        assert torch.allclose(key @ key.T, torch.eye(32).double(), atol=1e-9)
    sent = defense.images(batch, DRAWS)
    view = seen(net_of("lenet", 3, 5).double(), batch, 5, defense)
    assert (defense.match(view).post(sent.x) - batch.x).abs().max() < 1e-4
    other = keyed(ihc, strength, "another")
    assert (other.match(view).post(sent.x) - batch.x).abs().mean() > 0.05 or strength == 0
    assert not torch.equal(defense.state["rows"], defense.state["columns"])


def test_the_key_keeps_the_spectrum_and_destroys_the_layout(ihc: Parts) -> None:
    defense, batch = keyed(ihc, 1.0), held(ihc.test, 8, 1, torch.float64)
    centred = batch.x - defense.state["mean"]
    sent = defense.images(batch, Draws(("m",), range(8))).x.logit() / 4
    assert torch.allclose(torch.linalg.svdvals(sent), torch.linalg.svdvals(centred), atol=1e-6)
    pairs = torch.stack([sent.flatten(1), centred.flatten(1)], 1)
    assert torch.stack([torch.corrcoef(pair)[0, 1] for pair in pairs]).abs().max() < 0.3


def test_principal_components_lose_the_variance_of_those_that_are_dropped(ihc: Parts) -> None:
    aux = Images(ihc.aux.x[:64].double(), ihc.aux.y[:64])
    defense = Obfuscate(kind="pca", strength=0.75).fit(aux, Draws(("fit",)))
    basis, mean = defense.state["basis"], defense.state["mean"]
    flat = (aux.x - mean).flatten(1)
    part = flat @ basis[:16].T @ basis[:16]
    spectrum = torch.linalg.svdvals(flat)
    assert float((flat - part).square().sum()) == pytest.approx(float(spectrum[16:].square().sum()))
    batch = held(aux, 4, 2, torch.float64)
    assert torch.allclose(
        defense.images(batch, DRAWS).x, (mean + part[:8].view_as(aux.x[:8])).clamp(0, 1).view_as(batch.x)
    )
    whole = replace(defense, strength=0.0).images(batch, DRAWS)
    assert torch.allclose(whole.x, batch.x, atol=1e-9)  # images of which the basis was made
    test = held(ihc.test, 4, 2, torch.float64)
    lost = [float((replace(defense, strength=s).images(test, DRAWS).x - test.x).norm()) for s in (0.0, 0.5, 0.9, 1.0)]
    assert lost == sorted(lost)
    assert lost[0] > 0


@pytest.mark.parametrize("kind", ["svd_lowrank", "svd_keyed", "pca"])
def test_the_simulation_is_exact_at_the_obfuscated_image(kind: str, ihc: Parts, digits: Parts) -> None:
    aux = Images(digits.aux.x[:64].double(), digits.aux.y[:64])
    defense, batch = Obfuscate(kind=kind, strength=0.9).fit(aux, Draws(("f",))), held(digits.test, 4, 1, torch.float64)
    view = seen(net_of("lenet", 1, 10).double(), batch, 10, defense)
    match = defense.match(replace(view, studied=defense.study(Images(aux.x[:8], aux.y[:8]), Draws(("s",)))))
    sent = transmitted(defense, batch, Draws(("test message",), range(4)).at(0))
    objective = Objective(view, Plan(match, matched_labels(match, view)))
    assert objective(sent.x, batch.y, Draws(("a",), range(4))).max() < 1e-6
    assert objective(batch.x, batch.y, Draws(("a",), range(4))).min() > 1e-4


def test_fields_out_of_range_are_refused() -> None:
    for wrong in ({"strength": -0.1}, {"strength": 1.1}, {"kind": "dct"}):
        with pytest.raises(ValidationError):
            Obfuscate(**wrong)
