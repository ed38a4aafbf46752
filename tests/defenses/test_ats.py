"""ATS: each operation against its definition, only listed ones used, fresh and even draws of policies and signs."""

import itertools
from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError
from scene import held, net_of, seen
from torch import Tensor

from gibench.datasets import Parts
from gibench.defenses.ats import ATS, policies_of
from gibench.draws import Draws
from gibench.engine.labels import matched_labels
from gibench.engine.objective import Objective, Plan
from gibench.learned.inverter import learn_inverters
from gibench.message import transmitted
from gibench.operations import OPERATIONS, transformed
from gibench.registry import build


@pytest.fixture(scope="module")
def x(ihc: Parts) -> Tensor:
    return ihc.test.x[:6]


def test_the_library_is_the_papers() -> None:
    assert len(OPERATIONS) == 50
    assert [OPERATIONS[i] for i in (0, 3, 7, 18, 43, 49)] == [
        "invert7",
        "translateX9",
        "translateY2",
        "contrast7",
        "translateY3",
        "autocontrast1",
    ]
    assert policies_of("21-13-3+7-4-15") == [[21, 13, 3], [7, 4, 15]]


@pytest.mark.parametrize("operation", sorted(set(OPERATIONS)))
def test_every_operation_keeps_the_shape_and_scale_zero_changes_nothing(operation: str, x: Tensor) -> None:
    for images in (x, x[:, :1]):
        before = images.clone()
        out = transformed(images, operation, -1, 1.0)
        assert out.shape == images.shape
        assert torch.equal(images, before)
        assert torch.equal(transformed(images, operation, -1, 0.0), images)
        if operation.startswith("color") and images.shape[1] == 1:
            assert torch.equal(out, images)
        elif operation not in ("color0", "solarize0"):
            assert (out - images).abs().max() > 1e-3


def test_operations_follow_their_definitions(x: Tensor) -> None:
    side = x.shape[-1]
    for s in (-1, 1):
        far = s * 150 / 331 * side
        columns = torch.arange(side)
        inside = (columns - far >= 0) & (columns - far <= side - 1)
        low, share = (columns - far).floor().long().clamp(0, side - 2), (columns - far) % 1
        moved = x[..., low] * (1 - share) + x[..., low + 1] * share
        assert torch.allclose(transformed(x, "translateX9", s, 1.0)[..., inside], moved[..., inside], atol=1e-4)
        turned = transformed(x.transpose(2, 3), "translateY9", s, 1.0).transpose(2, 3)
        assert torch.allclose(turned, transformed(x, "translateX9", s, 1.0), atol=1e-4)
        factor = 1 + s * 0.5 * 5 / 9
        assert torch.allclose(transformed(x, "brightness5", s, 1.0), (x * factor).clamp(0, 1), atol=1e-5)
        grey = x[:, :1]
        mean = grey.mean((1, 2, 3), keepdim=True)
        contrast = ((grey - mean) * (1 + s * 0.5 * 7 / 9) + mean).clamp(0, 1)
        assert torch.allclose(transformed(grey, "contrast7", s, 1.0), contrast, atol=1e-5)
    grey_half = transformed(x, "translateX9", 1, 1.0)[..., : side // 3]
    assert torch.allclose(grey_half, torch.full_like(grey_half, 0.5), atol=1e-4)
    assert torch.allclose(transformed(x, "invert7", 1, 1.0), 1 - x)
    assert torch.allclose(transformed(x, "invert7", 1, 0.5), torch.full_like(x, 0.5))
    solarized = torch.where(x * 255 < 256 * (1 - 4 / 9), x, 1 - x)
    assert torch.allclose(transformed(x, "solarize4", 1, 1.0), solarized)
    bits = 6  # round(8 - 4 * 5 / 9)
    assert len((transformed(x, "posterize5", 1, 1.0) * 255).round().unique()) <= 2**bits
    wide = transformed(x * 0.5 + 0.2, "autocontrast5", 1, 1.0)
    assert torch.allclose(wide.amin((2, 3)), torch.zeros(6, 3), atol=1e-5)
    assert torch.allclose(wide.amax((2, 3)), torch.ones(6, 3), atol=1e-5)
    even = transformed(x * 0.3, "equalize5", 1, 1.0)[:, 0].flatten(1).sort().values
    assert (even - torch.linspace(0, 1, even.shape[1])).abs().mean() < 0.05
    assert (
        transformed(x, "rotate9", 1, 1.0)[..., side // 2, side // 2].sub(x[..., side // 2, side // 2]).abs().max() < 0.3
    )
    sheared, middle = transformed(x, "shearY9", 1, 1.0), side // 2
    both = slice(middle - 1, middle + 1)  # the columns beside the axis move by 0.15 pixels
    assert (sheared[..., 1:-1, both] - x[..., 1:-1, both]).abs().mean() < 0.2 * (sheared - x).abs().mean()


def test_each_image_takes_one_listed_policy_with_signs_of_its_own(ihc: Parts) -> None:
    defense, batch = ATS(), held(ihc.test, 8, 8)
    sent = defense.images(batch, Draws(("m",), range(8)))
    taken = []
    for raw, out in zip(batch.x.flatten(0, 1), sent.x.flatten(0, 1), strict=True):
        apart = {}
        for policy, signs in itertools.product(range(2), itertools.product((-1, 1), repeat=3)):
            image = raw[None]
            for operation, s in zip(policies_of(defense.policy)[policy], signs, strict=True):
                image = transformed(image, OPERATIONS[operation], s, 1.0).clamp(0, 1)
            apart[(policy, *signs)] = float((image[0] - out).abs().max())
        best = min(apart, key=apart.__getitem__)
        assert apart[best] < 1e-4
        taken.append(best)
    assert 0.25 < sum(policy for policy, *_ in taken) / 64 < 0.75
    assert len(set(taken)) > 8
    assert torch.equal(sent.y, batch.y)
    assert torch.equal(defense.images(batch, Draws(("m",), range(8))).x, sent.x)
    assert defense.inference(batch, Draws(("m",), range(8))) is batch


def test_policies_that_do_not_exist_are_refused() -> None:
    for wrong in ("", "3-1-50", "3--1", "a-b", "3-1-7+"):
        with pytest.raises(ValidationError, match="numbers of operations"):
            ATS(policy=wrong)
    with pytest.raises(ValidationError):
        ATS(scale=1.5)


def test_the_simulation_is_exact_at_the_transformed_image(digits: Parts) -> None:
    defense, batch = ATS(), held(digits.test, 4, 1, torch.float64)
    view = seen(net_of("lenet", 1, 10).double(), batch, 10, defense)
    learned = learn_inverters(digits.aux.x[:20], lambda x, d: x, Draws(("s",)), epochs=1)
    view = replace(view, studied=learned)
    attack = build("attacks", "adaptive_matching(tv=0.01)")
    assert attack.hindrance(replace(view, aux=digits.aux)) == ""  # it has no state, but was studied
    assert "defense_params" in attack.hindrance(replace(view, aux=digits.aux, studied={}))
    match = defense.match(view)
    sent = transmitted(defense, batch, Draws(("test message",), range(4)).at(0))
    objective = Objective(view, Plan(match, matched_labels(match, view)))
    assert objective(sent.x, batch.y, Draws(("a",), range(4))).max() < 1e-6
    assert objective(batch.x, batch.y, Draws(("a",), range(4))).min() > 0.01
